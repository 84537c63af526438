"""What a sweep shows while it goes on, from the records alone."""

import contextlib
import io
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from ablations.runs.records import RunDirectory
from experiments import progress as progress_module
from experiments.planned_run import PlannedRun
from experiments.planning import plan_study
from experiments.progress import RunProgress, SweepProgress
from experiments.screen import Drawing, can_draw
from experiments.watch import RunWatch


class Clock:
    """Stands still until it is told the time, in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress_module, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


@pytest.fixture
def runs(hydra: None, results_dir) -> list[PlannedRun]:
    """Two arms, two seeds, six epochs each."""
    # Two arms of two seeds.
    return plan_study("residual", ["seed=0,1", f"results_dir={results_dir}"])[1][:4]


def test_a_line_per_finished_run_with_count_and_time_left(
    runs, write_run, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = SweepProgress(runs)
    progress._look()
    assert capsys.readouterr().out == ""

    clock.now += 60
    write_run(runs[0].configuration)
    progress._look()
    # 6 of 24 epochs in 60 s, so 18 in 180 s.
    assert capsys.readouterr().out == (
        "[1/4] residual seed 0 completed: validation top-1 50.0%, test top-1 40.0%, about 3 min 00 s left\n"
    )
    progress._look()
    assert capsys.readouterr().out == ""  # told once

    clock.now += 30
    write_run(runs[3].configuration, "diverged", epochs=1)
    write_run(runs[1].configuration, "running", epochs=3)
    progress._look()
    # A diverged run has no epochs left: 6 + 6 + 3 of 24 in 90 s, so 9 in 54 s.
    assert capsys.readouterr().out == (
        "[2/4] non_residual seed 1 diverged: the loss was not finite after step 17, about 54 s left\n"
    )

    write_run(runs[1].configuration)
    write_run(runs[2].configuration)
    progress._look()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" completed")[0] for line in lines] == [
        "[3/4] residual seed 1",
        "[4/4] non_residual seed 0",
    ]
    assert "left" not in lines[-1]


def test_what_was_done_before_is_counted_but_does_not_speed_up_the_estimate(
    runs, write_run, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(runs[0].configuration)
    write_run(runs[1].configuration, "running", epochs=4)  # interrupted
    progress = SweepProgress(runs)
    clock.now += 20
    progress._look()
    assert progress._time_left() == ""  # nothing trained yet
    write_run(runs[1].configuration)
    progress._look()
    # 2 epochs in 20 s; 12 are left.
    assert capsys.readouterr().out.endswith(", about 2 min 00 s left\n")


def test_unreadable_and_lost_runs_are_not_finished_a_failed_one_is_told_once(
    runs, write_run, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(runs[3].configuration, "failed")  # by an earlier command
    progress = SweepProgress(runs)
    write_run(runs[0].configuration, "failed")
    write_run(runs[1].configuration).record_path.write_text("{")
    write_run(runs[2].configuration).history_path.unlink()
    progress._look()
    progress._look()
    assert capsys.readouterr().out == "[0/4] residual seed 0 failed: OSError: disk full\n"


def test_the_context_looks_a_last_time_and_ends_its_thread(
    runs, write_run, capsys: pytest.CaptureFixture[str]
) -> None:
    with SweepProgress(runs) as progress:
        for run in runs:
            write_run(run.configuration)
    assert not progress._thread.is_alive()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "4 of 4 runs to be trained"
    assert [line[:5] for line in lines[1:]] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]


def test_nothing_to_do_is_nothing_to_show(runs, write_run, capsys: pytest.CaptureFixture[str]) -> None:
    for run in runs:
        write_run(run.configuration)
    with SweepProgress(runs):
        pass
    assert capsys.readouterr().out == ""


def test_above_a_table_a_line_says_no_time_left(
    runs, write_run, clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = SweepProgress(runs)
    monkeypatch.setattr(progress, "_live", object())
    clock.now += 60
    write_run(runs[0].configuration)
    progress._look()
    line = capsys.readouterr().out
    assert line == "[1/4] residual seed 0 completed: validation top-1 50.0%, test top-1 40.0%\n"


def test_a_run_alone_is_a_line_per_epoch_from_where_it_goes_on(
    runs, write_run, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    configuration = runs[0].configuration
    write_run(configuration, "running", epochs=2)  # interrupted
    with RunProgress(configuration) as progress, runs[0].directory.lock():
        progress._look()
        assert capsys.readouterr().out == ""  # of what was done before
        clock.now += 20
        write_run(configuration, "running", epochs=3)
        progress._look()
        progress._look()
        # One epoch in 20 s, 3 are left.
        assert capsys.readouterr().out == (
            "epoch 3/6, validation top-1 50.0%, 376 steps/s, about 1 min 00 s left\n"
        )
        write_run(configuration)
    assert capsys.readouterr().out == ""  # run.py says how it ended


def test_a_run_that_starts_over_has_an_estimate(runs, write_run, clock: Clock) -> None:
    write_run(runs[0].configuration, "running", epochs=4)  # on another device
    progress = RunProgress(runs[0].configuration)
    with runs[0].directory.lock():
        write_run(runs[0].configuration, "running", epochs=1)
        progress._look()
        clock.now += 10
        write_run(runs[0].configuration, "running", epochs=2)
        progress._look()
        assert progress._time_left() == "40 s"


def test_lines_are_neither_wrapped_nor_taken_for_markup(capsys: pytest.CaptureFixture[str]) -> None:
    line = f"[bold]records[/bold]: /a/[long]/{'path/' * 40}"
    SweepProgress([]).tell(line)
    assert capsys.readouterr().out == f"{line}\n"


# In a terminal


def rendered(progress: SweepProgress, width: int, height: int = 25) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    progress.console = console
    console.print(progress.view())
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_the_table_has_the_running_runs_and_how_all_stand(
    runs, write_run, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(runs[0].configuration)
    progress = SweepProgress(runs)
    write_run(runs[1].configuration, "running", epochs=2)
    write_run(runs[2].configuration, "failed")
    runs[3].directory.path.mkdir(parents=True)  # half there
    clock.now += 10
    with runs[1].directory.lock(), runs[3].directory.lock():
        progress._look()
        lines = rendered(progress, 80)
    assert lines[0].split() == ["arm", "seed", "epoch", "validation", "steps/s", "time", "left"]
    assert lines[2].split()[:6] == ["residual", "1", "2/6", "top-1", "51.0%", "376"]
    assert lines[3].split() == ["non_residual", "1", "0/6", "–", "–", "–"]
    # 2 of 18 epochs in 10 s, so 16 in 80 s.
    assert lines[4].endswith("2/18 epochs, 10 s passed, about 1 min 20 s left")
    assert lines[5:] == ["1 of 4 completed, 1 failed, 2 running"]
    assert max(map(len, lines)) <= 80


def test_rows_are_bounded_by_the_height_of_the_terminal(runs, write_run) -> None:
    progress = SweepProgress(runs)
    with ExitStack() as locks:
        for run in runs:
            locks.enter_context(run.directory.lock())
        progress._look()
        lines = rendered(progress, 80, height=11)
    assert [line.split()[0] for line in lines[2:5]] == ["residual", "residual", "non_residual"]
    assert lines[5] == "and 1 more running"
    assert lines[-1] == "0 of 4 completed, 4 running"


def test_a_run_alone_has_its_row_and_no_count_of_one(runs, write_run) -> None:
    progress = RunProgress(runs[0].configuration)
    write_run(runs[0].configuration, "running", epochs=2)
    with runs[0].directory.lock():
        progress._look()
        lines = rendered(progress, 80)
    assert lines[0].split() == ["arm", "seed", "epoch", "validation", "steps/s", "time", "left"]
    assert lines[2].split()[:6] == ["default", "0", "2/6", "top-1", "50.0%", "376"]
    assert re.fullmatch(r".* 2/6 epochs, \d+ s passed, about .* left", lines[3])
    assert len(lines) == 4


def test_epochs_of_before_a_run_started_over_do_not_count(runs, write_run) -> None:
    write_run(runs[0].configuration, "running", epochs=3, started="2999-01-01T00:00:00+00:00")
    watch = RunWatch(runs[0])
    assert (watch.epochs, watch.state().validation) == (0, None)


def test_a_look_reads_only_what_changed(runs, write_run, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(runs[0].configuration, "running", epochs=1)
    watch = RunWatch(runs[0])
    read = RunDirectory.read
    reads: list[Path] = []
    monkeypatch.setattr(RunDirectory, "read", lambda self: reads.append(self.path) or read(self))
    watch.look()
    assert reads == []
    write_run(runs[0].configuration)
    watch.look()
    assert reads == [runs[0].directory.path]
    assert watch.status == "completed"


SWEEP = """
import subprocess, sys
from types import SimpleNamespace as Namespace
from pathlib import Path
from experiments.progress import SweepProgress
from ablations.runs.records import RunDirectory
directory = RunDirectory(Path(sys.argv[1]), "0123456789ab")
run = Namespace(arm="some_arm", seed=0, epochs=6, run_id=directory.run_id, directory=directory)
with SweepProgress([run]) as progress:
    with directory.lock():
        progress._look()
        subprocess.run([sys.executable, "-c", "import os; os.write(2, b'a worker warns\\\\nand again\\\\n')"])
        print("the sweep says")
        if len(sys.argv) > 2:
            raise KeyboardInterrupt
"""


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_terminal_is_drawn_in_whatever_others_write_and_left_clean(
    tmp_path: Path, interrupted: bool
) -> None:
    arguments = [sys.executable, "-c", SWEEP, str(tmp_path), *["interrupted"] * interrupted]
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "80", "LINES": "25"}
    process = subprocess.Popen(arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while chunk := os.read(ours, 65536):
            shown += chunk
    os.close(ours)
    assert process.wait() == (-signal.SIGINT if interrupted else 0)
    text = shown.decode()
    assert "some_arm" in text  # the row
    assert re.search(r"0 of 1 completed, 1 running", text)
    for line in ("a worker warns", "and again", "the sweep says"):
        assert re.search(rf"(^|\n|\x1b\[2K){line}\r\n", text), line  # a line of its own, whole
    assert "\x1b[3" not in text  # no colour
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is there
    after = text[text.rindex("\x1b[?25h") :]
    assert "some_arm seed" not in after
    assert ("KeyboardInterrupt" in after) == interrupted  # on the terminal, not in the pipe


def test_nobody_writes_while_the_drawing_is_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    free: list[bool] = []

    def look() -> None:
        free.append(drawing.alone.acquire(blocking=False))

    def in_another_thread() -> None:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()

    with os.fdopen(theirs, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        drawing = Drawing()
    monkeypatch.undo()
    with drawing.live(SimpleNamespace(start=in_another_thread, stop=in_another_thread)):
        pass
    drawing.console.file.close()
    os.close(ours)
    assert free == [False, False]


def test_no_terminal_and_a_dumb_one_get_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert not can_draw()  # pytest's output is a file
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        monkeypatch.setenv("TERM", "xterm")
        assert can_draw()
        monkeypatch.setenv("TERM", "dumb")
        assert not can_draw()
    monkeypatch.undo()
    os.close(ours)

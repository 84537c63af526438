"""What a sweep shows while it goes on, from the records alone."""

import contextlib
import io
import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from experiments.planned_run import PlannedRun
from experiments.planning import hydra_configuration, plan_study
from experiments.progress import RunProgress, SweepProgress


class Clock:
    """Stands still until a test sets the time, in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def planned() -> list[PlannedRun]:
    """Two arms, two seeds, six epochs each."""
    with hydra_configuration():
        return plan_study("residual", ["seed=0,1"])[1][:4]


@pytest.fixture
def runs(planned, results_dir: Path) -> list[PlannedRun]:
    def at_its_place(run: PlannedRun) -> PlannedRun:
        resolved = {**run.configuration.resolved, "results_dir": str(results_dir)}
        return replace(run, configuration=replace(run.configuration, resolved=resolved))

    return [at_its_place(run) for run in planned]


def test_a_line_per_finished_run_with_count_and_time_left(
    runs, write_run, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = SweepProgress(runs, clock)
    progress.update()
    assert capsys.readouterr().out == ""

    clock.now += 60
    write_run(runs[0].configuration)
    progress.update()
    # 6 of 24 epochs in 60 s, so 18 in 180 s.
    assert capsys.readouterr().out == (
        "[1/4] residual seed 0 completed: validation top-1 50.0%, test top-1 40.0%, about 3 min 00 s left\n"
    )
    progress.update()
    assert capsys.readouterr().out == ""  # told once

    clock.now += 30
    write_run(runs[3].configuration, "diverged", epochs=1)
    write_run(runs[1].configuration, "running", epochs=3)
    progress.update()
    # A diverged run has no epochs left: 6 + 6 + 3 of 24 in 90 s, so 9 in 54 s.
    assert capsys.readouterr().out == (
        "[2/4] non_residual seed 1 diverged: the loss was not finite after step 17, about 54 s left\n"
    )

    write_run(runs[1].configuration)
    write_run(runs[2].configuration)
    progress.update()
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
    progress = SweepProgress(runs, clock)
    clock.now += 20
    progress.update()
    assert "left" not in rendered(progress, 80)[-2]  # nothing trained yet
    write_run(runs[1].configuration)
    progress.update()
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
    progress.update()
    progress.update()
    assert capsys.readouterr().out == "[0/4] residual seed 0 failed: OSError: disk full\n"


def test_the_context_updates_a_last_time_and_ends_its_thread(
    runs, write_run, capsys: pytest.CaptureFixture[str]
) -> None:
    with SweepProgress(runs):
        for run in runs:
            write_run(run.configuration)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "4 of 4 runs to be trained"
    assert [line[:5] for line in lines[1:]] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]


def test_nothing_to_do_is_nothing_to_show(runs, write_run, capsys: pytest.CaptureFixture[str]) -> None:
    for run in runs:
        write_run(run.configuration)
    with SweepProgress(runs):
        pass
    assert capsys.readouterr().out == ""


def test_a_run_alone_is_a_line_per_epoch_from_where_it_goes_on(
    runs, write_run, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    configuration = runs[0].configuration
    write_run(configuration, "running", epochs=2)  # interrupted
    with RunProgress(configuration, clock) as progress, runs[0].directory.lock():
        progress.update()
        assert capsys.readouterr().out == ""  # of what was done before
        clock.now += 20
        write_run(configuration, "running", epochs=3)
        progress.update()
        progress.update()
        # One epoch in 20 s, 3 are left.
        assert capsys.readouterr().out == (
            "epoch 3/6, validation top-1 50.0%, 376 steps/s, about 1 min 00 s left\n"
        )
        write_run(configuration)
    assert capsys.readouterr().out == ""  # run.py says how it ended


def test_a_run_that_starts_over_has_an_estimate(runs, write_run, clock: Clock) -> None:
    write_run(runs[0].configuration, "running", epochs=4)  # on another device
    progress = RunProgress(runs[0].configuration, clock)
    with runs[0].directory.lock():
        write_run(runs[0].configuration, "running", epochs=1)
        progress.update()
        clock.now += 10
        write_run(runs[0].configuration, "running", epochs=2)
        progress.update()
        assert rendered(progress, 80)[-1].endswith("about 40 s left")


def test_lines_are_neither_wrapped_nor_taken_for_markup(capsys: pytest.CaptureFixture[str]) -> None:
    line = f"[bold]records[/bold]: /a/[long]/{'path/' * 40}"
    SweepProgress([]).tell(line)
    assert capsys.readouterr().out == f"{line}\n"


# In a terminal


def rendered(progress: SweepProgress, width: int, height: int = 25) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    before, progress.console = progress.console, console
    console.print(progress.view())
    progress.console = before
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_the_table_has_the_running_runs_and_how_all_stand(
    runs, write_run, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(runs[0].configuration)
    progress = SweepProgress(runs, clock)
    write_run(runs[1].configuration, "running", epochs=2)
    write_run(runs[2].configuration, "failed")
    runs[3].directory.path.mkdir(parents=True)  # half there
    clock.now += 10
    with runs[1].directory.lock(), runs[3].directory.lock():
        progress.update()
        lines = rendered(progress, 80)
    assert lines[0].split() == ["arm", "seed", "epoch", "validation", "steps/s", "time", "left", "device"]
    assert lines[2].split()[:6] == ["residual", "1", "2/6", "top-1", "51.0%", "376"]
    assert lines[3].split() == ["non_residual", "1", "0/6", "–", "–", "–", "–"]
    # 2 of 18 epochs in 10 s, so 16 in 80 s.
    assert lines[4].endswith("2/18 epochs, 10 s passed, about 1 min 20 s left")
    assert lines[5:] == ["1 of 4 completed, 1 failed, 2 running"]
    assert max(map(len, lines)) <= 80


def test_a_row_has_the_devices_and_their_memory(runs, write_run) -> None:
    device = {"type": "cuda", "name": "Some GPU", "threads": 1, "indices": [2, 3], "peak_memory": 3 * 2**30}
    write_run(runs[0].configuration, "running", epochs=2, device=device)
    with runs[0].directory.lock():
        lines = rendered(SweepProgress(runs), 100)
    assert lines[2].endswith("cuda 2+3, 3 GiB")


def test_a_run_that_waits_for_a_device_is_told_once_and_counted(
    runs, write_run, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = {runs[1].run_id, "another sweep's"}
    progress = SweepProgress(runs, waiting=lambda: waiting, holders=lambda: ["cpu 0: process 47, run ab"])
    progress.update()
    progress.update()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{runs[1].arm} seed {runs[1].seed} is waiting")
    for told in (line, rendered(progress, 80)[-1]):
        assert "cpu 0: process 47, run ab" in told
    waiting.clear()
    progress.update()
    assert "waiting" not in "".join(rendered(progress, 80))


def test_rows_are_bounded_by_the_height_of_the_terminal(runs, write_run) -> None:
    progress = SweepProgress(runs)
    with ExitStack() as locks:
        for run in runs:
            locks.enter_context(run.directory.lock())
        progress.update()
        lines = rendered(progress, 80, height=11)
    assert [line.split()[0] for line in lines[2:5]] == ["residual", "residual", "non_residual"]
    assert lines[5] == "and 1 more running"
    assert lines[-1] == "0 of 4 completed, 4 running"


def test_a_run_alone_has_its_row_and_no_count_of_one(runs, write_run) -> None:
    progress = RunProgress(runs[0].configuration)
    write_run(runs[0].configuration, "running", epochs=2)
    with runs[0].directory.lock():
        progress.update()
        lines = rendered(progress, 80)
    assert lines[0].split() == ["arm", "seed", "epoch", "validation", "steps/s", "time", "left", "device"]
    assert lines[2].split()[:6] == ["default", "0", "2/6", "top-1", "50.0%", "376"]
    assert re.fullmatch(r".* 2/6 epochs, \d+ s passed, about .* left", lines[3])
    assert len(lines) == 4


def test_epochs_of_before_a_run_started_over_do_not_count(runs, write_run) -> None:
    write_run(runs[0].configuration, "running", epochs=3, started="2999-01-01T00:00:00+00:00")
    with runs[0].directory.lock():
        lines = rendered(SweepProgress(runs), 80)
    assert lines[2].split() == ["residual", "0", "0/6", "–", "–", "–", "–"]


PREPARE = """
import subprocess, sys
from types import SimpleNamespace as Namespace
from pathlib import Path
from experiments.progress import SweepProgress
from ablations.runs.records import RunDirectory
directory = RunDirectory(Path(sys.argv[1]), "0123456789ab")
run = Namespace(arm="some_arm", seed=0, epochs=6, run_id=directory.run_id, directory=directory)
run.configuration = Namespace(resolved={})
"""

SWEEP = """
with directory.lock(), SweepProgress([run]) as progress:
    progress.update()
    subprocess.run([sys.executable, "-c", "import os; os.write(2, b'a worker warns\\\\nand again\\\\n')"])
    print("the sweep says")
    if len(sys.argv) > 2:
        raise KeyboardInterrupt
"""


def in_a_terminal(code: str, *arguments: str) -> tuple[int, str]:
    """The exit code and what a terminal of 80 columns gets."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "80", "LINES": "25"}
    command = [sys.executable, "-c", code, *arguments]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while chunk := os.read(ours, 65536):
            shown += chunk
    os.close(ours)
    return process.wait(), shown.decode()


def test_a_terminal_is_drawn_in_whatever_others_write_and_left_clean(tmp_path: Path) -> None:
    code, text = in_a_terminal(PREPARE + SWEEP, str(tmp_path), "interrupted")
    assert code == -signal.SIGINT, text
    assert "some_arm" in text  # the row
    assert re.search(r"0 of 1 completed, 1 running", text)
    for line in ("a worker warns", "and again", "the sweep says"):
        assert re.search(rf"(^|\n|\x1b\[2K){line}\r\n", text), line  # a line of its own, whole
    assert "\x1b[3" not in text  # no colour
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is there
    after = text[text.rindex("\x1b[?25h") :]
    assert "some_arm seed" not in after
    assert "KeyboardInterrupt" in after  # on the terminal, not in the file


def test_a_dumb_terminal_gets_lines(tmp_path: Path) -> None:
    code, text = in_a_terminal(
        PREPARE.replace("import", "import os; os.environ['TERM'] = 'dumb'\nimport", 1) + SWEEP, str(tmp_path)
    )
    assert code == 0, text
    assert "\x1b" not in text
    assert "1 of 1 run to be trained\r\n" in text

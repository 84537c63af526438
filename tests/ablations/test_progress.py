"""What a sweep shows while it goes on, from the records alone."""

from types import SimpleNamespace

import pytest

from ablations import progress as progress_module
from ablations.progress import SweepProgress
from ablations.studies import PlannedRun, plan_study


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
    assert lines[0] == "4 of 4 runs are to be trained"
    assert [line[:5] for line in lines[1:]] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]


def test_nothing_to_do_is_nothing_to_show(runs, write_run, capsys: pytest.CaptureFixture[str]) -> None:
    for run in runs:
        write_run(run.configuration)
    with SweepProgress(runs):
        pass
    assert capsys.readouterr().out == ""


def test_lines_are_neither_wrapped_nor_taken_for_markup(capsys: pytest.CaptureFixture[str]) -> None:
    line = f"[bold]records[/bold]: /a/[long]/{'path/' * 40}"
    SweepProgress([]).tell(line)
    assert capsys.readouterr().out == f"{line}\n"

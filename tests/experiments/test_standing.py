"""How planned runs stand, by their records, damaged ones among them."""

import pytest

from experiments.planning import plan_study
from experiments.standing import standing


@pytest.mark.usefixtures("hydra")
def test_standing_of_every_status(results_dir, write_run) -> None:
    _, runs = plan_study("residual", [f"results_dir={results_dir}", "seed=0,1,2,3,4"])
    plan = ["completed", "diverged", "failed", "running", "interrupted", "missing", "unreadable", "lost"]
    by_plan = dict(zip(plan, runs, strict=False))
    for status in ("completed", "diverged", "failed", "running"):
        write_run(by_plan[status].configuration, status, epochs=6 if status == "completed" else 2)
    write_run(by_plan["interrupted"].configuration, "running", epochs=2)
    for what in ("unreadable", "lost"):
        write_run(by_plan[what].configuration)
    by_plan["unreadable"].directory.record_path.write_text("{")
    by_plan["lost"].directory.history_path.unlink()

    with by_plan["running"].directory.lock():
        entries, problems = standing(runs)
    assert [(entry.arm, entry.seed, entry.run_id) for entry in entries] == [
        (run.arm, run.seed, run.run_id) for run in runs
    ]
    status = {entry.run_id: entry.status for entry in entries}
    expected = {"interrupted": "missing", "unreadable": "missing", "lost": "missing"}
    for what, run in by_plan.items():
        assert status[run.run_id] == expected.get(what, what), what
    assert len(problems) == 2
    assert str(by_plan["unreadable"].directory.record_path) in " ".join(problems)
    assert str(by_plan["lost"].directory.history_path) in " ".join(problems)

    completed = next(entry for entry in entries if entry.status == "completed")
    assert completed.record is not None
    assert completed.history is not None
    assert len(completed.history) == 6
    assert completed.directory == by_plan["completed"].directory.path


@pytest.mark.usefixtures("hydra")
def test_a_damaged_history_counts_as_missing(results_dir, write_run) -> None:
    _, runs = plan_study("residual", [f"results_dir={results_dir}", "seed=0"])
    directory = write_run(runs[0].configuration)
    directory.history_path.write_text("x\n" * 7)
    (entry, _), (problem,) = standing(runs[:2])
    assert (entry.status, entry.history) == ("missing", None)
    assert str(directory.history_path) in problem


@pytest.mark.usefixtures("hydra")
def test_many_runs_share_what_they_have_in_common(results_dir, write_run) -> None:
    _, planned = plan_study("residual", [f"results_dir={results_dir}", "seed=range(5)"])
    assert planned[2].configuration.resolved["model"] is planned[3].configuration.resolved["model"]
    write_run(planned[2].configuration)
    write_run(planned[3].configuration, config=dict(planned[3].configuration.resolved) | {"logger": None})
    entries, _ = standing(planned)
    kept, own = entries[2].record, entries[3].record
    assert kept is not None
    assert own is not None
    assert kept["config"] is planned[2].configuration.resolved
    assert own["config"]["logger"] is None  # as it was run, not as it is planned

"""Table 3 from records of timings: which count, which machine's, and what claims about them become."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ablations.errors import UserError
from ablations.evidence.claims import Claim, Comparison, Direction
from ablations.evidence.timings import benchmark_study, read_timings
from ablations.evidence.verdicts import Verdict, judge_study
from ablations.frames import load_runs
from ablations.runs.identity import run_id_of
from ablations.runs.records import COMPLETED, SCHEMA, SCHEMA_VERSION, RunDirectory
from ablations.studies.schema import BENCHMARK_FILE
from ablations.tables.timings import timing_table

CONTROL, TREATMENT = "inception_v3_table3", "xception"
PARAMETERS = {CONTROL: 23_626_728, TREATMENT: 22_855_952}

DEFINED = BENCHMARK_FILE.validate_python(
    {
        "title": "Size and speed",
        "output": "table03_size_and_speed",
        "image_size": 299,
        "channels": 3,
        "num_classes": 1000,
        "networks": [
            {"model": model, "label": model, "paper": {"parameters": size, "steps_per_second": speed}}
            for (model, size), speed in zip(PARAMETERS.items(), (31, 28), strict=True)
        ],
    }
)

Write = Callable[..., list[str]]


def write_turn(
    results_dir: Path,
    model: str,
    number: int,
    speed: float,
    channels_last: bool,
    timing: dict[str, Any],
    day: int,
) -> str:
    """Write a timing; returns its run_id."""
    config = {
        "seed": number,
        "model": {"_target_": model},
        "recipe": {
            **{"epochs": 6, "batch_size": 4, "channels_last": channels_last},
            **{"precision": "32-true", "tf32": False},
        },
        "trainer": {"compile": False},
        "dataset": {"num_classes": 1000, "image_size": 299},
        "timing": timing,
    }
    directory = RunDirectory(results_dir, run_id_of(config))
    record = dict.fromkeys(SCHEMA) | {
        "schema_version": SCHEMA_VERSION,
        "run_id": directory.run_id,
        "status": COMPLETED,
        "process": {"host": timing["machine"]["host"], "pid": 1},
        "started": f"2026-11-{day:02d}T00:00:00+00:00",
        "finished": f"2026-11-{day:02d}T00:01:00+00:00",
        "choices": {"model": model},
        "seed": number,
        "config": config,
        "data_fingerprint": "none",
        "parameters": PARAMETERS[model],
        "multiply_adds": 8_000_000_000,
        "depth": 70,
        "steps": 10,
        "steps_per_second": speed,
        "wall_time_s": 36.0,
        "device": {"type": "cpu", "name": "Some CPU", "threads": 2, "processes": 1, "peak_memory": 2**30},
        "undecodable_images": 0,
        "versions": {"torch": "2.14"},
    }
    with directory.lock():
        directory.write(record)
    return directory.run_id


@pytest.fixture
def write(results_dir: Path) -> Write:
    """Writes the timings of a machine: per round the speeds of the control and of Xception."""

    def machine(speeds: Sequence[tuple[float, float]], host: str = "here", day: int = 1) -> list[str]:
        own = {"host": host, "type": "cpu", "name": "Some CPU", "threads": 2}
        timing = {
            "models": [CONTROL, TREATMENT],
            "overrides": [],
            "seconds": 5,
            "machine": own,
            "torch": "2.14",
            "table": "table03_size_and_speed",
            "source": "ours",
            "part": "training",
        }
        return [
            write_turn(results_dir, model, number, speed + 9 * (not order), order, timing, day)
            for number, pair in enumerate(speeds)
            for order in (True, False)
            for model, speed in zip((CONTROL, TREATMENT), pair, strict=True)
        ]

    return machine


def judged(results_dir: Path, metric: str, direction: Direction, margin: float) -> Verdict:
    comparison = Comparison({TREATMENT: 1.0, CONTROL: -1.0}, metric, direction, margin)
    claim = Claim("mine", "It is.", "Me", "benchmark", (comparison,))
    (verdict,) = judge_study([claim], *benchmark_study(results_dir, DEFINED, claim.arms))
    return verdict


SLOWER = [(1.0, 0.5), (1.1, 0.55), (0.9, 0.45), (1.0, 0.49), (1.2, 0.61), (1.0, 0.5)]


def test_speed_is_judged_round_by_round_as_a_share_of_the_controls(write: Write, results_dir: Path) -> None:
    write(SLOWER)
    verdict = judged(results_dir, "steps_per_second", "lower", 0.02)
    (one,) = verdict.comparisons
    assert (verdict.verdict, one.n) == ("holds", 6)
    assert one.estimate == pytest.approx((-0.5 - 0.5 - 0.5 - 0.51 + 0.61 / 1.2 - 1 - 0.5) / 6)
    assert verdict.core_hours == pytest.approx(12 * 36 * 2 / 3600)
    assert "training steps of 4 images of 299x299 pixels, 1000 classes" in verdict.scale
    assert judged(results_dir, "steps_per_second", "higher", 0.02).verdict == "contradicted"


def test_five_rounds_decide_nothing_about_speed_and_all_about_size(write: Write, results_dir: Path) -> None:
    write(SLOWER[:5])
    assert judged(results_dir, "steps_per_second", "lower", 0.02).verdict == "inconclusive"
    for direction, margin, verdict in (
        ("no_difference", 0.035, "holds"),
        ("no_difference", 0.03, "contradicted"),
        ("lower", 0.03, "holds"),
        ("higher", 0.03, "contradicted"),
    ):
        found = judged(results_dir, "parameters", direction, margin)
        assert (found.verdict, found.comparisons[0].estimate) == (verdict, pytest.approx(-0.0326, abs=1e-4))


def test_nothing_was_timed(results_dir: Path) -> None:
    assert read_timings(results_dir) == []
    assert judged(results_dir, "steps_per_second", "lower", 0.02).verdict == "inconclusive"


def test_timings_are_no_runs_of_an_arm(write: Write, results_dir: Path) -> None:
    write(SLOWER)
    with pytest.raises(UserError, match="no records"):
        load_runs(results_dir)


def test_a_round_that_was_interrupted_does_not_count(write: Write, results_dir: Path) -> None:
    last = write(SLOWER)[-1]
    (results_dir / "runs" / last / "record.json").write_text('"timing": {')
    (timings,) = read_timings(results_dir)
    assert timings.rounds == 5
    table = timing_table(timings.turns, CONTROL).set_index(["memory_order", "model"])
    assert table.loc[("contiguous", TREATMENT), ["n_completed", "n_planned"]].tolist() == [5, 6]


def test_machines_are_never_mixed(write: Write, results_dir: Path) -> None:
    write(SLOWER, "first", day=1)
    write([(1.0, 2.0)] * 6, "second", day=2)
    write([(1.0, 9.0)] * 5, "third", day=3)  # too few for a verdict, which the others have
    (timings,) = read_timings(results_dir)
    assert {record["process"]["host"] for record in timings.records.values()} == {"second"}


def test_numbers_by_hand(write: Write, results_dir: Path) -> None:
    write([(2.0, 1.0), (4.0, 3.0), (3.0, 2.4)])
    paper = {network.model: network.paper for network in DEFINED.networks}
    turns = read_timings(results_dir)[0].turns
    table = timing_table(turns, CONTROL, paper).set_index(["memory_order", "model"])
    control, treatment = table.loc["channels-last", CONTROL], table.loc["channels-last", TREATMENT]
    names = [f"steps_per_second_{part}" for part in ("median", "min", "max")]
    assert list(control[names]) == [3.0, 2.0, 4.0]
    names = [f"ratio_{part}" for part in ("median", "min", "max")]
    assert list(treatment[names]) == pytest.approx([0.75, 0.5, 0.8])
    assert control[[*names, "paper_ratio"]].isna().all()
    assert (treatment["peak_memory_bytes"], treatment["paper_steps_per_second"]) == (2**30, 28)
    assert treatment["paper_ratio"] == pytest.approx(0.90, abs=0.005)
    others = timing_table(turns.assign(parameters=7), CONTROL, paper)
    assert others[["paper_parameters", "paper_steps_per_second", "paper_ratio"]].isna().all(axis=None)

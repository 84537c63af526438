"""What a study asks, how its runs stand, and what each run counts as.

`Study`, `Arm` and `StudyRun` are filled from the configuration and the run records; statistics,
tables and figures take them as they are. `outcomes` states, once for all of these, the rule for
diverged runs: a diverged run is a result. A network of non-finite weights gives one class for
every image, so from where it diverged it counts as chance, 1 / classes. Failed, running and
missing runs are no results and are left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ablations.records import COMPLETED, DIVERGED, DONE

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Arm:
    """One variant that a study compares.

    Attributes:
        name: As in the study's file, "non_residual".
        label: As a person reads it, "without residual connections".
        choose: Option per config group, `{"residual": "false"}`.
        paper: What the paper says of this arm, one short phrase; "" where it says nothing.
    """

    name: str
    label: str
    choose: Mapping[str, str]
    paper: str


@dataclass(frozen=True)
class Study:
    """Arms, seeds and what they are measured by.

    Attributes:
        name: "residual".
        title: "Residual connections".
        output: Stem of its tables and figures, "figure09_residual".
        source: "Chollet 2016, section 4.6, figure 9".
        arms: In the order in which they are shown.
        baseline: Name of the arm that the others are compared with.
        seeds: Each arm runs once with each.
        target: Validation top-1 (fraction) for "epochs to reach".
        scale: One line that says how large the runs were: network, width, dataset, epochs.
    """

    name: str
    title: str
    output: str
    source: str
    arms: tuple[Arm, ...]
    baseline: str
    seeds: tuple[int, ...]
    target: float
    scale: str


@dataclass(frozen=True)
class StudyRun:
    """One planned run and how it stands.

    Attributes:
        arm: Name of its arm.
        seed: Its seed.
        run_id: Name of its directory.
        directory: Where its record is, or will be.
        status: completed, diverged, running, failed or missing.
        record: Content of record.json; None where there is none.
        history: metrics.csv, one row per epoch: epoch (from 1), step, train_loss, train_top1,
            val_loss, val_top1, val_top5, learning_rate, seconds; None where there is none.
    """

    arm: str
    seed: int
    run_id: str
    directory: Path
    status: str
    record: Mapping[str, Any] | None
    history: "pd.DataFrame | None"


@dataclass(frozen=True)
class Outcome:
    """What a completed or diverged run counts as.

    Attributes:
        run: The run itself.
        val_top1: Final validation top-1 (fraction).
        test_top1: Test top-1 (fraction).
        steps: Training steps done at the end of each epoch, `(E,)`.
        curve: Validation top-1 (fraction) there, `(E,)`; chance from where the run diverged.
        measured: How many epochs of `curve` were measured: E, or fewer where the run diverged.
    """

    run: StudyRun
    val_top1: float
    test_top1: float
    steps: np.ndarray
    curve: np.ndarray
    measured: int

    @property
    def diverged(self) -> bool:
        """Whether it is a diverged run, so that chance stands for what was not measured."""
        return self.run.status == DIVERGED


def baseline_first(study: Study) -> list[Arm]:
    """The study's arms, the baseline before the others, which keep their order.

    Raises:
        ValueError: No arm has the baseline's name.
    """
    if study.baseline not in [arm.name for arm in study.arms]:
        allowed = ", ".join(arm.name for arm in study.arms)
        raise ValueError(f"study {study.name}: baseline={study.baseline} is no arm; arms: {allowed}")
    return sorted(study.arms, key=lambda arm: arm.name != study.baseline)


def outcomes(study: Study, runs: Sequence[StudyRun]) -> dict[str, list[Outcome]]:
    """Completed and diverged runs of each arm, by seed, with the rule for diverged runs applied.

    A diverged run is as long as the completed runs of its arm; without one, as those of the study;
    without one, as the longest curve there is.

    Returns:
        A list per arm, baseline first; empty where an arm has no result yet.

    Raises:
        ValueError: A run of an unknown arm, two runs of one arm and seed, a completed run without a
            finite validation curve, or curves of one arm taken at different steps.
    """
    by_arm: dict[str, list[Outcome]] = {arm.name: [] for arm in baseline_first(study)}
    if unknown := {run.arm for run in runs} - set(by_arm):
        raise ValueError(f"study {study.name}: arm={min(unknown)} is unknown; arms: {', '.join(by_arm)}")
    if len({(run.arm, run.seed) for run in runs}) < len(runs):
        raise ValueError(f"study {study.name}: an arm has two runs of one seed")

    results = [run for run in sorted(runs, key=lambda run: run.seed) if run.status in DONE]
    measured = {run.run_id: _measured(run) for run in results}

    def longest(of: Sequence[StudyRun]) -> np.ndarray:
        return max((measured[run.run_id][0] for run in of), key=len, default=np.empty(0))

    completed = [run for run in results if run.status == COMPLETED]
    otherwise = longest(completed or results)
    for name, of_arm in by_arm.items():
        runs_of_arm = [run for run in results if run.arm == name]
        completed_of_arm = [run for run in runs_of_arm if run.status == COMPLETED]
        steps = longest(completed_of_arm) if completed_of_arm else otherwise
        of_arm += [_outcome(run, *measured[run.run_id], steps) for run in runs_of_arm]
    return by_arm


def _measured(run: StudyRun) -> tuple[np.ndarray, np.ndarray]:
    """Steps and validation top-1 of the epochs that were measured, each `(E,)`."""
    if run.history is None:
        steps, curve = np.empty(0), np.empty(0)
    else:
        steps = run.history["step"].to_numpy(dtype=float)
        curve = run.history["val_top1"].to_numpy(dtype=float)
    if run.status == DIVERGED:  # its last epoch may have a row without a validation
        return steps[np.isfinite(curve)], curve[np.isfinite(curve)]
    if curve.size == 0 or not np.isfinite(curve).all():
        raise ValueError(f"{run.directory}: a completed run without a finite validation curve")
    return steps, curve


def _outcome(run: StudyRun, measured_at: np.ndarray, measured: np.ndarray, steps: np.ndarray) -> Outcome:
    assert run.record is not None, "completed and diverged runs have a record"
    epochs = len(measured)
    cut_short = epochs < len(steps) and run.status == COMPLETED
    if cut_short or not np.array_equal(measured_at, steps[:epochs]):
        raise ValueError(f"{run.directory}: validated at other steps than the runs beside it")
    if run.status == COMPLETED:
        metrics = run.record["metrics"]
        val_top1, test_top1 = float(metrics["val_top1"]), float(metrics["test_top1"])
    else:
        val_top1 = test_top1 = 1.0 / run.record["config"]["dataset"]["num_classes"]
    curve = np.concatenate([measured, np.full(len(steps) - epochs, val_top1)])
    return Outcome(run, val_top1, test_top1, steps, curve, measured=epochs)

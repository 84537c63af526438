"""Seeds of each arm that failed to learn (`ablations.metrics.Metric.near_chance`), diverged or are missing,
and the notes that name them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ablations.runs.records import MISSING
from ablations.runs.schema import FAILED, RUNNING
from ablations.statistics.shares import exact_paired_p
from ablations.studies.results import Outcome, Study, StudyRun, baseline_first, pair_by_seed
from ablations.text import named_seeds


@dataclass(frozen=True)
class Failures:
    """The seeds of an arm that failed to learn.

    Attributes:
        runs: Completed and diverged runs.
        pairs: Seeds shared with the arm that it is compared with; 0 if there is none.
        only_here: Pairs in which only this arm failed.
        only_there: Pairs in which only the other arm failed.
    """

    arm: str
    label: str
    runs: int
    seeds: tuple[int, ...]
    pairs: int
    only_here: int
    only_there: int

    @property
    def share(self) -> float:
        """Of the runs; NaN without one."""
        return len(self.seeds) / self.runs if self.runs else float("nan")

    @property
    def p(self) -> float:
        """Of McNemar's exact test, two-sided, uncorrected; NaN without a pair."""
        return exact_paired_p(self.only_here, self.only_there) if self.pairs else float("nan")


def failures(study: Study, by_arm: Mapping[str, Sequence[Outcome]]) -> dict[str, Failures]:
    found = {}
    for arm in baseline_first(study):
        other = study.compared_with(arm)
        pairs = pair_by_seed(by_arm[arm.name], by_arm[other]) if other else []
        here = [(one.failed_to_learn, base.failed_to_learn) for one, base in pairs]
        seeds = tuple(one.run.seed for one in by_arm[arm.name] if one.failed_to_learn)
        found[arm.name] = Failures(
            arm.name,
            arm.label,
            len(by_arm[arm.name]),
            seeds,
            len(pairs),
            here.count((True, False)),
            here.count((False, True)),
        )
    return found


def failure_notes(study: Study, by_arm: Mapping[str, Sequence[Outcome]]) -> list[str]:
    """A note on the seeds that failed to learn, if any."""
    failed = [one for one in failures(study, by_arm).values() if one.seeds]
    if not failed:
        return []
    arms = "; ".join(
        f"{one.label}, {len(one.seeds)} of {one.runs} ({named_seeds(one.seeds)})" for one in failed
    )
    classes = {
        outcome.run.record["config"]["dataset"]["num_classes"]
        for of_arm in by_arm.values()
        for outcome in of_arm
        if outcome.run.record is not None
    }
    metric = study.deciding
    near = [metric.farthest_failed(number) for number in sorted(classes)]
    ends = " or ".join(metric.text(value) for value in near if value is not None)
    rule = f"diverged, or ended at {ends} validation {metric.label} or worse" if ends else "diverged"
    return [
        f"Failed to learn ({rule}): {arms}. Means and bands are of all seeds; verdicts are about the seeds "
        "that learned."
    ]


def diverged_notes(study: Study, by_arm: Mapping[str, Sequence[Outcome]]) -> list[str]:
    notes = []
    for arm in baseline_first(study):
        if diverged := [outcome for outcome in by_arm[arm.name] if outcome.diverged]:
            seeds = named_seeds([outcome.run.seed for outcome in diverged])
            notes.append(
                f"Diverged: {arm.label}, {seeds}; counted as chance, "
                f"{study.deciding.text(diverged[0].final[f'val_{study.metric}'])}, from there on."
            )
    return notes


def missing_notes(study: Study, runs: Sequence[StudyRun]) -> list[str]:
    """A line per arm and status of runs that are left out."""
    notes = []
    for arm in baseline_first(study):
        for status in (FAILED, RUNNING, MISSING):
            seeds = [run.seed for run in runs if run.arm == arm.name and run.status == status]
            if seeds:
                notes.append(f"Left out: {arm.label}, {named_seeds(seeds)} ({status}).")
    return notes

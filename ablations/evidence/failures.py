"""Seeds of each arm that failed to learn (`ablations.metrics.Metric.near_chance`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ablations.statistics.shares import exact_paired_p
from ablations.studies.results import Outcome, Study, baseline_first, pair_by_seed


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

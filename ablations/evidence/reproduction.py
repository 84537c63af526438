"""Whether two sets of records agree: yours and the reference, or yours and a colleague's.

docs/explanation/verdicts.md explains the rule, by the interval [low, high] of the difference of the two
estimates and the claim's margin::

    not reproduced    the interval lies outside (-margin, margin), or the claim holds in one set and is
                      contradicted in the other
    reproduced        the interval lies within (-margin, margin); or both sets reach the same decision, and
                      the interval includes zero and lies within half of the smaller effect
    too few runs      otherwise

A claim is reproduced if all its comparisons are, and is not if one is not.

Source:
    Schuirmann, "A comparison of the two one-sided tests procedure and the power approach", Journal of
    Pharmacokinetics and Biopharmaceutics 15, 1987 (agreement is an interval within a margin). Asendorpf et
    al., "Recommendations for increasing replicability in psychology", European Journal of Personality 27,
    2013.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ablations.evidence.claims import FAILED_TO_LEARN, PARAMETERS, Claim, Comparison
from ablations.evidence.contrasts import (
    ArmValues,
    ContrastValues,
    Quantity,
    arm_values,
    claims_about,
    contrast_values,
)
from ablations.evidence.verdicts import (
    ALPHA,
    CONTRADICTED,
    HOLDS,
    MIN_PAIRS,
    NOT_TESTABLE,
    Compared,
    judge_study,
)
from ablations.statistics.decisions import decision_interval, welch_interval
from ablations.statistics.paired import constant
from ablations.statistics.shares import discordant, paired_share_interval
from ablations.studies.results import Study, StudyRun, outcomes
from ablations.text import amount

REPRODUCED = "reproduced"
NOT_REPRODUCED = "not reproduced"
TOO_FEW = "too few runs to tell"
OUTCOMES = (REPRODUCED, NOT_REPRODUCED, TOO_FEW)

SHARE_OF_EFFECT = 0.5
"""Largest distance of two effects with one verdict, as a share of the smaller. Ours."""


@dataclass(frozen=True)
class Twice:
    """A comparison in two sets of records; pairs of values are per set.

    Attributes:
        estimates: Mean differences over the compared seeds; NaN without one.
        counts: Compared seeds.
        low: Lower end of the interval of one estimate minus the other; NaN if there is none.
        level: 1 - its confidence.
        left_out: Seeds in which an arm failed to learn; the estimates exclude them.
    """

    comparison: Comparison
    outcome: str
    reason: str
    verdicts: tuple[str, str]
    estimates: tuple[float, float]
    counts: tuple[int, int]
    low: float
    high: float
    level: float
    left_out: tuple[int, int]
    quantity: Quantity = field(compare=False, repr=False)
    label: str = field(compare=False, repr=False)

    @property
    def difference(self) -> float:
        return self.estimates[0] - self.estimates[1]


@dataclass(frozen=True)
class Reproduction:
    """A claim in two sets of records, with its verdict in each."""

    claim: Claim
    outcome: str
    verdicts: tuple[str, str]
    comparisons: tuple[Twice, ...]


def reproduce_study(
    claims: Sequence[Claim],
    study: Study,
    runs: Sequence[StudyRun],
    others: Sequence[StudyRun],
) -> list[Reproduction]:
    """Compare the claims of a study in two sets of records; those not testable are ignored.

    Args:
        claims: Any; those of other studies are ignored.
        study: The study.
        runs: Its runs in one set.
        others: Its runs in the other.

    Raises:
        ValueError: As `ablations.evidence.verdicts.judge_study`.
    """
    own = [claim for claim in claims_about(study, claims) if claim.comparisons]
    both = [_Judged.of(own, study, of_one) for of_one in (runs, others)]
    own = [claim for claim in own if all(judged.claims[claim.id] != NOT_TESTABLE for judged in both)]
    family = sum(len(claim.comparisons) for claim in own)
    copies = _copies(runs, others)
    found = []
    for claim in own:
        compared = []
        for index, comparison in enumerate(claim.comparisons):
            one, other = (judged.values(comparison, copies) for judged in both)
            judged_twice = [judged.compared[claim.id][index] for judged in both]
            compared.append(_twice(one, other, judged_twice, ALPHA / family, study, copied=bool(copies)))
        found.append(
            Reproduction(
                claim,
                _combined([one.outcome for one in compared]),
                (both[0].claims[claim.id], both[1].claims[claim.id]),
                tuple(compared),
            )
        )
    return found


def _combined(of_comparisons: Sequence[str]) -> str:
    for outcome in (NOT_REPRODUCED, TOO_FEW):
        if outcome in of_comparisons:
            return outcome
    return REPRODUCED


@dataclass(frozen=True)
class _Judged:
    claims: Mapping[str, str]
    compared: Mapping[str, Sequence[Compared]]
    arms: Mapping[str, ArmValues]

    @classmethod
    def of(cls, claims: Sequence[Claim], study: Study, runs: Sequence[StudyRun]) -> "_Judged":
        verdicts = judge_study(claims, study, runs)
        wanted = {comparison.metric for claim in claims for comparison in claim.comparisons}
        return cls(
            {verdict.claim.id: verdict.verdict for verdict in verdicts},
            {verdict.claim.id: verdict.comparisons for verdict in verdicts},
            arm_values(study, outcomes(study, runs), wanted),
        )

    def values(self, comparison: Comparison, copies: Mapping[str, set[int]]) -> ContrastValues:
        """One value per seed, without seeds whose runs are all copies."""
        found = contrast_values(self.arms, comparison.contrast, comparison.metric)
        copied = set.intersection(*(copies.get(arm, set()) for arm in comparison.contrast))
        kept = ~np.isin(found.seeds, list(copied))
        return ContrastValues(found.seeds[kept], found.values[kept])


def _copies(runs: Sequence[StudyRun], others: Sequence[StudyRun]) -> dict[str, set[int]]:
    """Per arm, the seeds whose two runs started and ended at the same time."""

    def when(run: StudyRun) -> tuple[object, ...] | None:
        record = run.record or {}
        if record.get("started") is None:  # numbers from elsewhere
            return None
        return tuple(record.get(key) for key in ("started", "finished", "wall_time_s"))

    there = {(run.arm, run.seed): when(run) for run in others}
    found: dict[str, set[int]] = {}
    for run in runs:
        if (own := when(run)) is not None and own == there.get((run.arm, run.seed)):
            found.setdefault(run.arm, set()).add(run.seed)
    return found


def _twice(
    one: ContrastValues,
    other: ContrastValues,
    judged: Sequence[Compared],
    level: float,
    study: Study,
    *,
    copied: bool,
) -> Twice:
    comparison, verdicts = judged[0].comparison, (judged[0].verdict, judged[1].verdict)
    common = np.intersect1d(one.seeds, other.seeds)
    own = min(len(one.seeds), len(other.seeds)) - len(common)
    by_seed = len(common) >= min(MIN_PAIRS, own + 1)
    if by_seed:
        samples = [of.values[np.isin(of.seeds, common)] for of in (one, other)]
    else:  # common seeds would make the samples dependent
        samples = [of.values[~np.isin(of.seeds, common)] for of in (one, other)]
    means = tuple(float(sample.mean()) if len(sample) else math.nan for sample in samples)
    counts = len(samples[0]), len(samples[1])
    low, high = _interval(samples, level, by_seed=by_seed)
    if comparison.metric == FAILED_TO_LEARN and min(counts):
        low, high = _of_shares(samples, level)
    enough = 1 if comparison.metric == PARAMETERS else MIN_PAIRS
    if min(counts) < enough:
        few = f"{counts[0]} and {counts[1]} seeds" if counts[0] != counts[1] else amount(counts[0], "seed")
        without = ", not counting copies" if copied else ""
        outcome, reason = TOO_FEW, f"{few} to compare{without}; at least {enough} needed"
    else:
        outcome, reason = _decide(comparison.margin, low, high, verdicts, min(map(abs, means)))
        if by_seed and np.array_equal(samples[0], samples[1]):
            reason = "identical"
    return Twice(
        comparison, outcome, reason, verdicts, (means[0], means[1]), counts, low, high, level,
        (judged[0].left_out, judged[1].left_out), judged[0].quantity, judged[0].label,
    )  # fmt: skip


def _interval(samples: Sequence[np.ndarray], level: float, *, by_seed: bool) -> tuple[float, float]:
    if by_seed:
        differences = (samples[0] - samples[1]).round(12)
        if not len(differences):
            return math.nan, math.nan
        if constant(differences):
            return float(differences[0]), float(differences[0])
        low, high = decision_interval(differences, level)
        return float(low), float(high)
    if min(map(len, samples)) < 2:
        return math.nan, math.nan
    return welch_interval(samples[0], samples[1], level)


def _of_shares(samples: Sequence[np.ndarray], level: float) -> tuple[float, float]:
    """From exact intervals: few failures give no spread."""
    (low, high), (low_other, high_other) = (
        paired_share_interval(*discordant(sample), len(sample), level / 2) for sample in samples
    )
    return low - high_other, high - low_other


def _decide(
    margin: float, low: float, high: float, verdicts: tuple[str, str], effect: float
) -> tuple[str, str]:
    """The rule of the module's docstring; `effect` is the size of the smaller effect."""
    if set(verdicts) == {HOLDS, CONTRADICTED}:
        return NOT_REPRODUCED, "one holds, the other is contradicted"
    if low > margin or high < -margin:
        return NOT_REPRODUCED, "they differ by more than the margin"
    if -margin < low and high < margin:
        return REPRODUCED, "they agree within the margin"
    decided = verdicts[0] == verdicts[1] and verdicts[0] in (HOLDS, CONTRADICTED)
    near = SHARE_OF_EFFECT * effect
    if decided and -near < low <= 0 <= high < near:
        return REPRODUCED, f"the same verdict, and less than {100 * SHARE_OF_EFFECT:g} % of the effect apart"
    return TOO_FEW, "the interval of the difference is too wide"


def count(reproductions: Sequence[Reproduction]) -> Mapping[str, int]:
    return Counter(one.outcome for one in reproductions)

"""Verdicts on claims from the records of their studies: holds, contradicted, inconclusive, not testable.

docs/explanation/verdicts.md explains the rule, by the interval [low, high] of
`ablations.statistics.decisions` and the claim's margin::

    higher          holds if low > 0 and the mean >= margin; contradicted if high < margin
    lower           the mirror image
    no_difference   holds if the interval lies within (-margin, margin); contradicted if entirely outside

and inconclusive otherwise. The mean alone fixes whether a comparison can hold or be contradicted, so a wider
interval can only make it inconclusive.

Holm's procedure corrects all comparisons of a study together. Of the hypotheses "at most 0" and "at least the
margin" at most one is true, so a comparison counts once. That the correction covers errors of direction too
is proven for independent comparisons (Shaffer, "Control of directional errors with stagewise multiple test
procedures", Annals of Statistics 8, 1980) and assumed here.

Equal differences have no t interval: the exact rank test decides, with p = 2 / 2**n. Parameters have no
error: one pair decides. Claims about `failed_to_learn` use all seeds and `ablations.statistics.shares`.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from ablations.evidence.claims import (
    FAILED_TO_LEARN,
    HIGHER,
    LOWER,
    NO_DIFFERENCE,
    PARAMETERS,
    Claim,
    Comparison,
)
from ablations.evidence.contrasts import (
    Quantity,
    arm_values,
    claims_about,
    comparison_words,
    contrast_values,
    quantity_of,
)
from ablations.runs.records import DONE
from ablations.statistics.decisions import RANK_WIDTH, deciding_level, decision_interval
from ablations.statistics.paired import constant, holm_levels, needed_pairs, smallest_sign_flip_p
from ablations.statistics.shares import discordant, paired_share_interval, paired_share_level
from ablations.studies.results import Outcome, Study, StudyRun, outcomes
from ablations.text import amount

HOLDS = "holds"
CONTRADICTED = "contradicted"
INCONCLUSIVE = "inconclusive"
NOT_TESTABLE = "not testable"
VERDICTS = (HOLDS, CONTRADICTED, INCONCLUSIVE, NOT_TESTABLE)

ALPHA = 0.05
"""The chance of any wrong decision among the comparisons of a study."""
MIN_PAIRS = 6
"""The fewest with which an exact two-sided test of pairs can fall below 0.05."""


FEW_PAIRS = 100
"""Up to these, a forecast is checked with the interval itself: of few pairs at a strict level it is wider."""


@dataclass(frozen=True)
class Compared:
    """A comparison and its result.

    Attributes:
        estimate: The mean difference, in the metric's unit; NaN without a pair.
        low: The interval's lower end; NaN without an interval.
        level: 1 - the interval's confidence, after Holm's correction.
        n: Pairs: seeds in which all arms of the contrast have a result and learned.
        p: The level above which the interval excludes zero or, for no_difference, lies within the margins.
            Uncorrected; NaN without an interval.
        needed: Seeds at which the interval is expected to decide; None if it has, or if unknown.
        reason: Why it is inconclusive, or what decided instead of the interval.
        differences: `(n,)`.
        left_out: Pairs in which an arm failed to learn.
    """

    comparison: Comparison
    verdict: str
    estimate: float
    low: float
    high: float
    level: float
    n: int
    p: float
    needed: int | None
    reason: str
    differences: np.ndarray = field(compare=False, repr=False)
    quantity: Quantity = field(compare=False, repr=False)
    label: str = field(compare=False, repr=False)
    left_out: int = 0


@dataclass(frozen=True)
class Verdict:
    """A claim and its result.

    Attributes:
        verdict: In `VERDICTS`.
        reason: Why it is inconclusive or not testable.
        comparisons: In the claim's order; empty if it is not testable.
        scale: How large the runs were; "" without a study.
        n_missing: Planned runs of its arms without a result.
        core_hours: Of the compared runs: wall time x threads x processes; None if not recorded.
        seeds_needed: Seeds in total at which a decision is expected; None if there is one, or if unknown.
        core_hours_needed: Expected cost of the seeds still to run; None as above.
    """

    claim: Claim
    verdict: str
    reason: str
    comparisons: tuple[Compared, ...]
    scale: str
    n_missing: int = 0
    n_diverged: int = 0
    n_failed_to_learn: int = 0
    core_hours: float | None = None
    seeds_needed: int | None = None
    core_hours_needed: float | None = None


def decide(direction: str, margin: float, low: float, estimate: float, high: float) -> str:
    """Apply the rule of the module's docstring.

    Args:
        direction: higher, lower or no_difference.
        margin: The smallest effect of interest.
        low: The interval's lower end, in the margin's unit.
        estimate: The mean difference.
        high: The interval's upper end.

    Returns:
        holds, contradicted or inconclusive.
    """
    if direction == NO_DIFFERENCE:
        if -margin < low and high < margin:
            return HOLDS
        return CONTRADICTED if low > margin or high < -margin else INCONCLUSIVE
    assert direction in (HIGHER, LOWER)
    if direction == LOWER:
        low, estimate, high = -high, -estimate, -low
    if _matters(estimate, margin):
        return HOLDS if low > 0 else INCONCLUSIVE
    return CONTRADICTED if high < margin else INCONCLUSIVE


def _matters(toward: float, margin: float) -> bool:
    """Whether a mean difference in the claimed direction reaches the margin."""
    # Accuracies count images, so a mean can equal the margin but for rounding.
    return toward >= margin or math.isclose(toward, margin, rel_tol=1e-9)


@dataclass(frozen=True)
class Judged:
    """Claims and their verdicts.

    Attributes:
        claims: All of them, also those not judged.
        studies: The judged studies, with their planned runs.
        suffix: Ending of file names for these studies and overrides: "" or "__study=residual".
    """

    verdicts: tuple[Verdict, ...]
    claims: tuple[Claim, ...]
    studies: tuple[tuple[Study, list[StudyRun]], ...]
    results_dir: Path
    suffix: str


def judge_study(
    claims: Sequence[Claim],
    study: Study,
    runs: Sequence[StudyRun],
    *,
    alpha: float = ALPHA,
    nominal: Callable[[float], float] | None = None,
) -> list[Verdict]:
    """Judge the claims of a study, in the order of `claims`.

    Args:
        claims: Any; those of other studies are ignored.
        study: The study.
        runs: All its planned runs, in any order, also missing ones.
        alpha: The chance of any wrong decision in the study, in (0, 1).
        nominal: Turns an overall level into the level of this look; None: there is one look.

    Raises:
        ValueError: As `ablations.studies.results.outcomes`, or a claim names an unknown arm or metric.
    """
    own = claims_about(study, claims)
    by_arm = outcomes(study, runs)
    # A tuned study may leave out arms; for any other study the claims were checked against its file.
    not_tuned = {claim.id: set(claim.arms) - set(by_arm) for claim in own} if study.tuning else {}
    tested = [claim for claim in own if not not_tuned.get(claim.id)]
    comparisons = [comparison for claim in tested for comparison in claim.comparisons]
    values = arm_values(study, by_arm, {comparison.metric for comparison in comparisons})
    found = [contrast_values(values, c.contrast, c.metric) for c in comparisons]
    judged = compare(
        comparisons, [one.values for one in found], alpha, nominal, study, [one.left_out for one in found]
    )
    compared = iter(zip(judged, (one.seeds for one in found), strict=True))
    costs = _Costs.of(by_arm, runs)
    verdicts = []
    for claim in own:
        if claim.not_testable is not None:
            verdicts.append(untestable(claim, study.scale))
            continue
        if left_out := not_tuned.get(claim.id):
            reason = f"not tuned: {', '.join(sorted(left_out))}"
            verdicts.append(untestable(claim, study.scale, reason))
            continue
        of_claim = [next(compared) for _ in claim.comparisons]
        verdicts.append(_verdict(claim, study, of_claim, costs))
    return verdicts


def untestable(claim: Claim, scale: str = "", reason: str | None = None) -> Verdict:
    """The verdict on a claim that cannot be tested; the default reason is the claim's own."""
    return Verdict(claim, NOT_TESTABLE, reason or claim.not_testable or "", (), scale)


def combine(verdicts: Sequence[str]) -> str:
    """A claim's verdict from those of its comparisons."""
    if CONTRADICTED in verdicts:
        return CONTRADICTED
    return HOLDS if set(verdicts) == {HOLDS} else INCONCLUSIVE


def compare(
    comparisons: Sequence[Comparison],
    differences: Sequence[np.ndarray],
    alpha: float = ALPHA,
    nominal: Callable[[float], float] | None = None,
    study: Study | None = None,
    left_out: Sequence[int] | None = None,
) -> list[Compared]:
    """Judge a family of comparisons by their differences.

    Args:
        comparisons: The family that Holm's procedure corrects.
        differences: Per comparison, one per pair, `(n,)`, in the metric's unit.
        alpha: As `judge_study`.
        nominal: As `judge_study`.
        study: For labels and units.
        left_out: Per comparison, pairs in which an arm failed to learn.

    Raises:
        ValueError: A difference that is not finite, or alpha out of range.
    """
    if not comparisons:
        return []
    ps = [_deciding_p(c, values) for c, values in zip(comparisons, differences, strict=True)]
    levels = holm_levels(ps, alpha, nominal or float)
    return [
        _compared(comparison, values, p, float(level), study, failed)
        for comparison, values, p, level, failed in zip(
            comparisons, differences, ps, levels, left_out or [0] * len(ps), strict=True
        )
    ]


def _deciding_p(comparison: Comparison, differences: np.ndarray) -> float:
    """The level above which the interval decides; a higher level has a narrower interval."""
    n, margin = len(differences), comparison.margin
    if _is_counted(comparison, differences):
        return 0.0
    if n < MIN_PAIRS or _says_nothing(comparison, differences):
        return 1.0
    if _has_no_interval(comparison, differences):
        return smallest_sign_flip_p(n)
    mean = float(differences.mean())
    if comparison.direction == NO_DIFFERENCE:
        if abs(mean) < margin:
            return _within_level(comparison, differences)
        return _level(comparison, differences, math.copysign(margin, mean), above=mean > 0)
    # A mean that reaches the margin can hold, if zero is excluded; any other can be contradicted.
    up = comparison.direction == HIGHER
    if _matters(mean if up else -mean, margin):
        return _level(comparison, differences, 0.0, above=up)
    return _level(comparison, differences, margin if up else -margin, above=not up)


def _level(comparison: Comparison, differences: np.ndarray, null: float, *, above: bool) -> float:
    """The level above which the interval lies entirely above or below a number."""
    if comparison.metric == FAILED_TO_LEARN:
        return paired_share_level(*discordant(differences), len(differences), null, above=above)
    return float(deciding_level(differences, null, above=above))


def _within_level(comparison: Comparison, differences: np.ndarray) -> float:
    """The level above which the interval lies within (-margin, margin)."""
    margin = comparison.margin
    return max(
        _level(comparison, differences, -margin, above=True),
        _level(comparison, differences, margin, above=False),
    )


def _interval(comparison: Comparison, differences: np.ndarray, level: float) -> tuple[float, float]:
    if _has_no_interval(comparison, differences):
        return math.nan, math.nan
    if comparison.metric == FAILED_TO_LEARN:
        return paired_share_interval(*discordant(differences), len(differences), level)
    low, high = decision_interval(differences, level)
    return float(low), float(high)


def _is_counted(comparison: Comparison, differences: np.ndarray) -> bool:
    """Parameters have no error: they are the same in every run of an arm."""
    return comparison.metric == PARAMETERS and len(differences) > 0 and constant(differences)


def _has_no_interval(comparison: Comparison, differences: np.ndarray) -> bool:
    """All differences are equal; counts of failures have an interval nevertheless."""
    return comparison.metric != FAILED_TO_LEARN and constant(differences)


def _says_nothing(comparison: Comparison, differences: np.ndarray) -> bool:
    """All differences are zero, as of runs that learned nothing."""
    return comparison.metric != FAILED_TO_LEARN and not differences.any()


def _compared(
    comparison: Comparison,
    differences: np.ndarray,
    decides: float,
    level: float,
    study: Study | None,
    left_out: int,
) -> Compared:
    quantity, label = quantity_of(comparison.metric, study), comparison_words(comparison, study)
    if not len(differences):
        nan, reason = math.nan, "no pair of results yet"
        if left_out:
            reason = f"an arm failed to learn in each of {amount(left_out, 'pair')}"
        return Compared(
            comparison, INCONCLUSIVE, nan, nan, nan, level, 0, nan, None, reason, differences, quantity,
            label, left_out,
        )  # fmt: skip
    mean, (low, high) = float(differences.mean()), _interval(comparison, differences, level)
    verdict, reason = _decided(comparison, differences, decides, level, (low, mean, high))
    if len(differences) < MIN_PAIRS and left_out:
        reason += f"; an arm failed to learn in {left_out} more"
    p = math.nan
    if not math.isnan(low) and comparison.direction == NO_DIFFERENCE:
        p = _within_level(comparison, differences)
    elif not math.isnan(low):
        p = min(_level(comparison, differences, 0.0, above=above) for above in (True, False))
    needed = _needed(comparison, differences, level, left_out) if verdict == INCONCLUSIVE else None
    return Compared(
        comparison, verdict, mean, low, high, level, len(differences), p, needed, reason, differences,
        quantity, label, left_out,
    )  # fmt: skip


def _decided(
    comparison: Comparison,
    differences: np.ndarray,
    decides: float,
    level: float,
    interval: tuple[float, float, float],
) -> tuple[str, str]:
    """The verdict, and why it is inconclusive or what decided instead of the interval."""
    n, direction, margin = len(differences), comparison.direction, comparison.margin
    low, mean, high = interval
    if _is_counted(comparison, differences):
        return decide(direction, margin, mean, mean, mean), "counted exactly"
    if n < MIN_PAIRS:
        return INCONCLUSIVE, f"{amount(n, 'pair')}; a verdict needs {MIN_PAIRS}"
    if _says_nothing(comparison, differences):
        return INCONCLUSIVE, "all differences are zero, which decides nothing"
    if _has_no_interval(comparison, differences):
        if decides > level:
            return INCONCLUSIVE, f"all differences are equal, and {n} pairs are too few for the exact test"
        return decide(direction, margin, mean, mean, mean), "all differences are equal: by the exact test"
    verdict = decide(direction, margin, low, mean, high)
    if verdict != INCONCLUSIVE:
        return verdict, ""
    if direction == NO_DIFFERENCE:
        return verdict, "the interval crosses the equivalence margin"
    if _matters(-mean if direction == LOWER else mean, margin):
        return verdict, "the estimate exceeds the margin, but its interval includes 0"
    return verdict, "the estimate is below the margin, but its interval includes the margin"


def _needed(comparison: Comparison, differences: np.ndarray, level: float, left_out: int) -> int | None:
    """Seeds at which an inconclusive comparison is expected to be decided, always more than it has.

    Mean, spread and the share of pairs that are left out stay as they are.
    """
    n = len(differences)
    if comparison.metric == FAILED_TO_LEARN or n < 2 or not differences.any():
        return None
    if constant(differences):
        pairs: int | None = math.ceil(math.log2(2 / level))
    else:
        pairs = _expected_pairs(comparison, differences, level)
    return None if pairs is None else math.ceil(max(MIN_PAIRS, n + 1, pairs) * (n + left_out) / n)


def _expected_pairs(comparison: Comparison, differences: np.ndarray, level: float) -> int | None:
    """The fewest pairs above n whose interval decides; of normal scores with mean and spread as seen."""
    margin, mean, sd = comparison.margin, float(differences.mean()), float(differences.std(ddof=1))
    toward = -mean if comparison.direction == LOWER else mean
    if comparison.direction == NO_DIFFERENCE:
        distance = abs(abs(mean) - margin)
    else:
        distance = toward if _matters(toward, margin) else margin - toward
    pairs = needed_pairs(sd * RANK_WIDTH, distance, level)
    if pairs is None:
        return None
    pairs = max(MIN_PAIRS, len(differences) + 1, pairs)
    while pairs <= FEW_PAIRS:
        scores = special.ndtri((np.arange(pairs) + 0.5) / pairs)
        low, high = decision_interval(mean + sd / scores.std(ddof=1) * scores, level)
        if decide(comparison.direction, margin, float(low), mean, float(high)) != INCONCLUSIVE:
            break
        pairs += 1
    return pairs


@dataclass(frozen=True)
class _Costs:
    """Number and core-hours of each arm's runs with a result, `(n,)`; NaN if not recorded."""

    seeds: Mapping[str, np.ndarray]
    hours: Mapping[str, np.ndarray]
    missing: Mapping[str, int]
    diverged: Mapping[str, int]
    failed_to_learn: Mapping[str, int]

    @classmethod
    def of(cls, by_arm: Mapping[str, Sequence[Outcome]], runs: Sequence[StudyRun]) -> "_Costs":
        return cls(
            seeds={arm: np.array([o.run.seed for o in of_arm], np.int64) for arm, of_arm in by_arm.items()},
            hours={
                arm: np.array([core_hours(o.run.record or {}) for o in of_arm], float)
                for arm, of_arm in by_arm.items()
            },
            missing=Counter(run.arm for run in runs if run.status not in DONE),
            diverged={arm: sum(outcome.diverged for outcome in of_arm) for arm, of_arm in by_arm.items()},
            failed_to_learn={arm: sum(o.failed_to_learn for o in of_arm) for arm, of_arm in by_arm.items()},
        )


def core_hours(record: Mapping[str, Any]) -> float:
    """Wall time x CPU threads per process x processes, in hours; NaN if not recorded."""
    device, seconds = record.get("device"), record.get("wall_time_s")
    if device is None or seconds is None:
        return math.nan
    return float(seconds * device["threads"] * device.get("processes", 1) / 3600)


def _verdict(
    claim: Claim, study: Study, found: Sequence[tuple[Compared, np.ndarray]], costs: _Costs
) -> Verdict:
    compared = tuple(one for one, _ in found)
    verdict = combine([one.verdict for one in compared])
    spent = 0.0
    for arm in claim.arms:
        seeds = [seeds for one, seeds in found if arm in one.comparison.contrast]
        spent += float(costs.hours[arm][np.isin(costs.seeds[arm], np.concatenate(seeds))].sum())
    needed = hours_needed = None
    inconclusive = [one for one in compared if one.verdict == INCONCLUSIVE]
    counts = [one.needed for one in inconclusive]
    if verdict == INCONCLUSIVE and None not in counts:
        needed = max(count for count in counts if count is not None)
        if all(len(costs.hours[arm]) for arm in claim.arms):
            hours_needed = sum(
                float(costs.hours[arm].mean()) * max(0, needed - len(costs.hours[arm])) for arm in claim.arms
            )
    return Verdict(
        claim,
        verdict,
        "; ".join(dict.fromkeys(one.reason for one in inconclusive)) if verdict == INCONCLUSIVE else "",
        compared,
        study.scale,
        n_missing=sum(costs.missing.get(arm, 0) for arm in claim.arms),
        n_diverged=sum(costs.diverged[arm] for arm in claim.arms),
        n_failed_to_learn=sum(costs.failed_to_learn[arm] for arm in claim.arms),
        core_hours=None if math.isnan(spent) else spent,
        seeds_needed=needed,
        core_hours_needed=None if hours_needed is None or math.isnan(hours_needed) else hours_needed,
    )

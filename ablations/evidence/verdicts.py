"""Whether claims hold, by the records of their studies: holds, contradicted, inconclusive, not testable.

`judge_study` takes everything from `ablations.studies.results`, compares seed by seed
(`ablations.evidence.contrasts`) and decides by the mean paired difference, the interval [low, high] of
`ablations.statistics.decisions` and the claim's margin, the smallest difference that matters::

    higher          holds where low > 0 and the mean >= margin; contradicted where high < margin
    lower           the mirror image
    no_difference   holds where the interval lies within (-margin, margin); contradicted where wholly outside

and inconclusive otherwise. So a difference that is real and too small to matter contradicts "higher". A claim
holds where all of its comparisons hold, and is contradicted where one of them is.

The rule is monotone in the level: which of the two a comparison can become follows from its mean alone, and
a wider interval (a stricter correction, the level of a look) only moves it towards inconclusive. Were it
enough to hold that an interval lies above zero and reaches the margin, a wider one would turn "contradicted"
into "holds".

Several comparisons of a study are corrected: Holm's procedure steps through the levels alpha / (m - k) of its
m comparisons, those of all its claims, from the one that is decided most clearly on; its interval has that
level's confidence. Of a pair of hypotheses "at most 0" and "at least the margin" at most one is true, so that
a comparison counts once; that Holm's correction covers errors of direction too is proven for independent
comparisons (Shaffer, "Control of directional errors with stagewise multiple test procedures", Annals of
Statistics 8, 1980) and taken for granted here.

No verdict is given with fewer than `MIN_PAIRS` pairs. Where all differences are equal there is no t interval:
then the exact rank test decides, which every value but the one seen fails with p = 2 / 2**n; where all
are zero nothing is decided. Parameters are counted without error: one pair decides.

Seeds in which an arm failed to learn are left out, so that a verdict is about the seeds that learned in all
arms; how many failed is said next to it. That can be claimed too (`failed_to_learn`): it is judged over all
seeds, by McNemar's exact test and an exact interval (`ablations.statistics.shares`).
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

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
from ablations.statistics.decisions import deciding_level, decision_interval
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
"""The chance of a wrong decision among all comparisons of a study."""
MIN_PAIRS = 6
"""The fewest with which an exact two-sided test of pairs can fall below 0.05."""


RANK_WIDTH = math.sqrt(math.pi / 3)
"""How much wider the rank interval of many normal differences is than their t interval."""


@dataclass(frozen=True)
class Compared:
    """A comparison and what the runs say of it.

    Attributes:
        comparison: What was asked.
        verdict: holds, contradicted or inconclusive.
        estimate: The mean difference, in the metric's unit; NaN without a pair.
        low: The interval's lower end; NaN where there is no interval.
        high: Its upper end.
        level: 1 - the interval's confidence, after Holm's correction.
        n: Pairs: seeds that all arms of the contrast have, and in which all learned.
        p: The level above which the interval leaves out zero; for no_difference, above which it lies within
            the margins, so that it holds where p is not above `level`. Not corrected; NaN where there is no
            interval.
        needed: Pairs at which the interval is expected to decide; None where it is decided, or where the
            runs do not say.
        reason: Why it is inconclusive, or what decided in place of the interval; "" otherwise.
        differences: One per pair, `(n,)`.
        quantity: What it is in, as a person reads it.
        label: What is compared, in the labels of the arms.
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
    """A claim and what the runs say of it.

    Attributes:
        claim: What was claimed.
        verdict: In `VERDICTS`.
        reason: Why it is inconclusive or not testable; "" otherwise.
        comparisons: In the claim's order; empty where it is not testable.
        scale: How large the runs were; "" where no study is named.
        n_missing: Planned runs of its arms without a result.
        n_diverged: Diverged runs of its arms; they failed to learn.
        n_failed_to_learn: Runs of its arms that diverged or ended near chance.
        core_hours: Of the runs that it rests on: wall time by threads by processes; None where not recorded.
        seeds_needed: Seeds in all at which it is expected to be decided; None where it is, or where the runs
            do not say.
        core_hours_needed: What the seeds still to be run would cost, as these runs did; None as above.
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
    """The rule of the module's docstring.

    Args:
        direction: higher, lower or no_difference.
        margin: The smallest difference that matters.
        low: The interval's lower end, in the margin's unit.
        estimate: What the interval is of; it lies within.
        high: Its upper end.

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
    """Whether a mean difference, taken in the claimed direction, is as large as the margin."""
    # Accuracies count images, so that a mean can be the margin itself, but for rounding.
    return toward >= margin or math.isclose(toward, margin, rel_tol=1e-9)


@dataclass(frozen=True)
class Judged:
    """Claims and what the records say of them.

    Attributes:
        verdicts: In the order of the claims.
        claims: All there are, also those that were not judged.
        studies: Those that the verdicts are about, with their planned runs.
        results_dir: Where the records are.
        suffix: What tells files about these names and overrides from others: "" or "__study=residual".
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
    """Judge the claims of a study.

    Args:
        claims: Any; those of other studies are left out.
        study: The study.
        runs: All of its planned runs, in any order, also those that have not run.
        alpha: The chance of a wrong decision among all comparisons of the study, in (0, 1).
        nominal: From an overall level to the level of this look, where the runs are looked at more than
            once; None: they are looked at once.

    Returns:
        A verdict per claim of the study, in the order of `claims`.

    Raises:
        ValueError: As `ablations.studies.results.outcomes`, or a claim names an arm or metric that the study
            has not.
    """
    own = claims_about(study, claims)
    by_arm = outcomes(study, runs)
    # Of a tuned study some arms may have been left out; of any other the claims were read against its file.
    not_tuned = {claim.id: set(claim.arms) - set(by_arm) for claim in own} if study.tuning else {}
    tested = [claim for claim in own if not not_tuned.get(claim.id)]
    comparisons = [comparison for claim in tested for comparison in claim.comparisons]
    values = arm_values(study, by_arm, {comparison.metric for comparison in comparisons})
    found = [contrast_values(values, c.contrast, c.metric) for c in comparisons]
    judged = compare(
        comparisons, [one.values for one in found], alpha, nominal, study, [one.left_out for one in found]
    )
    compared = iter(zip(judged, (one.seeds for one in found), strict=True))
    spending = _Spending.of(by_arm, runs)
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
        verdicts.append(_verdict(claim, study, of_claim, spending))
    return verdicts


def untestable(claim: Claim, scale: str = "", reason: str | None = None) -> Verdict:
    """The verdict on what cannot be tested here, for the claim's own reason where no other is given."""
    return Verdict(claim, NOT_TESTABLE, reason or claim.not_testable or "", (), scale)


def combine(verdicts: Sequence[str]) -> str:
    """A claim's verdict from those of its comparisons: all must hold, and one can contradict."""
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
    """Judge a family of comparisons by their differences alone.

    Args:
        comparisons: The family that Holm's procedure corrects.
        differences: Of each, one per pair, `(n,)`, in the metric's unit.
        alpha: As `judge_study`.
        nominal: As `judge_study`.
        study: That they are of; None: of none.
        left_out: Of each, pairs in which an arm failed to learn; None: none.

    Returns:
        One per comparison, in their order.

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
    """The level above which the interval decides.

    Intervals of a higher level lie within, and what one of them decides the narrower ones decide too.
    """
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
    # A mean that matters can hold, which takes leaving out zero; any other can be contradicted.
    up = comparison.direction == HIGHER
    if _matters(mean if up else -mean, margin):
        return _level(comparison, differences, 0.0, above=up)
    return _level(comparison, differences, margin if up else -margin, above=not up)


def _level(comparison: Comparison, differences: np.ndarray, null: float, *, above: bool) -> float:
    """The level above which the interval lies wholly above a number, or below it."""
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
    """Whether the difference has no error: parameters are the same number in every run of an arm."""
    return comparison.metric == PARAMETERS and len(differences) > 0 and constant(differences)


def _has_no_interval(comparison: Comparison, differences: np.ndarray) -> bool:
    """Whether all differences are equal, so that they have no spread; counts of failures need none."""
    return comparison.metric != FAILED_TO_LEARN and constant(differences)


def _says_nothing(comparison: Comparison, differences: np.ndarray) -> bool:
    """Whether all differences are zero, which is what runs look like that learned nothing."""
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
            reason = f"in each of {amount(left_out, 'pair')} an arm failed to learn"
        return Compared(
            comparison, INCONCLUSIVE, nan, nan, nan, level, 0, nan, None, reason, differences, quantity,
            label, left_out,
        )  # fmt: skip
    mean, (low, high) = float(differences.mean()), _interval(comparison, differences, level)
    verdict, reason = _decided(comparison, differences, decides, level, (low, mean, high))
    if len(differences) < MIN_PAIRS and left_out:
        reason += f"; in {left_out} more an arm failed to learn"
    p = math.nan
    if not math.isnan(low) and comparison.direction == NO_DIFFERENCE:
        p = _within_level(comparison, differences)
    elif not math.isnan(low):
        p = min(_level(comparison, differences, 0.0, above=above) for above in (True, False))
    needed = _needed(comparison, differences, level) if verdict == INCONCLUSIVE else None
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
    """The verdict, and why it is inconclusive or what decided in place of the interval."""
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


def _needed(comparison: Comparison, differences: np.ndarray, level: float) -> int | None:
    """Pairs at which an inconclusive comparison is expected to be decided, at least `MIN_PAIRS`."""
    if comparison.metric == FAILED_TO_LEARN or len(differences) < 2 or not differences.any():
        return None
    if constant(differences):
        return max(MIN_PAIRS, math.ceil(math.log2(2 / level)))
    margin, mean = comparison.margin, float(differences.mean())
    if comparison.direction == LOWER:
        mean = -mean
    if comparison.direction == NO_DIFFERENCE:
        distance = abs(abs(mean) - margin)  # to the nearer one
    else:
        distance = mean if _matters(mean, margin) else margin - mean
    sd = float(differences.std(ddof=1)) * RANK_WIDTH
    needed = needed_pairs(sd, distance, level)
    return None if needed is None else max(MIN_PAIRS, needed)


@dataclass(frozen=True)
class _Spending:
    """What an arm's runs cost and how many there are.

    Attributes:
        seeds: Of the runs with a result, `(n,)` per arm.
        hours: Core-hours of each, `(n,)` per arm; NaN where not recorded.
        missing: Planned runs without a result, per arm.
        diverged: Diverged runs, per arm.
        failed_to_learn: Those that diverged or ended near chance, per arm.
    """

    seeds: Mapping[str, np.ndarray]
    hours: Mapping[str, np.ndarray]
    missing: Mapping[str, int]
    diverged: Mapping[str, int]
    failed_to_learn: Mapping[str, int]

    @classmethod
    def of(cls, by_arm: Mapping[str, Sequence[Outcome]], runs: Sequence[StudyRun]) -> "_Spending":
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
    """What a run cost: its wall time by the CPU threads of a process by the processes, in hours.

    Args:
        record: Content of record.json.

    Returns:
        NaN where the record does not say.
    """
    device, seconds = record.get("device"), record.get("wall_time_s")
    if device is None or seconds is None:
        return math.nan
    return float(seconds * device["threads"] * device.get("processes", 1) / 3600)


def _verdict(
    claim: Claim, study: Study, found: Sequence[tuple[Compared, np.ndarray]], spending: _Spending
) -> Verdict:
    compared = tuple(one for one, _ in found)
    verdict = combine([one.verdict for one in compared])
    spent = 0.0
    for arm in claim.arms:
        seeds = [seeds for one, seeds in found if arm in one.comparison.contrast]
        spent += float(spending.hours[arm][np.isin(spending.seeds[arm], np.concatenate(seeds))].sum())
    needed = hours_needed = None
    inconclusive = [one for one in compared if one.verdict == INCONCLUSIVE]
    counts = [one.needed for one in inconclusive]
    if verdict == INCONCLUSIVE and None not in counts:
        needed = max(count for count in counts if count is not None)
        if all(len(spending.hours[arm]) for arm in claim.arms):
            hours_needed = sum(
                float(spending.hours[arm].mean()) * max(0, needed - len(spending.hours[arm]))
                for arm in claim.arms
            )
    return Verdict(
        claim,
        verdict,
        "; ".join(dict.fromkeys(one.reason for one in inconclusive)) if verdict == INCONCLUSIVE else "",
        compared,
        study.scale,
        n_missing=sum(spending.missing.get(arm, 0) for arm in claim.arms),
        n_diverged=sum(spending.diverged[arm] for arm in claim.arms),
        n_failed_to_learn=sum(spending.failed_to_learn[arm] for arm in claim.arms),
        core_hours=None if math.isnan(spent) else spent,
        seeds_needed=needed,
        core_hours_needed=None if hours_needed is None or math.isnan(hours_needed) else hours_needed,
    )

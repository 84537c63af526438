"""Per-seed values of a quantity and of contrasts between arms.

A quantity is one number per run::

    val_METRIC, test_METRIC   the final value of a metric of the study, in its unit; a share is a fraction
    area                      the mean height of the validation curve of its first metric
    steps_to_target           the share of the planned steps after which that curve reaches the study's target
    failed_to_learn           1 if the run diverged or ended near chance, else 0
    steps_per_second          training steps per second
    parameters                trainable parameters
    module.NAME               a function of the user's (`ablations.evidence.quantities`)

A contrast `{arm: weight}` is, seed by seed, the weighted sum over its arms; for steps per second and
parameters, the relative difference of two arms. Seeds in which an arm failed to learn count only in the last
three quantities. A run that learned but never reaches the target counts 1 in steps to target.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ablations.evidence.claims import FAILED_TO_LEARN, PARAMETERS, SHARES, STEPS_PER_SECOND, Claim, Comparison
from ablations.evidence.quantities import is_own, own_quantity
from ablations.metrics import SHARE, Metric, metric_of
from ablations.statistics.paired import area_under_curve, share_to_target, straight_lines
from ablations.studies.results import Design, Outcome, Study, chance
from ablations.text import contrast_label

AREA = "area"
STEPS_TO_TARGET = "steps_to_target"


@dataclass(frozen=True)
class Quantity:
    """What arms are compared in.

    Attributes:
        label: "test top-1".
        unit: Of a difference, "pp".
        metric: Formats its numbers.
    """

    label: str
    unit: str
    metric: Metric

    def amount(self, value: float) -> str:
        """A margin without its sign: "0.4 pp"."""
        return f"{self.metric.times * value:g} {self.unit}".strip()

    def difference(self, mean: float, low: float, high: float) -> str:
        """A difference with unit and, if there is one, interval: "+2.7 [2.0, 3.4] pp"."""
        return f"{self.metric.interval(mean, low, high, '+')} {self.unit}".strip()


def quantity_of(name: str, study: Study | None = None) -> Quantity:
    share = Metric(label="share", unit=SHARE, direction="higher", chance=0)
    if name in SHARES:
        return Quantity({PARAMETERS: "parameters"}.get(name, "steps/second"), "%", share)
    if name == FAILED_TO_LEARN:
        return Quantity("failed to learn", "pp", share)
    if name == STEPS_TO_TARGET:
        return Quantity("steps to target", "% of the steps", share)
    if name == AREA:
        metric = study.deciding if study else share
        return Quantity("area under validation curve", metric.difference_unit, metric)
    if study is not None and is_own(name):  # without a study, a column of a table
        own = own_quantity(name)
        metric = Metric(label=own.label, unit=own.unit, direction="higher", chance=0)  # the claim has its own
        return Quantity(own.label, metric.difference_unit, metric)
    part, _, metric_name = name.partition("_")
    words = {"val": "validation ", "test": "test "}
    metric = metric_of(metric_name if part in words else name, study.declared if study else {})
    return Quantity(words.get(part, "") + metric.label, metric.difference_unit, metric)


def claims_about(study: Study, claims: Iterable[Claim]) -> list[Claim]:
    """The claims about a study, with trends as weights per arm.

    A least-squares slope is a weighted sum of the values at the levels. Without a slope, the claim is not
    testable.
    """
    return [
        _with_weights(claim, study.design)
        for claim in claims
        if claim.study == study.name and (claim.tuning is None or study.tuning is not None)
    ]


def _with_weights(claim: Claim, design: Design | None) -> Claim:
    if all(comparison.trend is None for comparison in claim.comparisons):
        return claim
    if design is None:
        return replace(claim, comparisons=(), not_testable="a trend needs every arm of the study")
    if len(set(design.positions.values())) == 1:
        return replace(claim, comparisons=(), not_testable="a trend needs levels at two positions")
    return replace(claim, comparisons=tuple(_with_slope(one, design) for one in claim.comparisons))


def _with_slope(comparison: Comparison, design: Design) -> Comparison:
    if comparison.trend is None:
        return comparison
    weights: dict[str, float] = {}
    parts, levels = design.parts(), list(design.factor(design.x).levels)
    for part in parts:
        for line, weight in comparison.trend.items():
            arms = [design.arm({**part, design.x: level, design.lines: line}) for level in levels]
            # Each row has 1 at one level and 0 elsewhere, so its slope is the weight of that level.
            slopes, _ = straight_lines(np.log2([design.positions[arm] for arm in arms]), np.eye(len(arms)))
            weights |= dict(zip(arms, (weight * slopes / len(parts)).tolist(), strict=True))
    return replace(comparison, contrast=weights)


def comparison_words(comparison: Comparison, study: Study | None = None) -> str:
    """`contrast_words`, or for a trend: "ReLU − none, per doubling of channels per segment"."""
    if comparison.trend is None or study is None or study.design is None:
        return contrast_words(comparison.contrast, study)
    design = study.design
    difference = contrast_label(comparison.trend, design.factor(design.lines).levels)
    return f"{difference}, per doubling of {design.axis.partition(',')[0]}"


def short_words(comparison: Comparison, words: str) -> str:
    """A comparison for a narrow column: in names, or of three or more arms in its words if these are shorter.

    Args:
        words: Those of `comparison_words`.
    """
    names = comparison.label.replace(" - ", " − ")
    return min(names, words, key=len) if len(comparison.contrast) > 2 and comparison.trend is None else names


def contrast_words(contrast: Mapping[str, float], study: Study | None = None) -> str:
    """A contrast in labels (names without a study), "with residual connections − without residual
    connections".

    In a factorial study, e.g. "ReLU − none: all channels per segment − 1 channel per segment".
    """
    if study is None:
        return contrast_label(contrast, {})
    labels = {arm.name: arm.label for arm in study.arms}
    return _interaction_words(contrast, study.design) or contrast_label(contrast, labels)


def _interaction_words(contrast: Mapping[str, float], design: Design | None) -> str:
    """A difference of differences along two or more factors; "" for any other contrast."""
    if design is None or not contrast.keys() <= design.levels.keys():
        return ""
    levels = {arm: design.levels[arm] for arm in contrast}
    first = next(iter(contrast))
    pairs: dict[str, list[str]] = {}
    for factor in sorted(design.factors, key=lambda factor: factor.name != design.lines):
        found = list(dict.fromkeys(of_arm[factor.name] for of_arm in levels.values()))
        if len(found) > 1:
            pairs[factor.name] = [factor.levels[level] for level in found]
    if len(pairs) < 2 or any(len(pair) != 2 for pair in pairs.values()) or len(levels) != 2 ** len(pairs):
        return ""
    for arm, weight in contrast.items():
        changed = sum(levels[arm][name] != levels[first][name] for name in pairs)
        if weight != contrast[first] * (-1) ** changed or abs(weight) != 1:
            return ""
    words = list(pairs.values())
    if contrast[first] < 0:
        words[0] = words[0][::-1]
    return ": ".join(" − ".join(pair) for pair in words)


@dataclass(frozen=True)
class ArmValues:
    """An arm's quantities, one number per completed or diverged run.

    Attributes:
        seeds: `(n,)`, increasing.
        values: `(n,)` per quantity.
        failed: `(n,)`, whether it failed to learn; None: unknown.
    """

    seeds: np.ndarray
    values: Mapping[str, np.ndarray]
    failed: np.ndarray | None = None


@dataclass(frozen=True)
class ContrastValues:
    """A contrast, one number per seed that all its arms have.

    Attributes:
        seeds: `(n,)`, increasing.
        values: `(n,)`.
        left_out: Further seeds, in which an arm failed to learn.
    """

    seeds: np.ndarray
    values: np.ndarray
    left_out: int = 0


def quantities(metrics: Sequence[str]) -> list[str]:
    """What arms can be compared in."""
    final = [f"{part}_{metric}" for metric in metrics for part in ("val", "test")]
    return [*final, AREA, STEPS_TO_TARGET, FAILED_TO_LEARN, STEPS_PER_SECOND, PARAMETERS]


def arm_values(
    study: Study, by_arm: Mapping[str, Sequence[Outcome]], wanted: Iterable[str]
) -> dict[str, ArmValues]:
    """The wanted quantities of each arm.

    Raises:
        ValueError: A name that is not a quantity of the study.
    """
    wanted = sorted(set(wanted))
    allowed = quantities(study.metrics)
    if unknown := [name for name in wanted if not is_own(name) and name not in allowed]:
        raise ValueError(
            f"metric={unknown[0]}: not measured by study {study.name}; available: {', '.join(allowed)}"
        )
    return {
        arm: ArmValues(
            seeds=np.array([outcome.run.seed for outcome in of_arm], dtype=np.int64),
            values={
                name: np.array([value_of(study, outcome, name) for outcome in of_arm], dtype=float)
                for name in wanted
            },
            failed=np.array([outcome.failed_to_learn for outcome in of_arm], dtype=bool),
        )
        for arm, of_arm in by_arm.items()
    }


def contrast_values(
    arms: Mapping[str, ArmValues], contrast: Mapping[str, float], quantity: str
) -> ContrastValues:
    """The contrast, seed by seed; see the module's docstring.

    Raises:
        ValueError: An unknown arm, or none.
    """
    if unknown := [arm for arm in contrast if arm not in arms]:
        raise ValueError(f"arm={unknown[0]}: must be one of {', '.join(arms)}")
    seeds: np.ndarray | None = None
    for arm in contrast:
        own = arms[arm].seeds
        seeds = own if seeds is None else np.intersect1d(seeds, own, assume_unique=True)
    if seeds is None:
        raise ValueError("contrast={}: must name an arm")
    of_arms = {arm: arms[arm].values[quantity][np.searchsorted(arms[arm].seeds, seeds)] for arm in contrast}
    if quantity in SHARES:
        treatment, control = sorted(contrast, key=lambda arm: -contrast[arm])
        total = of_arms[treatment] / of_arms[control] - 1
    else:
        total = sum((weight * of_arms[arm] for arm, weight in contrast.items()), np.zeros(len(seeds)))
    failed = np.zeros(len(seeds), dtype=bool)
    if quantity not in (*SHARES, FAILED_TO_LEARN):
        for of_arm in (arms[arm] for arm in contrast):
            if of_arm.failed is not None:
                failed |= of_arm.failed[np.searchsorted(of_arm.seeds, seeds)]
    measured = np.isfinite(total) & ~failed
    # Equal fractions may differ by rounding, which no test should take for a spread.
    return ContrastValues(seeds[measured], total[measured].round(12), int(failed.sum()))


def value_of(study: Study, outcome: Outcome, quantity: str) -> float:
    """One number of a run; NaN if it is unknown."""
    record = outcome.run.record
    assert record is not None, "completed and diverged runs have a record"
    if quantity in SHARES:
        value = record[quantity]
        return np.nan if value is None else float(value)  # None: it diverged in its first epoch
    if quantity == FAILED_TO_LEARN:
        return float(outcome.failed_to_learn)
    if quantity == STEPS_TO_TARGET:
        if outcome.diverged:
            return 1.0
        assert study.target is not None, "the study has no target"
        sign, start = study.deciding.sign, chance(study, record, study.metric)
        return share_to_target(outcome.steps, sign * outcome.curve, sign * study.target, sign * start)
    if quantity == AREA:
        if outcome.curve.size == 0:  # every run of the study diverged in its first epoch
            return chance(study, record, study.metric)
        return area_under_curve(outcome.steps, outcome.curve)
    if is_own(quantity):
        return np.nan if outcome.failed_to_learn else float(own_quantity(quantity).of_run(outcome))
    return outcome.final[quantity]

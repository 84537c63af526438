"""What arms are compared in: per-seed values of a quantity, and of contrasts between arms.

A quantity is one number per run, a fraction::

    val_METRIC, test_METRIC   the final value of a metric of the study
    area                      the mean height of the validation curve of its first metric
    steps_to_target           the share of the planned steps after which that curve is at the study's target

"Faster" is the last two. A contrast `{arm: weight}` is, seed by seed, the weighted sum of what its arms
have, so a difference that all arms of a seed share falls out; only seeds that all of its arms have enter.

Diverged runs enter by the rule of `ablations.studies.results`: chance for accuracies, the curve with chance
for the area, and "never", 1.0, for the steps to the target, also where it was reached before. A run that
never reaches the target counts 1.0 too: the mean over seeds is the restricted mean.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ablations.statistics.paired import area_under_curve, share_to_target
from ablations.studies.results import METRICS, Outcome, Study

AREA = "area"
STEPS_TO_TARGET = "steps_to_target"


@dataclass(frozen=True)
class ArmValues:
    """An arm's quantities, one number per completed or diverged run.

    Attributes:
        seeds: `(n,)`, increasing.
        values: `(n,)` per quantity.
    """

    seeds: np.ndarray
    values: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class ContrastValues:
    """A contrast, one number per seed that all of its arms have.

    Attributes:
        seeds: `(n,)`, increasing.
        values: `(n,)`.
    """

    seeds: np.ndarray
    values: np.ndarray


def quantities(metrics: Sequence[str]) -> list[str]:
    """What the arms of a study with these metrics can be compared in."""
    final = [f"{part}_{metric}" for metric in metrics for part in ("val", "test")]
    return [*final, AREA, STEPS_TO_TARGET]


def arm_values(
    study: Study, by_arm: Mapping[str, Sequence[Outcome]], wanted: Iterable[str]
) -> dict[str, ArmValues]:
    """The quantities of each arm, each computed once per run.

    Args:
        study: The study.
        by_arm: Its `ablations.studies.results.outcomes`.
        wanted: Names in `quantities`.

    Raises:
        ValueError: A name that is no quantity of the study.
    """
    wanted = sorted(set(wanted))
    allowed = quantities(study.metrics)
    if unknown := [name for name in wanted if name not in allowed]:
        raise ValueError(f"metric={unknown[0]}: study {study.name} has {', '.join(allowed)}")
    return {
        arm: ArmValues(
            seeds=np.array([outcome.run.seed for outcome in of_arm], dtype=np.int64),
            values={
                name: np.array([_value(study, outcome, name) for outcome in of_arm], dtype=float)
                for name in wanted
            },
        )
        for arm, of_arm in by_arm.items()
    }


def contrast_values(
    arms: Mapping[str, ArmValues], contrast: Mapping[str, float], quantity: str
) -> ContrastValues:
    """The weighted sum over arms, seed by seed.

    Args:
        arms: As `arm_values`.
        contrast: A weight per arm, `{"residual": 1, "non_residual": -1}`.
        quantity: One that `arms` has.

    Raises:
        ValueError: An arm that there is not.
    """
    if unknown := [arm for arm in contrast if arm not in arms]:
        raise ValueError(f"arm={unknown[0]}: must be one of {', '.join(arms)}")
    seeds: np.ndarray | None = None
    for arm in contrast:
        own = arms[arm].seeds
        seeds = own if seeds is None else np.intersect1d(seeds, own, assume_unique=True)
    if seeds is None:
        raise ValueError("contrast={}: must name an arm")
    total = np.zeros(len(seeds))
    for arm, weight in contrast.items():
        places = np.searchsorted(arms[arm].seeds, seeds)  # both increase, as `outcomes` are by seed
        total += weight * arms[arm].values[quantity][places]
    # What is left between equal fractions is rounding, not a spread that a test should see.
    return ContrastValues(seeds, total.round(12))


def _value(study: Study, outcome: Outcome, quantity: str) -> float:
    if quantity == STEPS_TO_TARGET:
        if outcome.diverged:
            return 1.0
        assert study.target is not None, "what has no target has no claim"
        return share_to_target(outcome.steps, outcome.curve, study.target, _chance(study, outcome))
    if quantity == AREA:
        if outcome.curve.size == 0:  # it diverged in its first epoch, and so did every run of the study
            return _chance(study, outcome)
        return area_under_curve(outcome.steps, outcome.curve)
    return outcome.final[quantity]


def _chance(study: Study, outcome: Outcome) -> float:
    assert outcome.run.record is not None, "completed and diverged runs have a record"
    return METRICS[study.metric].chance(outcome.run.record["config"]["dataset"]["num_classes"])

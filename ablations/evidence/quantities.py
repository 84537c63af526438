"""Quantities of a user's for claims, `metric: module.NAME`: one number per run.

The largest fall of validation top-1, for a study whose first metric is top-1::

    @quantity(label="drop from the best to the final epoch", unit="share")
    def drop(outcome):
        return outcome.curve.max() - outcome.curve[-1]
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ablations.studies.results import Outcome
from ablations.validation import imported


@dataclass(frozen=True)
class OwnQuantity:
    """A function of a run that learned, its label, and its unit as in conf/metric."""

    of_run: Callable[[Outcome], float]
    label: str
    unit: str


def quantity(*, label: str, unit: str = "") -> Callable[[Callable[[Outcome], float]], OwnQuantity]:
    """Make a function from a run to a number a quantity; NaN leaves the run out.

    Args:
        label: Shown to readers.
        unit: share: a fraction, whose differences are shown in percentage points; or any other word.
    """
    return partial(OwnQuantity, label=label, unit=unit)


def is_own(name: str) -> bool:
    """Whether a claim's metric is `module.NAME`."""
    return "." in name


def own_quantity(name: str) -> OwnQuantity:
    """The quantity `module.NAME`.

    Raises:
        ValueError: There is none.
    """
    found = imported(name)
    if not isinstance(found, OwnQuantity):
        raise ValueError("not a quantity; put @ablations.quantity(label=..., unit=...) above the function")
    return found

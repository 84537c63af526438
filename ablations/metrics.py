"""What networks are measured by: a metric has a label, a unit, a direction, and the value of one that learned
nothing.

A file of conf/metric declares a metric, and its name is the metric's: `conf/metric/macro_f1.yaml` gives the
columns `val_macro_f1` and `test_macro_f1`. A run keeps the declarations of what it measures in its record,
below `config.metrics`, so that records can be read where conf/ is not.
"""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ablations.text import decimals, digits_for, per_cent, with_interval

LOSS = "loss"
"""Every run measures it, as `val_loss` and `test_loss`."""

SHARE = "share"
"""The unit of fractions, which a person reads in per cent; their differences are in percentage points."""

FUNCTIONS: Mapping[str, Callable[..., float]] = {"min": min, "max": max, "log": math.log, "sqrt": math.sqrt}
OPERATIONS: Mapping[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
}


def formula(text: str) -> Callable[[int], float]:
    """A number that depends on the number of classes: `1 / num_classes`, `log(num_classes)`, `0`.

    Numbers, `num_classes`, + - * /, min, max, log and sqrt. It is read, not run: a record may be anybody's.

    Raises:
        ValueError: It has something else.
    """

    def value(node: ast.AST, classes: int) -> float:
        match node:
            case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
                return number
            case ast.Name(id="num_classes"):
                return classes
            case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATIONS:
                return OPERATIONS[type(op)](value(operand, classes))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATIONS:
                return OPERATIONS[type(op)](value(left, classes), value(right, classes))
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS:
                return FUNCTIONS[name](*(value(argument, classes) for argument in args))
        raise ValueError

    def of_classes(classes: int) -> float:
        try:
            return float(value(tree, classes))
        except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
            raise ValueError(
                f"must be a finite number, or a formula of num_classes with + - * / {' '.join(FUNCTIONS)}"
            ) from error

    tree: ast.AST = ast.Pass()  # which no formula is
    with suppress(SyntaxError, RecursionError, ValueError):
        tree = ast.parse(text, mode="eval").body
    if not math.isfinite(of_classes(10)):
        raise ValueError("must be a finite number")
    return of_classes


def _checked(value: float | str | None) -> float | str | None:
    if value is not None:
        formula(str(value))
    return value


class Metric(BaseModel):
    """A file of conf/metric: what a network is measured by."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
    label: Annotated[str, Field(min_length=1)]
    """As a person reads it, e.g. macro F1."""
    unit: str = ""
    """share: a fraction, shown in per cent, with differences in percentage points. Another word, as nats,
    is shown behind the number; none where it has none."""
    direction: Literal["higher", "lower"]
    """Which of two values is the better one."""
    chance: Annotated[float | str, Field(union_mode="left_to_right"), AfterValidator(_checked)]
    """What a network has that learned nothing and gives one answer for every image: a number, or a formula of
    num_classes, e.g. 1 / num_classes. A diverged run counts as it."""
    near_chance: Annotated[
        float | str | None, Field(union_mode="left_to_right"), AfterValidator(_checked)
    ] = None
    """How far from chance a run may end, in the metric's unit, and still count as one that failed to learn: a
    number, or a formula of num_classes; null: only diverged runs do."""
    labels: Literal["single", "several"] | None = None
    """The data that it is of: single, one label an image, or several; null: either."""
    training: Annotated[bool, Field(strict=True)] = False
    """Whether it is measured of the training batches as well."""
    measured_by: dict[str, Any] | None = None
    """`_target_` and arguments of what measures it, a metric of torchmetrics or of your own with its
    `update(logits, labels)`; null for what every run measures anyway."""

    @property
    def is_share(self) -> bool:
        """Whether a person reads it in per cent."""
        return self.unit == SHARE

    @property
    def times(self) -> float:
        """What a value is multiplied by where a person reads it."""
        return 100.0 if self.is_share else 1.0

    def ends(self, times: float = 1.0) -> tuple[float, float]:
        """The lowest and the highest value that it can have, of values multiplied by a number."""
        return (0.0, times) if self.is_share else (-math.inf, math.inf)

    @property
    def shown_unit(self) -> str:
        """The unit of what a person reads: "%"; "" for none."""
        return "%" if self.is_share else self.unit

    @property
    def difference_unit(self) -> str:
        """The unit of a difference as a person reads it: "pp", percentage points, of a share."""
        return "pp" if self.is_share else self.unit

    @property
    def difference_words(self) -> str:
        """The same in words: "percentage points"."""
        return "percentage points" if self.is_share else self.unit

    def with_unit(self, label: str) -> str:
        """A heading with the unit of the values below it: "validation top-1, %"."""
        return f"{label}, {self.shown_unit}" if self.shown_unit else label

    def on_axis(self, label: str) -> str:
        """The same of an axis: "validation top-1 (%)"."""
        return f"{label} ({self.shown_unit})" if self.shown_unit else label

    def text(self, value: float) -> str:
        """A value with three digits and its unit: "80 %", "0.412 nats"."""
        if self.is_share:
            return per_cent(value)
        return f"{decimals(value, digits=digits_for(value))} {self.unit}".strip()

    def number(self, value: float, sign: str = "") -> str:
        """A value, or with sign="+" a difference, without its unit: "71.3", "+0.012"."""
        return self.interval(value, math.nan, math.nan, sign)

    def interval(self, mean: float, low: float, high: float, sign: str = "") -> str:
        """The same with an interval: "71.3 [70.9, 71.7]"."""
        mean, low, high = (self.times * value for value in (mean, low, high))
        return with_interval(mean, low, high, sign, 1 if self.is_share else digits_for(mean, low, high))

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is: times it, higher is better."""
        return 1 if self.direction == "higher" else -1

    @cached_property
    def of_nothing(self) -> Callable[[int], float]:
        """Number of classes -> the value of a network that learned nothing."""
        return formula(str(self.chance))

    def farthest_failed(self, num_classes: int) -> float | None:
        """The best value with which a run failed to learn; None: none is bad enough but that of diverging."""
        if self.near_chance is None:
            return None
        return self.of_nothing(num_classes) + self.sign * formula(str(self.near_chance))(num_classes)

    def failed_to_learn(self, value: float, num_classes: int) -> bool:
        """Whether a run that ends with this value is near chance, or worse."""
        farthest = self.farthest_failed(num_classes)
        return farthest is not None and self.sign * (value - farthest) <= 0


METRIC = TypeAdapter(Metric)

BEFORE_DECLARATIONS: Mapping[str, Metric] = {
    "top1": Metric(label="top-1", unit=SHARE, direction="higher", chance="1 / num_classes", near_chance=0.05),
    "top5": Metric(label="top-5", unit=SHARE, direction="higher", chance="min(5, num_classes) / num_classes"),
    "map100": Metric(
        label="MAP@100", unit=SHARE, direction="higher", chance=0, near_chance="24 / num_classes"
    ),
    LOSS: Metric(label="loss", unit="nats", direction="lower", chance="log(num_classes)"),
}
"""What records measured before they had declarations."""


def metric_of(name: str, declared: Mapping[str, Metric]) -> Metric:
    """The declaration of a metric; of one that nobody declared, its name and nothing else."""
    found = declared.get(name) or BEFORE_DECLARATIONS.get(name)
    return found or Metric(label=name.replace("_", " "), direction="higher", chance=0)


def declared_in(config: Mapping[str, Any]) -> dict[str, Metric]:
    """The metrics that a run's configuration declares, by name; what cannot be read is left out."""
    found, nodes = {}, config.get("metrics")
    for name, node in nodes.items() if isinstance(nodes, Mapping) else ():
        try:
            found[str(name)] = METRIC.validate_python(node)
        except ValidationError:
            continue
    return found

"""Metrics of networks: label, unit, direction, and the value at chance.

A file of conf/metric declares a metric under its own name: `conf/metric/macro_f1.yaml` gives the columns
`val_macro_f1` and `test_macro_f1`. A run's record keeps the declarations of its metrics in `config.metrics`,
so it can be read without conf/.
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
"""The unit of fractions, shown in per cent; differences are in percentage points."""

FUNCTIONS: Mapping[str, Callable[..., float]] = {"min": min, "max": max, "log": math.log, "sqrt": math.sqrt}
OPERATIONS: Mapping[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
}


def formula(text: str) -> Callable[[int], float]:
    """A function of the number of classes: `1 / num_classes`, `log(num_classes)`, `0`.

    Allowed are numbers, `num_classes`, + - * /, min, max, log and sqrt. The formula is parsed, not executed:
    a record may come from anyone.

    Raises:
        ValueError: It has anything else.
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

    tree: ast.AST = ast.Pass()  # not a formula
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
    """A file of conf/metric: one measure of a network."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
    label: Annotated[str, Field(min_length=1)]
    """Shown to readers, e.g. macro F1."""
    unit: str = ""
    """share: a fraction, shown in per cent, with differences in percentage points. Another word, such as
    nats, is shown after the number. Empty: no unit."""
    direction: Literal["higher", "lower"]
    """Which values are better."""
    chance: Annotated[float | str, Field(union_mode="left_to_right"), AfterValidator(_checked)]
    """The value of a network that learned nothing and gives one answer for every image: a number, or a
    formula of num_classes, e.g. 1 / num_classes. A diverged run counts as it."""
    near_chance: Annotated[
        float | str | None, Field(union_mode="left_to_right"), AfterValidator(_checked)
    ] = None
    """A run that ends within this distance of chance, in the metric's unit, failed to learn: a number, or a
    formula of num_classes; null: only diverged runs fail."""
    labels: Literal["single", "several"] | None = None
    """Data that it applies to: single, one label per image, or several; null: either."""
    training: Annotated[bool, Field(strict=True)] = False
    """Whether to measure the training batches as well."""
    measured_by: dict[str, Any] | None = None
    """`_target_` and arguments of a metric of torchmetrics, or of your own torchmetrics.Metric;
    null: every run measures it anyway."""

    @property
    def is_share(self) -> bool:
        return self.unit == SHARE

    @property
    def times(self) -> float:
        """Factor from a value to the shown one."""
        return 100.0 if self.is_share else 1.0

    def ends(self, times: float = 1.0) -> tuple[float, float]:
        """The lowest and highest possible value, multiplied by a number."""
        return (0.0, times) if self.is_share else (-math.inf, math.inf)

    @property
    def shown_unit(self) -> str:
        """The unit of shown values: "%"; "" for none."""
        return "%" if self.is_share else self.unit

    @property
    def difference_unit(self) -> str:
        """The unit of shown differences: "pp", percentage points, for a share."""
        return "pp" if self.is_share else self.unit

    @property
    def difference_words(self) -> str:
        """The same in words: "percentage points"."""
        return "percentage points" if self.is_share else self.unit

    def with_unit(self, label: str) -> str:
        """A heading with the unit: "validation top-1, %"."""
        return f"{label}, {self.shown_unit}" if self.shown_unit else label

    def on_axis(self, label: str) -> str:
        """An axis' label with the unit: "validation top-1 (%)"."""
        return f"{label} ({self.shown_unit})" if self.shown_unit else label

    def text(self, value: float) -> str:
        """A value with three digits and its unit: "80 %", "0.412 nats"."""
        if self.is_share:
            return per_cent(value)
        return f"{decimals(value, digits=digits_for(value))} {self.unit}".strip()

    def number(self, value: float, sign: str = "") -> str:
        """A value or, with sign="+", a difference, without its unit: "71.3", "+0.012"."""
        return self.interval(value, math.nan, math.nan, sign)

    def interval(self, mean: float, low: float, high: float, sign: str = "") -> str:
        """With an interval: "71.3 [70.9, 71.7]"."""
        mean, low, high = (self.times * value for value in (mean, low, high))
        return with_interval(mean, low, high, sign, 1 if self.is_share else digits_for(mean, low, high))

    @property
    def sign(self) -> int:
        """1 if higher is better, -1 if lower is."""
        return 1 if self.direction == "higher" else -1

    @cached_property
    def of_nothing(self) -> Callable[[int], float]:
        """Number of classes -> the value at chance."""
        return formula(str(self.chance))

    def farthest_failed(self, num_classes: int) -> float | None:
        """The best value with which a run failed to learn; None: only diverged runs failed."""
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
"""Metrics of records without declarations."""


def metric_of(name: str, declared: Mapping[str, Metric]) -> Metric:
    """The declaration of a metric; of an undeclared one, its name."""
    found = declared.get(name) or BEFORE_DECLARATIONS.get(name)
    return found or Metric(label=name.replace("_", " "), direction="higher", chance=0)


def declared_in(config: Mapping[str, Any]) -> dict[str, Metric]:
    """The valid metrics that a run's configuration declares, by name."""
    found, nodes = {}, config.get("metrics")
    for name, node in nodes.items() if isinstance(nodes, Mapping) else ():
        try:
            found[str(name)] = METRIC.validate_python(node)
        except ValidationError:
            continue
    return found

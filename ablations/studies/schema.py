"""The schemas of what users write: `conf/study`, `conf/tuning` and `conf/benchmark.yaml`.

Errors, the reference page and editor completion come from these models. Planning checks whether a project has
the options that they name.
"""

import math
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import product
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from ablations.metrics import metric_of
from ablations.studies.results import Arm, MetricName, Number, PaperRow, StudyFigure, Text
from ablations.text import listed
from ablations.validation import WRITTEN

AS_BASELINE = "baseline"
"""An arm's match_parameters: those of the arm it is compared with."""

MOST_ARMS = 10_000
"""Of one study."""

MOST_TRIALS = 10_000
"""Of an arm; drawing takes longer with each."""

Item = TypeVar("Item", bound=Hashable)


def _different(items: tuple[Item, ...]) -> tuple[Item, ...]:
    if len(set(items)) < len(items):
        raise ValueError("must be different")
    return items


FILE_NAME = r"^\w[\w.-]{0,99}$"
FileName = Annotated[str, Field(pattern=FILE_NAME)]
Integer = Annotated[int, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=0)]
INTEGER_OR_INTERPOLATION = {
    "anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": r"^\$\{"}]
}
"""In a file, a number may be another key's, `${tuning.trials}`."""
Seeds = Annotated[tuple[Count, ...], Field(min_length=1), AfterValidator(_different)]


class Written(BaseModel):
    model_config = WRITTEN


class Level(Written):
    """A level of a factor."""

    label: str
    """Shown to readers."""
    choose: dict[str, Any]
    """Option per config group and value per other key."""
    tick: str | None = None
    """Tick label; the position if left out."""


class FactorLevels(Written):
    """A factor of a factorial study."""

    label: str
    """Shown to readers."""
    levels: Annotated[dict[str, Level], Field(min_length=2)]
    """Two or more, by name."""


class DesignAxes(Written):
    """How a factorial study is drawn."""

    x: str
    """The factor on the horizontal axis."""
    lines: str
    """The factor with one line per level; every further factor divides the arms into sets."""
    axis: str
    """Label of the axis, with its unit."""
    position: dict[str, Any]
    """`_target_` and `_partial_` of a function from an arm's configuration to its position, above 0."""
    paper: Annotated[Number, Field(gt=0)] | None = None
    """Position of the paper's own setting, to which effects are extrapolated."""


class StudyFiles(BaseModel):
    """The part of a study's file that a list of studies reads."""

    model_config = ConfigDict(use_attribute_docstrings=True)
    output: FileName
    """Stem of its files in results/tables and results/figures; unique."""
    only_by_name: Annotated[bool, Field(strict=True)] = False
    """Whether commands on all studies leave it out."""


class StudyFile(StudyFiles):
    """A study: arms, or factors whose combinations are the arms, and metrics."""

    model_config = WRITTEN
    name: Text
    """The file's name without .yaml."""
    title: Text
    """Heading of its table and figure."""
    source: str = ""
    """Its place in the paper, or who asks the question."""
    base: dict[str, Any]
    """Common to all arms: option per config group and value per other key. The command line overrides it."""
    arms: tuple[Arm, ...] = ()
    """The arms to compare; left out if factors are given."""
    factors: Annotated[dict[str, FactorLevels], Field(min_length=2)] | None = None
    """Two or more, by name, instead of arms. Every combination of levels is an arm; names are joined by an
    underscore, labels by a comma."""
    design: DesignAxes | None = None
    """How a factorial study is drawn."""
    paper: dict[str, str] = {}
    """What the paper says of the arms of a factorial study, by name."""
    baseline: str
    """Name of the arm that the others are compared with, seed by seed."""
    seeds: Seeds
    """Every arm runs once with each; a verdict needs at least six."""
    metrics: Annotated[tuple[MetricName, ...], Field(min_length=1), AfterValidator(_different)]
    """Metrics to measure. Curves, differences and the target are about the first."""
    target: Number
    """Validation value of the first metric, for the steps to reach it; a fraction in (0, 1) for a share."""
    figures: tuple[StudyFigure, ...] = ()
    """Figures, each of some arms; without one that has no `draw`, also one of all arms."""
    paper_only: tuple[PaperRow, ...] = ()
    """Rows of the paper's table that are not trained."""
    notes: tuple[str, ...] = ()
    """Notes below the table, a sentence or two each."""

    @model_validator(mode="after")
    def _has_a_target_to_reach(self, info: ValidationInfo) -> Self:
        if metric_of(self.metrics[0], (info.context or {}).get("declared", {})).is_share:
            if self.target <= 0:
                raise ValueError(f"target={self.target:g}: must be greater than 0")
            if self.target >= 1:
                raise ValueError(f"target={self.target:g}: must be less than 1")
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.factors is not None:
            self.arms = tuple(_combinations(self, self.factors))
        elif not self.arms:
            raise ValueError("arms: missing; list the arms, or set factors")
        elif self.design is not None or self.paper:
            key = "design" if self.design is not None else "paper"
            raise ValueError(f"{key}: needs factors; leave it out of a study that lists its arms")
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError(f"arms: names={names}: must be different")
        if self.baseline not in names:
            raise ValueError(f"baseline={self.baseline}: must be one of {listed(names)}")
        for index, arm in enumerate(self.arms):
            self._check_arm(f"arms.{index}", arm)
        for index, figure in enumerate(self.figures):
            self._check_figure(f"figures.{index}", figure, names)
        return self

    def _check_figure(self, key: str, figure: StudyFigure, arms: Sequence[str]) -> None:
        if unknown := [arm for arm in figure.arms if arm not in arms]:
            raise ValueError(f"{key}.arms: {unknown[0]}: must be one of {listed(arms)}")
        if (baseline := figure.baseline or self.baseline) not in (figure.arms or arms):
            raise ValueError(f"{key}.baseline={baseline}: must be one of its arms")
        if re.fullmatch(FILE_NAME, figure.output) is None:
            raise ValueError(f"{key}.output={figure.output}: must match pattern '{FILE_NAME}'")
        outputs = [self.output, *(other.output for other in self.figures)]
        if figure.draw is not None and outputs.count(figure.output) > 1:
            raise ValueError(f"{key}.output={figure.output}: must differ from the study's other outputs")

    def _check_arm(self, key: str, arm: Arm) -> None:
        others = [other for other in self.arms if other.name != arm.name]
        if arm.baseline is not None and arm.baseline not in [other.name for other in others]:
            raise ValueError(f"{key}.baseline={arm.baseline}: must be another arm")
        if "seed" in arm.choose:
            raise ValueError(f"{key}.choose.seed: leave it out; seeds sets the seeds of all arms")
        matched = [one.name for one in self.arms if one.choose.get("match_parameters") == AS_BASELINE]
        if arm.name in matched and (arm.baseline or self.baseline) in matched:
            raise ValueError(
                f"{key}.choose.match_parameters={AS_BASELINE}: must be a number, because the arm that it is "
                "compared with is matched as well"
            )


def _combinations(study: StudyFile, factors: Mapping[str, FactorLevels]) -> Iterator[Arm]:
    """The arms of a factorial study.

    In another set than the baseline's, arms are compared with the arm that has the baseline's levels on the
    axis and as line; that arm is compared with the baseline.
    """
    if study.arms:
        raise ValueError("arms, factors: set only one; factors define the arms")
    if study.design is None:
        raise ValueError("design: missing; give x, lines, axis and position")
    axes = (study.design.x, study.design.lines)
    if len(set(axes)) < 2 or not set(axes) <= set(factors):
        raise ValueError(
            f"design: x={axes[0]}, lines={axes[1]}: must be two of the factors {', '.join(factors)}"
        )
    chosen_by: dict[str, str] = {}
    for name, factor in factors.items():
        for key in {key for level in factor.levels.values() for key in level.choose}:
            if chosen_by.setdefault(key, name) != name:
                raise ValueError(f"factors: {chosen_by[key]} and {name} both choose {key}; only one may")
    if (number := math.prod(len(factor.levels) for factor in factors.values())) > MOST_ARMS:
        raise ValueError(f"factors: {number} combinations; a study has at most {MOST_ARMS} arms")
    levels_of = {
        "_".join(levels): dict(zip(factors, levels, strict=True))
        for levels in product(*(factor.levels for factor in factors.values()))
    }
    if study.baseline not in levels_of:
        raise ValueError(f"baseline={study.baseline}: must be one of {listed(list(levels_of))}")
    if unknown := sorted(set(study.paper) - set(levels_of)):
        raise ValueError(f"paper.{unknown[0]}: must be one of {listed(list(levels_of))}")
    for name, levels in levels_of.items():
        given = [factors[factor].levels[level] for factor, level in levels.items()]
        reference = "_".join((levels | {axis: levels_of[study.baseline][axis] for axis in axes}).values())
        yield Arm(
            name=name,
            label=", ".join(level.label for level in given),
            choose={key: value for level in given for key, value in level.choose.items()},
            paper=study.paper.get(name, ""),
            baseline=None if reference in (name, study.baseline) else reference,
        )


class Parameter(Written):
    """A tuned setting."""

    key: str
    """The key that it sets, e.g. recipe.optimizer.lr; not seed, epochs or batch size."""
    distribution: dict[str, Any]
    """A class of optuna.distributions and its arguments; the configured value must lie within."""


class Sampler(BaseModel):
    """The sampler of trials: a class of optuna.samplers and its arguments."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)
    target: str = Field(alias="_target_")
    """A class of optuna.samplers."""
    seed: Annotated[Count, Field(le=2**31)]
    """Integer from 0. Trial k, from 0, is drawn with the seed plus k."""

    @model_validator(mode="after")
    def _keeps_no_pickle(self) -> Self:
        if "CmaEsSampler" in str(self):
            raise ValueError(
                "CmaEsSampler: stores a pickle, which could run code; use TPESampler or GPSampler"
            )
        return self


class TuningFile(Written):
    """The same search for every arm of a study, to compare the arms at their best."""

    arms: Annotated[tuple[str, ...], AfterValidator(_different)] | None
    """Names of the arms to tune, with the study's baseline; null: all."""
    trials: Annotated[Integer, Field(ge=2, le=MOST_TRIALS)]
    """Trials per arm. The first is the configured settings."""
    batch: Annotated[Integer, Field(ge=1), WithJsonSchema(INTEGER_OR_INTERPOLATION)]
    """Trials per arm that are drawn and launched together."""
    seeds: Seeds
    """Seeds of each trial; its value is the mean."""
    fresh_seeds: Seeds
    """Seeds of the runs at the best settings; no trial may use them."""
    space: Annotated[dict[str, Parameter], Field(min_length=1)]
    """Tuned settings, each by a name of your choice."""
    sampler: Sampler
    """Draws the trials."""


class SizeAndSpeed(Written):
    """The paper's values of a network, as printed."""

    parameters: Count
    """Trainable parameters. Of a network with another number nothing is shown."""
    steps_per_second: Annotated[Number, Field(gt=0)]
    """Training steps per second."""


class TimedNetwork(Written):
    """A network whose size and speed are measured."""

    model: Text
    """An option of conf/model."""
    label: Text
    """Shown to readers."""
    paper: SizeAndSpeed | None = None
    """What the paper has; left out: nothing."""


class BenchmarkFile(Written):
    """Networks whose size and speed `python -m ablations benchmark` measures."""

    title: Text
    """Heading of the table."""
    source: str = ""
    """Its place in the paper."""
    output: FileName
    """Stem of the table's files."""
    image_size: Annotated[Integer, Field(ge=1)]
    """Height and width of the images, in pixels."""
    channels: Annotated[Integer, Field(ge=1)]
    """Of the images: 3 for colour."""
    num_classes: Annotated[Integer, Field(ge=1)]
    """Outputs of the networks."""
    batch_size: Annotated[Integer, Field(ge=1)] | None = None
    """Images per step; null: 4 on a CPU, 32 on a GPU."""
    networks: Annotated[tuple[TimedNetwork, ...], Field(min_length=1)]
    """In the order of the table; ratios are to the first."""
    notes: tuple[str, ...] = ()
    """Sentences below the table."""
    equals: dict[str, dict[str, dict[str, Any]]] = Field(default_factory=dict)
    """For against=: per library and option of conf/model, a class or function that makes the same network,
    and its arguments; num_classes is added."""

    @property
    def labels(self) -> dict[str, str]:
        """Label per model."""
        return {network.model: network.label for network in self.networks}


STUDY = TypeAdapter(StudyFile)
STUDY_FILES = TypeAdapter(StudyFiles)
TUNING = TypeAdapter(TuningFile)
BENCHMARK_FILE = TypeAdapter(BenchmarkFile)

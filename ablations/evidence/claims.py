"""Claims as data: what the paper, or a user, says that a study shows.

A claim of conf/claims is a list of comparisons, all of which must hold: a contrast between arms of one study,
a quantity (`ablations.evidence.contrasts`), a direction and a margin.

`study: benchmark` is conf/benchmark.yaml. Its arms are options of conf/model, and its runs are
timings (`ablations.evidence.timings`).
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    model_validator,
)
from pydantic.dataclasses import dataclass as written

from ablations.errors import UserError
from ablations.evidence.quantities import is_own, own_quantity
from ablations.studies.results import CONFIGURED, Number
from ablations.validation import WRITTEN, validated
from ablations.yaml_files import read_yaml

HIGHER: Final = "higher"
LOWER: Final = "lower"
NO_DIFFERENCE: Final = "no_difference"
Direction = Literal["higher", "lower", "no_difference"]

BENCHMARK = "benchmark"
"""In claims, the study of size and speed."""
PARAMETERS = "parameters"
STEPS_PER_SECOND = "steps_per_second"
SHARES = (PARAMETERS, STEPS_PER_SECOND)
"""Quantities whose difference is a share of the control's, between two arms."""
FAILED_TO_LEARN = "failed_to_learn"
"""The share of seeds that failed to learn, between two arms."""

FIRST_FILE = "paper"
"""Its claims come before those of other files."""

LARGEST_WEIGHT = 1000
"""Of an arm in a contrast; more is a typing error."""

Sentence = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1),
    AfterValidator(lambda text: " ".join(text.split())),
]
Weight = Annotated[Number, Field(ge=-LARGEST_WEIGHT, le=LARGEST_WEIGHT)]
PAIR = ("treatment", "control")
TREND = "trend"


def _allow_pair(schema: dict[str, Any]) -> None:
    """Describe treatment and control, which `Comparison` accepts instead of a contrast."""
    said = (
        "Name of the arm that the claim is about.",
        "Name of the arm that it is compared with.",
    )
    pair = {key: {"type": "string", "description": text} for key, text in zip(PAIR, said, strict=True)}
    schema["properties"] = pair | schema["properties"]
    schema["required"].remove("contrast")


@written(frozen=True, config=WRITTEN | ConfigDict(json_schema_extra=_allow_pair))
class Comparison:
    """A condition that a claim needs to hold."""

    contrast: Mapping[str, Weight]
    """Instead of treatment and control, a weight per arm; they sum to 0, e.g. {a: 1, b: -0.5, c: -0.5}."""
    metric: str
    """val_METRIC or test_METRIC: final values. area: mean height of the validation curve. steps_to_target:
    share of the planned steps until the study's target. These are about seeds that learned in all arms.
    failed_to_learn: the share of seeds that did not. parameters, steps_per_second: as shares of the
    control's, the only ones of study=benchmark. module.NAME: a quantity of yours, a function of a run that
    learned."""
    direction: Direction
    """What treatment minus control, or the contrast, is claimed to be."""
    margin: Annotated[Number, Field(ge=0)]
    """The smallest effect of interest, in the metric's unit; for a share, 0.01 is one point. Above 0 for
    no_difference. For a trend: per doubling."""
    trend: Mapping[str, Weight] | None = None
    """Instead of treatment, control and contrast, in a factorial study: a weight per level of design.lines;
    they sum to 0, e.g. {with: 1, without: -1}. Compared is the slope of that difference: its least-squares
    change per doubling of the position on the axis, over the seeds that learned at every level, averaged
    over the sets of arms that further factors make."""

    @model_validator(mode="before")
    @classmethod
    def _of_a_pair(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        if given.get(TREND) is not None:
            if others := [key for key in (*PAIR, "contrast") if key in given]:
                raise ValueError(f"trend, {others[0]}: set exactly one")
            return given | {"contrast": {}}  # until the positions are known
        if not set(PAIR) & set(given):
            return given
        arms = [given.get(key) for key in PAIR]
        if "contrast" in given or not all(isinstance(arm, str) for arm in arms) or arms[0] == arms[1]:
            raise ValueError(f"treatment={arms[0]}, control={arms[1]}: name two arms, or give a contrast")
        rest = {key: value for key, value in given.items() if key not in PAIR}
        return rest | {"contrast": {arms[0]: 1.0, arms[1]: -1.0}}

    @model_validator(mode="after")
    def _is_a_difference(self) -> Self:
        key, of = ("contrast", "arm") if self.trend is None else (TREND, "level")
        given = self.contrast if self.trend is None else self.trend
        weights = given.values()
        if not weights or 0 in weights or abs(sum(weights)) > 1e-9:
            raise ValueError(f"{key}={dict(given)}: must give every {of} a weight other than 0, and sum to 0")
        if self.direction == NO_DIFFERENCE and self.margin == 0:
            raise ValueError(f"margin={self.margin}: must be above 0 for {NO_DIFFERENCE}")
        return self

    @property
    def label(self) -> str:
        """The contrast in names, e.g. "residual - non_residual"."""
        if self.trend is not None:
            return f"{_in_signs(self.trend)}, per doubling"
        return _in_signs(self.contrast)


def _in_signs(weights: Mapping[str, float]) -> str:
    terms: list[str] = []
    for name, weight in weights.items():
        size = "" if abs(weight) == 1 else f"{abs(weight):g} "
        sign = ("- " if weight < 0 else "+ ") if terms else ("-" if weight < 0 else "")
        terms.append(f"{sign}{size}{name}")
    return " ".join(terms)


@written(frozen=True, config=WRITTEN)
class Claim:
    """A statement, and the comparisons that decide it."""

    id: Sentence
    """Unique among all files; results use it, e.g. residual-final."""
    statement: Sentence
    """What is claimed, a sentence."""
    source: Sentence
    """Who claims it, and where."""
    study: str | None = None
    """The study whose runs decide: a file of conf/study, or benchmark for table 3, whose arms are options of
    conf/model. Optional if the claim is not testable."""
    comparisons: tuple[Comparison, ...] = ()
    """The claim holds if all hold, and is contradicted if one is."""
    not_testable: Sentence | None = None
    """Instead of the comparisons, why no study here can test it."""
    tuning: str | None = None
    """A file of conf/tuning with which the claim's arms are tuned; they are compared on fresh seeds.
    NAME_configured is the arm NAME with the configured settings, on the same seeds."""

    @model_validator(mode="after")
    def _can_be_judged(self) -> Self:
        if bool(self.comparisons) == (self.not_testable is not None):
            raise ValueError("comparisons, not_testable: set exactly one")
        if self.comparisons and self.study is None:
            raise ValueError("study: missing; name the study whose runs decide")
        return self

    @property
    def arms(self) -> tuple[str, ...]:
        """Every arm that a comparison names, once."""
        return tuple(dict.fromkeys(arm for comparison in self.comparisons for arm in comparison.contrast))


class ClaimsFile(BaseModel):
    """A file of claims: the paper's, or your own."""

    model_config = WRITTEN
    claims: tuple[Claim, ...]
    """In the order in which they are shown."""


CLAIMS = TypeAdapter(ClaimsFile)


@dataclass(frozen=True)
class Comparable:
    """What the claims of a study can be about; `lines` has levels of design.lines."""

    arms: tuple[str, ...]
    metrics: tuple[str, ...]
    lines: tuple[str, ...] = ()


def load_claims(
    files: Iterable[Path], studies: Mapping[str, Comparable], tunings: Collection[str] = ()
) -> list[Claim]:
    """Read and check every file of claims, paper.yaml first.

    Args:
        studies: What their claims can be about, by name.

    Raises:
        UserError: One line with file, claim, key, value and what is allowed.
    """
    claims, file_of = [], dict[str, str]()
    for file in sorted(files, key=lambda file: (file.stem != FIRST_FILE, file.stem)):
        name = f"conf/claims/{file.name}"
        for claim in validated(CLAIMS, read_yaml(file, name), name).claims:
            where = f"{name}: claim {claim.id}"
            if other := file_of.get(claim.id):
                raise UserError(f"{where}: id={claim.id}: duplicate id; also in {other}")
            if claim.study is not None and claim.study not in studies:
                raise UserError(f"{where}: study={claim.study}: must be one of {', '.join(studies)}")
            if claim.tuning is not None and (claim.tuning not in tunings or claim.study == BENCHMARK):
                named = ", ".join(tunings)
                raise UserError(f"{where}: tuning={claim.tuning}: must be one of {named}, of a study's arms")
            for index, comparison in enumerate(claim.comparisons):
                assert claim.study is not None, "the schema requires it"
                known = studies[claim.study]
                if claim.tuning is not None:
                    known = replace(known, arms=(*known.arms, *(arm + CONFIGURED for arm in known.arms)))
                _check(f"{where}: comparisons.{index}", comparison, claim.study, known)
            file_of[claim.id] = name
            claims.append(claim)
    return claims


def _check(where: str, comparison: Comparison, study: str, known: Comparable) -> None:
    if unknown := [arm for arm in comparison.contrast if arm not in known.arms]:
        raise UserError(f"{where}: {unknown[0]}: must be an arm of study={study}: {', '.join(known.arms)}")
    if comparison.trend is not None:
        if not known.lines:
            raise UserError(f"{where}: trend: study={study} has no factors; name two arms or a contrast")
        if wrong := [level for level in comparison.trend if level not in known.lines]:
            lines = ", ".join(known.lines)
            raise UserError(f"{where}: trend: {wrong[0]}: must be a level of design.lines: {lines}")
    if comparison.metric in (*SHARES, FAILED_TO_LEARN) and sorted(comparison.contrast.values()) != [-1, 1]:
        key = "contrast" if comparison.trend is None else TREND
        weights = dict(getattr(comparison, key))
        raise UserError(f"{where}: {key}={weights}: metric={comparison.metric} compares two arms")
    if is_own(comparison.metric) and study != BENCHMARK:
        try:
            own_quantity(comparison.metric)
        except ValueError as error:
            raise UserError(f"{where}: metric={comparison.metric}: {error}") from error
    elif comparison.metric not in known.metrics:
        raise UserError(f"{where}: metric={comparison.metric}: must be one of {', '.join(known.metrics)}")

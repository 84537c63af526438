"""Claims as data: what the paper, or a user, says that a study shows.

Every file of conf/claims is read: paper.yaml has the paper's claims in its order, and a file beside it adds
a user's own. conf/claims/paper.yaml explains the keys. A claim is a list of comparisons, of which every one
must hold. A comparison is a contrast between arms of one study, one quantity
(`ablations.evidence.contrasts`), a direction and a margin: the smallest difference that matters, a fraction
as the quantity is. What no study here can show is a claim too, with the reason in place of the comparisons.

`study: benchmark` is table 3: its arms are options of conf/model at the paper's scale, compared in
`parameters` and `steps_per_second` as shares of the control's (`experiments.benchmark_verdicts`).
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ablations.errors import UserError
from ablations.yaml_files import check_aliases

HIGHER = "higher"
LOWER = "lower"
NO_DIFFERENCE = "no_difference"
DIRECTIONS = (HIGHER, LOWER, NO_DIFFERENCE)

BENCHMARK = "benchmark"
"""The name under which claims speak of table 3, beside the studies'."""
PARAMETERS = "parameters"
STEPS_PER_SECOND = "steps_per_second"
SETTING = ("channels-last", "float32")
"""Memory order and precision in which speeds are judged: those of the recipes, which every device has."""

FIRST_FILE = "paper"
"""Of conf/claims: its claims come before those of other files."""

CLAIM_KEYS = ("id", "statement", "source")
OPTIONAL_CLAIM_KEYS = ("study", "comparisons", "not_testable")
PAIR_KEYS = ("treatment", "control")
COMPARISON_KEYS = ("metric", "direction", "margin")

LARGEST_WEIGHT = 1000
"""Of an arm in a contrast: a typing error else, or a number whose products overflow."""


@dataclass(frozen=True)
class Comparison:
    """One thing that must be so for a claim to hold.

    Attributes:
        contrast: Weight per arm; they sum to 0.
        metric: A quantity of `ablations.evidence.contrasts`, or of the benchmark.
        direction: higher, lower or no_difference: what the contrast is to be.
        margin: The smallest difference that matters, in the metric's unit: a fraction.
    """

    contrast: Mapping[str, float]
    metric: str
    direction: str
    margin: float

    @property
    def label(self) -> str:
        """The contrast as a person reads it, e.g. "residual - non_residual"."""
        terms: list[str] = []
        for arm, weight in self.contrast.items():
            size = "" if abs(weight) == 1 else f"{abs(weight):g} "
            sign = ("- " if weight < 0 else "+ ") if terms else ("-" if weight < 0 else "")
            terms.append(f"{sign}{size}{arm}")
        return " ".join(terms)


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes:
        id: Short name, "residual-final".
        statement: What is claimed, a sentence.
        source: Who says so, and where.
        study: Whose runs decide; None where no study here could.
        comparisons: All must hold; empty where the claim is not testable.
        not_testable: Why not; None for a claim with comparisons.
    """

    id: str
    statement: str
    source: str
    study: str | None
    comparisons: tuple[Comparison, ...]
    not_testable: str | None = None

    @property
    def arms(self) -> tuple[str, ...]:
        """Every arm that a comparison names, once."""
        return tuple(dict.fromkeys(arm for comparison in self.comparisons for arm in comparison.contrast))


@dataclass(frozen=True)
class Comparable:
    """What the claims of a study can be about.

    Attributes:
        arms: Names.
        metrics: Quantities.
    """

    arms: tuple[str, ...]
    metrics: tuple[str, ...]


def load_claims(files: Iterable[Path], studies: Mapping[str, Comparable]) -> list[Claim]:
    """Read and check every file of claims.

    Args:
        files: Of claims.
        studies: What they can be about, by name.

    Returns:
        The claims, those of paper.yaml first, then of other files by name, each file in its order.

    Raises:
        UserError: One line with file, claim, key, value and what is allowed.
    """
    claims, file_of = [], dict[str, str]()
    for file in sorted(files, key=lambda file: (file.stem != FIRST_FILE, file.stem)):
        name = f"conf/claims/{file.name}"
        for number, node in enumerate(_claim_nodes(file, name), start=1):
            claim = _claim(node, number, name, studies)
            if claim.id in file_of:
                raise UserError(
                    f"{name}: claim {number}: id={claim.id}: must be new; {file_of[claim.id]} has it"
                )
            file_of[claim.id] = name
            claims.append(claim)
    return claims


def _claim_nodes(file: Path, name: str) -> list[Any]:
    check_aliases(file)
    try:
        node = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{name}: cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(node, dict) or set(node) != {"claims"} or not isinstance(node["claims"], list):
        raise UserError(f"{name}: must be one key, claims, with a list of claims")
    return node["claims"]


def _claim(node: Any, number: int, file: str, studies: Mapping[str, Comparable]) -> Claim:
    where = f"{file}: claim {number}"
    if not isinstance(node, dict):
        raise UserError(f"{where}: must have the keys {', '.join((*CLAIM_KEYS, *OPTIONAL_CLAIM_KEYS))}")
    if isinstance(node.get("id"), str) and node["id"].strip():
        where = f"{file}: claim {node['id']}"
    _check_keys(where, node, CLAIM_KEYS, OPTIONAL_CLAIM_KEYS)
    for key in (*CLAIM_KEYS, *(key for key in ("not_testable",) if key in node)):
        if not isinstance(node[key], str) or not node[key].strip():
            raise UserError(f"{where}: {key}={node[key]}: must be a text")
    if ("comparisons" in node) == ("not_testable" in node):
        raise UserError(f"{where}: comparisons, not_testable: must have one of the two")
    study = node.get("study")
    known = studies.get(study) if isinstance(study, str) else None
    if known is None and (study is not None or "comparisons" in node):
        raise UserError(f"{where}: study={study}: must be one of {', '.join(studies)}")
    comparisons = node.get("comparisons", [])
    if not isinstance(comparisons, list) or ("comparisons" in node and not comparisons):
        raise UserError(f"{where}: comparisons={comparisons}: must be a list of at least one")
    return Claim(
        id=node["id"],
        statement=" ".join(node["statement"].split()),
        source=" ".join(node["source"].split()),
        study=study,
        comparisons=tuple(
            _comparison(item, f"{where}: comparison {place}", str(study), known)
            for place, item in enumerate(comparisons, start=1)
            if known is not None  # as it is where there are comparisons
        ),
        not_testable=" ".join(node["not_testable"].split()) if "not_testable" in node else None,
    )


def _comparison(node: Any, where: str, study: str, known: Comparable) -> Comparison:
    if not isinstance(node, dict):
        raise UserError(
            f"{where}: must have treatment and control, or contrast, and metric, direction, margin"
        )
    if "contrast" in node:
        _check_keys(where, node, ("contrast", *COMPARISON_KEYS), ())
        contrast = _weights(where, node["contrast"])
    else:
        _check_keys(where, node, (*PAIR_KEYS, *COMPARISON_KEYS), ())
        for key in PAIR_KEYS:
            if not isinstance(node[key], str):
                raise UserError(
                    f"{where}: {key}={node[key]}: must be an arm of study={study}: {', '.join(known.arms)}"
                )
        if node["treatment"] == node["control"]:
            raise UserError(f"{where}: control={node['control']}: must be another arm than the treatment")
        contrast = {node["treatment"]: 1.0, node["control"]: -1.0}
    if unknown := [arm for arm in contrast if arm not in known.arms]:
        key = next((key for key in PAIR_KEYS if node.get(key) == unknown[0]), "contrast")
        raise UserError(
            f"{where}: {key}={unknown[0]}: must be an arm of study={study}: {', '.join(known.arms)}"
        )
    if study == BENCHMARK and sorted(contrast.values()) != [-1, 1]:
        raise UserError(f"{where}: contrast={node['contrast']}: study={BENCHMARK} compares two networks")
    for key, allowed in (("metric", known.metrics), ("direction", DIRECTIONS)):
        if node[key] not in allowed:
            raise UserError(f"{where}: {key}={node[key]}: must be one of {', '.join(allowed)}")
    margin, equivalence = node["margin"], node["direction"] == NO_DIFFERENCE
    if not _is_number(margin) or margin < 0 or (equivalence and margin == 0):
        least = "above 0" if equivalence else "from 0"
        raise UserError(f"{where}: margin={margin}: must be a number {least}, a fraction")
    return Comparison(contrast, node["metric"], node["direction"], float(margin))


def _weights(where: str, node: Any) -> dict[str, float]:
    if (
        not isinstance(node, dict)
        or not all(_is_number(weight) and 0 < abs(weight) <= LARGEST_WEIGHT for weight in node.values())
        or not node
        or abs(sum(node.values())) > 1e-9
    ):
        raise UserError(
            f"{where}: contrast={node}: must be a weight other than 0 per arm, summing to 0, of at most "
            f"{LARGEST_WEIGHT}"
        )
    return {str(arm): float(weight) for arm, weight in node.items()}


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max  # also of an integer that no float can be


def _check_keys(
    where: str, node: Mapping[Any, Any], required: Sequence[str], optional: Sequence[str]
) -> None:
    if missing := [key for key in required if key not in node]:
        raise UserError(f"{where}: {missing[0]}: is missing; a claim has {', '.join(required)}")
    if unknown := [str(key) for key in node if key not in (*required, *optional)]:
        raise UserError(f"{where}: {unknown[0]}: no such key; there are: {', '.join((*required, *optional))}")

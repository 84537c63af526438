"""Studies of several factors: every combination of their levels is an arm.

The question is how the factors act together. A study's file states `factors` in place of `arms` (`with_arms`
gives the product) and a `design`: the factor on the horizontal axis, with a position per arm (how many
channels a segment has), and the factor that is drawn as lines. The levels of the study's baseline are what
the others are compared with. Every further factor divides the arms into sets, each a study of the two by
itself. What the runs then say is in `ablations.evidence.interaction`.
"""

import math
from collections.abc import Collection, Mapping
from functools import partial
from itertools import product
from typing import Any

from hydra.utils import instantiate

from ablations.errors import UserError
from ablations.studies.results import Design, Factor
from experiments.configuration import require_few_runs
from experiments.errors import explained
from lightning_modules.validation import require_integer

FACTOR_KEYS = {"label", "levels"}
LEVEL_KEYS = {"label", "choose"}
OPTIONAL_LEVEL_KEYS = {"tick"}
DESIGN_KEYS = {"x", "lines", "axis", "position"}


def with_arms(file: str, node: Mapping[Any, Any]) -> dict[Any, Any]:
    """A study's node with the arms that its factors give; one without factors is returned as it is.

    An arm's name joins the names of its levels by "_", its label theirs by ", ", in the order of the factors,
    the last of which changes first; it chooses what its levels choose. `paper` says what the paper says of an
    arm, by its name. An arm of another set than the study's baseline is compared with the arm of its own set
    that has the baseline's levels on the axis and as line; that one with the study's baseline.

    Args:
        file: The study's file, for messages.
        node: What stands in it.

    Raises:
        UserError: Factors, levels, design or paper have unknown or missing keys, or do not fit together.
    """
    if "factors" not in node:
        if unknown := sorted({"design", "paper"} & set(node)):
            raise UserError(f"{file}: {unknown[0]}: a study of arms has none; it belongs to factors")
        return dict(node)
    if "arms" in node:
        raise UserError(
            f"{file}: arms, factors: the factors give the arms, so only one of the two can be set"
        )
    factors, design, paper = node["factors"], node.get("design", {}), node.get("paper", {})
    _check_factors(file, factors)
    _check_keys(file, "design", design, DESIGN_KEYS)
    # By lists: what a file has in place of a name may be no key.
    if design["x"] == design["lines"] or any(design[key] not in list(factors) for key in ("x", "lines")):
        raise UserError(
            f"{file}: design: x={design['x']}, lines={design['lines']}: must be two of {', '.join(factors)}"
        )
    require_few_runs(f"{file}: factors", math.prod(len(factor["levels"]) for factor in factors.values()))
    levels_of = {
        "_".join(levels): dict(zip(factors, levels, strict=True))
        for levels in product(*(factor["levels"] for factor in factors.values()))
    }
    baseline = node.get("baseline")
    if baseline not in list(levels_of):
        raise UserError(f"{file}: baseline={baseline}: must be one of {', '.join(levels_of)}")
    if not isinstance(paper, dict) or (unknown := sorted(set(paper) - set(levels_of))):
        raise UserError(f"{file}: paper: must say what the paper says of arms by name, not {paper}")
    arms = []
    for name, levels in levels_of.items():
        given = [factors[factor]["levels"][level] for factor, level in levels.items()]
        choose: dict[str, Any] = {}
        for level in given:
            choose |= level["choose"]
        arm = {
            "name": name,
            "label": ", ".join(level["label"] for level in given),
            "choose": choose,
            "paper": paper.get(name, ""),
        }
        own = levels | {axis: levels_of[baseline][axis] for axis in (design["x"], design["lines"])}
        reference = "_".join(own.values())
        if reference not in (name, baseline):
            arm["baseline"] = reference
        arms.append(arm)
    return {**{key: value for key, value in node.items() if key != "paper"}, "arms": arms}


def _check_factors(file: str, factors: Any) -> None:
    if not isinstance(factors, dict) or len(factors) < 2:
        raise UserError(f"{file}: factors: must be two or more, each with label and levels")
    for name, factor in factors.items():
        _check_keys(file, f"factor {name}", factor, FACTOR_KEYS)
        if not isinstance(factor["levels"], dict) or len(factor["levels"]) < 2:
            raise UserError(f"{file}: factor {name}: levels: must be two or more, each with label and choose")
        for level, given in factor["levels"].items():
            _check_keys(file, f"factor {name}: level {level}", given, LEVEL_KEYS, OPTIONAL_LEVEL_KEYS)
            if not isinstance(level, str) or not isinstance(given["choose"], dict):
                raise UserError(
                    f"{file}: factor {name}: level {level}: must be a name, and choose an option per group"
                )
            if not isinstance(given["label"], str):
                raise UserError(
                    f"{file}: factor {name}: level {level}: label={given['label']}: must be a text"
                )
    chosen = [
        {key for level in factor["levels"].values() for key in level["choose"]} for factor in factors.values()
    ]
    for i, keys in enumerate(chosen):
        if shared := sorted(keys & set().union(*chosen[:i])):
            raise UserError(f"{file}: factors: two of them choose {shared[0]}; one of them must")


def _check_keys(file: str, what: str, given: Any, required: set[str], optional: Collection[str] = ()) -> None:
    if not isinstance(given, dict):
        raise UserError(f"{file}: {what}: must have {', '.join(sorted(required))}")
    if difference := (required ^ set(given)) - set(optional):
        raise UserError(f"{file}: {what} lacks or does not know {', '.join(sorted(map(str, difference)))}")


def make_design(
    file: str, node: Mapping[Any, Any], configurations: Mapping[str, Mapping[str, Any]]
) -> Design:
    """The design of a study of factors, with the position of every arm.

    Args:
        file: The study's file, for messages.
        node: As `with_arms` gives it.
        configurations: A resolved configuration per arm.

    Raises:
        UserError: An arm's position cannot be told, or is no number above 0.
    """
    given, positions = node["design"], {}
    try:
        position = explained("design.position", lambda: instantiate(given["position"]))
        for arm, configuration in configurations.items():
            where = explained("design.position", partial(position, configuration))
            if not isinstance(where, int | float) or not 0 < where < math.inf:
                raise UserError(f"{file}: design.position={where} of arm {arm}: must be a number above 0")
            positions[arm] = float(where)
    except ValueError as error:
        raise UserError(str(error) if str(error).startswith(file) else f"{file}: {error}") from error
    factors = tuple(
        Factor(
            name,
            factor["label"],
            {level: told["label"] for level, told in factor["levels"].items()},
            {level: told["tick"] for level, told in factor["levels"].items() if "tick" in told},
        )
        for name, factor in node["factors"].items()
    )
    combinations = product(*(factor.levels for factor in factors))
    names = [factor.name for factor in factors]
    levels = {"_".join(given): dict(zip(names, given, strict=True)) for given in combinations}
    return Design(factors, given["x"], given["lines"], given["axis"], levels, positions)


def channels_per_segment(resolved: Mapping[str, Any], *, channels: int) -> int:
    """Channels that the largest segment has of a layer: where an arm stands on the paper's spectrum.

    Args:
        resolved: A run's configuration.
        channels: Of the layer at width 1; Xception's middle flow has 728.

    Raises:
        ValueError: The network has no width or no segments, or `channels` is no whole number above 0.
    """
    if "segments" not in resolved:
        raise ValueError("design.position: needs a network with model.width and segments")
    return max(instantiate(resolved["segments"])(channels_at_width(resolved, channels=channels)))


def channels_at_width(resolved: Mapping[str, Any], *, channels: int) -> int:
    """Channels of a layer: how wide an arm's network is.

    Args:
        resolved: A run's configuration.
        channels: Of the layer at width 1; Xception's middle flow has 728.

    Raises:
        ValueError: The network has no width, or `channels` is no whole number above 0.
    """
    require_integer("design.position.channels", channels, 1)
    if "width" not in resolved["model"]:
        raise ValueError("design.position: needs a network with model.width")
    return max(1, round(resolved["model"]["width"] * channels))

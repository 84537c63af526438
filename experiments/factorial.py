"""Studies of several factors: the position of each arm on the horizontal axis.

Such a study has `factors` instead of `arms`; every combination of levels is an arm
(`ablations.studies.schema`). `ablations.evidence.interaction` analyses the runs.
"""

import math
from collections.abc import Mapping
from functools import partial
from itertools import product
from typing import Any

from hydra.utils import instantiate

from ablations.errors import UserError
from ablations.runs.identity import at
from ablations.studies.results import Design, Factor
from ablations.studies.schema import StudyFile
from experiments.errors import explained
from lightning_modules.validation import require_integer


def make_design(study: StudyFile, configurations: Mapping[str, Mapping[str, Any]]) -> Design | None:
    """The design of a study of factors, given a configuration per arm; None if the study lists its arms.

    Raises:
        UserError: An arm's position is unknown or not a number above 0.
    """
    if study.design is None or study.factors is None:
        return None
    file, given, positions = f"conf/study/{study.name}.yaml", study.design, {}
    try:
        position = explained("design.position", lambda: instantiate(given.position))
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
            factor.label,
            {level: told.label for level, told in factor.levels.items()},
            {level: told.tick for level, told in factor.levels.items() if told.tick is not None},
        )
        for name, factor in study.factors.items()
    )
    combinations = product(*(factor.levels for factor in factors))
    names = [factor.name for factor in factors]
    levels = {"_".join(combined): dict(zip(names, combined, strict=True)) for combined in combinations}
    return Design(factors, given.x, given.lines, given.axis, levels, positions, given.paper)


def setting(resolved: Mapping[str, Any], *, key: str) -> float:
    """The value of a run at a dotted key, e.g. `recipe.epochs`; ValueError if it is not a number."""
    if (value := at(resolved, key, ...)) is ...:
        raise ValueError(f"design.position.key={key}: a run has no such key")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"design.position.key={key}: is {value}; must be a number")
    return value


def channels_per_segment(resolved: Mapping[str, Any], *, channels: int) -> int:
    """Channels of a layer's largest segment: an arm's position on the paper's spectrum.

    The layer has `channels` at width 1; Xception's middle flow has 728.

    Raises:
        ValueError: The network has no width or no segments, or `channels` is not a positive whole number.
    """
    if "segments" not in resolved:
        raise ValueError("design.position: needs a network with model.width and segments")
    return max(instantiate(resolved["segments"])(channels_at_width(resolved, channels=channels)))


def channels_at_width(resolved: Mapping[str, Any], *, channels: int) -> int:
    """Channels of a layer at the network's width; see `channels_per_segment`."""
    require_integer("design.position.channels", channels, 1)
    if "width" not in resolved["model"]:
        raise ValueError("design.position: needs a network with model.width")
    return max(1, round(resolved["model"]["width"] * channels))

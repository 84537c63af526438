"""The width that gives a network a wanted number of parameters, so that arms can be compared at one size.

At a fixed width the spectrum of the paper's section 1.2 goes from 22.9 M to 183.6 M parameters: arms that
differ in their segments would differ in their size as well. Channels are whole numbers, so the number of
parameters rises with the width in steps; it is counted without memory or computation.
"""

import json
import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from ablations.errors import explained
from ablations.network_cost import count_parameters
from lightning_modules.validation import require_integer

TOLERANCE = 0.01
"""Largest difference from the wanted number, as a share of it."""

GRID = 10**5
"""Widths are multiples of 1 / GRID, which tells the steps of 2,048 channels apart."""

MAX_WIDTH = 1024

FIRST_STEP = 16
"""Grid points from a guess to the first try beside it."""


def solve_width(model: Mapping[str, Any], parameters: int) -> float:
    """The width whose number of trainable parameters is nearest to the wanted one.

    A width that the network has already and that gives that number stays as it is.

    Args:
        model: The network's node of a resolved configuration.
        parameters: The wanted number, from 1.

    Raises:
        ValueError: The network has no width or cannot be built, or no width comes within 1 %.
    """
    require_integer("match_parameters", parameters, 1)
    if "width" not in model:
        raise ValueError(
            f"match_parameters={parameters}: {model['_target_']} has no width that could be solved for it"
        )
    return _solve(json.dumps(model), parameters)


@cache
def _solve(model: str, wanted: int) -> float:
    node = json.loads(model)

    @cache
    def count(width: float) -> int:
        return explained("model", lambda: count_parameters(node | {"width": width}))

    present = node["width"]
    if count(present) == wanted:
        return present
    below, above = _neighbours(count, round(present * GRID), wanted)
    nearest = min(below / GRID, above / GRID, key=lambda width: abs(count(width) - wanted))
    if abs(count(nearest) - wanted) > TOLERANCE * wanted:
        raise ValueError(
            f"match_parameters={wanted}: no width gives so many within {TOLERANCE * 100:g} %; "
            f"{node['_target_']} has {count(below / GRID)} at width {below / GRID:g} "
            f"and {count(above / GRID)} at width {above / GRID:g}"
        )
    return present if count(present) == count(nearest) else nearest


def _neighbours(count: Callable[[float], int], start: int, wanted: int) -> tuple[int, int]:
    """The last grid point with at most the wanted number, and the next; else those at an end of the grid."""
    last = MAX_WIDTH * GRID
    guess = min(max(start, 1), last)
    for _ in range(3):  # the number is nearly a square of the width
        guess = min(max(round(guess * math.sqrt(wanted / count(guess / GRID))), 1), last)
    low = high = guess
    step = FIRST_STEP
    while low > 1 and count(low / GRID) > wanted:
        low, step = max(low - step, 1), 4 * step
    step = FIRST_STEP
    while high < last and count(high / GRID) <= wanted:
        high, step = min(high + step, last), 4 * step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle / GRID) <= wanted else (low, middle)
    return low, high

"""Solves a network's width for a wanted size, so that arms can be compared at equal size.

At a fixed width, the spectrum of the paper's section 1.2 goes from 22.9 M to 183.6 M parameters. The matched
size is the number of trainable parameters or the multiply-adds per image. Channels are whole numbers, so both
grow with the width in steps. They are counted without memory or computation, about ten times per network.
"""

import itertools
import json
import math
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

from hydra.utils import instantiate

from experiments.errors import explained
from experiments.sizes.network_cost import multiply_adds, trainable_parameters, without_memory
from lightning_modules.validation import require_integer

TOLERANCE = 0.01
"""Largest relative difference from the wanted number."""

GRID = 10**5
"""Widths are multiples of 1 / GRID, fine enough for steps of 2,048 channels."""

LAST = 1024 * GRID
"""The largest width, in grid points."""

FIRST_STEP = 16
"""Grid points by which a guess overshoots, so that guesses bracket the solution."""

GUESSES = 4
"""Guesses before bisection; the bracket is then a few steps wide."""

ACTIVATIONS = ("torch.nn.Identity", "torch.nn.ReLU", "torch.nn.ELU")
"""Parts without parameters, convolutions and linear layers: arms that differ in them share a solution."""


def solve_width(model: Mapping[str, Any], parameters: int) -> float:
    """The width whose number of trainable parameters is nearest to the wanted one.

    The present width stays if it has that number.

    Raises:
        ValueError: The network has no width or cannot be built, or no width comes within 1 %.
    """
    return _checked("match_parameters", model, parameters, None)


def solve_width_by_multiply_adds(
    model: Mapping[str, Any], multiply_adds: int, *, channels: int, image_size: int
) -> float:
    """The width whose number of multiply-adds per image is nearest to the wanted one; see `solve_width`."""
    return _checked("match_multiply_adds", model, multiply_adds, (channels, image_size))


def _checked(key: str, model: Mapping[str, Any], wanted: int, image: tuple[int, int] | None) -> float:
    require_integer(key, wanted, 1)
    if "width" not in model:
        raise ValueError(f"{key}={wanted}: {model['_target_']} has no width to solve")
    return _solve(key, json.dumps(_without_activations(model)), wanted, image)


def _without_activations(node: Any) -> Any:
    """The node with the identity for each part of `ACTIVATIONS`."""
    if isinstance(node, list):
        return [_without_activations(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    if node.get("_target_") in ACTIVATIONS:
        return {"_target_": "torch.nn.Identity", "_partial_": node.get("_partial_", False)}
    return {key: _without_activations(value) for key, value in node.items()}


@cache  # an arm's seeds share its network
def _solve(key: str, model: str, wanted: int, image: tuple[int, int] | None) -> float:
    """Solve once per network; `image` is (channels, size) for multiply-adds, None for parameters."""
    node = json.loads(model)
    target: str = node["_target_"]
    present: float = node.pop("width")
    make = explained("model", lambda: _unchecked(instantiate(node, _partial_=True)))

    def counted(width: float) -> int:
        with without_memory():
            network = make(width=width)
        if image is None:
            return trainable_parameters(network)
        return multiply_adds(network, target, channels=image[0], image_size=image[1])

    @cache
    def count(width: float) -> int:
        return explained("model", lambda: counted(width))

    if count(present) == wanted:
        return present
    below, above = _neighbours(count, round(present * GRID), wanted)
    nearest = min(below / GRID, above / GRID, key=lambda width: abs(count(width) - wanted))
    if abs(count(nearest) - wanted) > TOLERANCE * wanted:
        raise ValueError(
            f"{key}={wanted}: no width comes within {TOLERANCE * 100:g} %; "
            f"{target} has {count(below / GRID)} at width {below / GRID:g} "
            f"and {count(above / GRID)} at width {above / GRID:g}"
        )
    return present if count(present) == count(nearest) else nearest


def _unchecked(part: Any) -> Any:
    """A partial without Hydra's checks at every call: they take longer than a layer."""
    if isinstance(part, partial):
        keywords = {key: _unchecked(value) for key, value in part.keywords.items()}
        return partial(part.func, *map(_unchecked, part.args), **keywords)
    return part


def _neighbours(count: Callable[[float], int], start: int, wanted: int) -> tuple[int, int]:
    """The last grid point with at most the wanted number, and the next, within the grid."""
    below, above = 0, LAST + 1  # not counted
    step = FIRST_STEP
    at = min(max(start, 1), LAST)
    for tries in itertools.count(1):
        number = count(at / GRID)
        below, above = (at, above) if number <= wanted else (below, at)
        if above - below == 1:
            break
        if tries > GUESSES and below > 0 and above <= LAST:
            at = (below + above) // 2
            continue
        guess = at * math.sqrt(wanted / number)  # the number grows with nearly the square of the width
        at = round(guess + (step if number <= wanted else -step))
        at = min(max(at, below + 1), above - 1)
        if tries > GUESSES:
            step *= 4
    return max(below, 1), min(above, LAST)

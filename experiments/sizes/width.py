"""The width that gives a network a wanted size, so that arms can be compared at one size.

At a fixed width the spectrum of the paper's section 1.2 goes from 22.9 M to 183.6 M parameters: arms that
differ in their segments would differ in their size as well. What is matched is the number of trainable
parameters or the multiply-adds of one image. Channels are whole numbers, so either rises with the width in
steps; it is counted without memory or computation, some ten times per network.
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
"""Largest difference from the wanted number, as a share of it."""

GRID = 10**5
"""Widths are multiples of 1 / GRID, which tells the steps of 2,048 channels apart."""

LAST = 1024 * GRID
"""The largest width, in grid points."""

FIRST_STEP = 16
"""Grid points by which a guess is overshot, so that the next ones lie around the solution."""

GUESSES = 4
"""Counts after which what lies around the solution is halved; by then it is a few steps wide."""

ACTIVATIONS = ("torch.nn.Identity", "torch.nn.ReLU", "torch.nn.ELU")
"""Parts without parameters, convolutions and linear layers: of arms that differ in these one is solved."""


def solve_width(model: Mapping[str, Any], parameters: int) -> float:
    """The width whose number of trainable parameters is nearest to the wanted one.

    A width that the network has already and that gives that number stays as it is.

    Args:
        model: The network's node of a resolved configuration.
        parameters: The wanted number, from 1.

    Raises:
        ValueError: The network has no width or cannot be built, or no width comes within 1 %.
    """
    return _checked("match_parameters", model, parameters, None)


def solve_width_by_multiply_adds(
    model: Mapping[str, Any], multiply_adds: int, *, channels: int, image_size: int
) -> float:
    """The width whose number of multiply-adds for one image is nearest to the wanted one.

    Args:
        model: As `solve_width`.
        multiply_adds: The wanted number, from 1; of the convolutions and linear layers.
        channels: Of the image.
        image_size: Its height and width, in pixels.

    Raises:
        ValueError: As `solve_width`, or the network cannot take images of that size.
    """
    return _checked("match_multiply_adds", model, multiply_adds, (channels, image_size))


def _checked(key: str, model: Mapping[str, Any], wanted: int, image: tuple[int, int] | None) -> float:
    require_integer(key, wanted, 1)
    if "width" not in model:
        raise ValueError(f"{key}={wanted}: {model['_target_']} has no width to solve")
    return _solve(key, json.dumps(_without_activations(model)), wanted, image)


def _without_activations(node: Any) -> Any:
    """The node with the identity in place of each part that costs nothing, whatever its arguments."""
    if isinstance(node, list):
        return [_without_activations(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    if node.get("_target_") in ACTIVATIONS:
        return {"_target_": "torch.nn.Identity", "_partial_": node.get("_partial_", False)}
    return {key: _without_activations(value) for key, value in node.items()}


@cache  # an arm's seeds share its network
def _solve(key: str, model: str, wanted: int, image: tuple[int, int] | None) -> float:
    """Solve once per network: `image` is channels and size where multiply-adds are counted, else None."""
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
    """Without Hydra's checks at each call of a partial: once is enough, and a layer takes less."""
    if isinstance(part, partial):
        keywords = {key: _unchecked(value) for key, value in part.keywords.items()}
        return partial(part.func, *map(_unchecked, part.args), **keywords)
    return part


def _neighbours(count: Callable[[float], int], start: int, wanted: int) -> tuple[int, int]:
    """The last grid point with at most the wanted number, and the next; else those at an end of the grid."""
    below, above = 0, LAST + 1  # neither is counted
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
        guess = at * math.sqrt(wanted / number)  # the number is nearly a square of the width
        at = round(guess + (step if number <= wanted else -step))
        at = min(max(at, below + 1), above - 1)
        if tries > GUESSES:
            step *= 4
    return max(below, 1), min(above, LAST)

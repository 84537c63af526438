"""The width that gives a network a wanted size, so that arms can be compared at one size.

At a fixed width the spectrum of the paper's section 1.2 goes from 22.9 M to 183.6 M parameters: arms that
differ in their segments would differ in their size as well. What is matched is the number of trainable
parameters or the multiply-adds of one image. Channels are whole numbers, so either rises with the width in
steps; it is counted without memory or computation, which takes a second or two per network. What was solved
is kept in the user's cache, under a name that changes with the code of the networks.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ablations.files import write_atomically
from experiments.errors import explained
from experiments.sizes.network_cost import count_multiply_adds, count_parameters
from lightning_modules.validation import require_integer

TOLERANCE = 0.01
"""Largest difference from the wanted number, as a share of it."""

GRID = 10**5
"""Widths are multiples of 1 / GRID, which tells the steps of 2,048 channels apart."""

MAX_WIDTH = 1024

FIRST_STEP = 16
"""Grid points from a guess to the first try beside it."""

ROOT = Path(__file__).resolve().parents[2]

OUR_TARGETS = ("lightning_modules.networks.", "torch.nn.")
"""Parts whose code `_kept_at` knows; a network with another one is solved anew by every process."""

ACTIVATIONS = ("torch.nn.Identity", "torch.nn.ReLU", "torch.nn.ELU")
"""Parts without parameters, convolutions and linear layers: of arms that differ in these one is solved."""

ACTIVATION_KEYS = {"_target_", "_partial_", "inplace", "alpha"}


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
        raise ValueError(f"{key}={wanted}: {model['_target_']} has no width that could be solved for it")
    return _solve(key, json.dumps(_without_activations(model)), wanted, image)


def _without_activations(node: Any) -> Any:
    """The node with the identity in place of each part that costs nothing."""
    if isinstance(node, list):
        return [_without_activations(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    if node.get("_target_") in ACTIVATIONS and node.keys() <= ACTIVATION_KEYS:
        kept = {key: value for key, value in node.items() if key == "_partial_"}
        return {"_target_": "torch.nn.Identity", **kept}
    return {key: _without_activations(value) for key, value in node.items()}


@cache
def _solve(key: str, model: str, wanted: int, image: tuple[int, int] | None) -> float:
    """Solve once per network: `image` is channels and size where multiply-adds are counted, else None."""
    kept_at = _kept_at(key, model, wanted, image)
    if kept_at is not None:
        with suppress(OSError, ValueError):
            return float(kept_at.read_text())
    width = _solved(key, json.loads(model), wanted, image)
    if kept_at is not None:
        with suppress(OSError):  # a home that cannot be written costs time, and nothing else
            kept_at.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(kept_at, repr(width).encode())
    return width


def _solved(key: str, node: Mapping[str, Any], wanted: int, image: tuple[int, int] | None) -> float:
    def of_network(network: Mapping[str, Any]) -> int:
        if image is None:
            return count_parameters(network)
        return count_multiply_adds(network, channels=image[0], image_size=image[1])

    @cache
    def count(width: float) -> int:
        return explained("model", lambda: of_network({**node, "width": width}))

    present = node["width"]
    if count(present) == wanted:
        return present
    below, above = _neighbours(count, round(present * GRID), wanted)
    nearest = min(below / GRID, above / GRID, key=lambda width: abs(count(width) - wanted))
    if abs(count(nearest) - wanted) > TOLERANCE * wanted:
        raise ValueError(
            f"{key}={wanted}: no width gives so many within {TOLERANCE * 100:g} %; "
            f"{node['_target_']} has {count(below / GRID)} at width {below / GRID:g} "
            f"and {count(above / GRID)} at width {above / GRID:g}"
        )
    return present if count(present) == count(nearest) else nearest


def _is_ours(model: Mapping[str, Any]) -> bool:
    return all(target.startswith(OUR_TARGETS) for target in _targets(model))


def _kept_at(key: str, model: str, wanted: int, image: tuple[int, int] | None) -> Path | None:
    """The file that keeps a solved width; None where a part's code is not known, or there is no home.

    Its name is the hash of the question and of all that the answer depends on.
    """
    if not _is_ours(json.loads(model)):
        return None
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # no home is known
        return None
    question = json.dumps([key, json.loads(model), wanted, image, _code()], sort_keys=True)
    return folder / "xception_ablations" / "widths" / hashlib.sha256(question.encode()).hexdigest()


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield str(node["_target_"])
        for value in node.values():
            yield from _targets(value)


@cache
def _code() -> str:
    """Of what builds, counts and solves: its hash."""
    files = sorted((ROOT / "lightning_modules" / "networks").rglob("*.py"))
    files.append(ROOT / "lightning_modules" / "validation.py")
    sizes = ROOT / "experiments" / "sizes"
    files += [sizes / name for name in ("width.py", "network_cost.py")]
    digest = hashlib.sha256(f"torch {version('torch')}, torchvision {version('torchvision')}".encode())
    for file in files:
        digest.update(file.relative_to(ROOT).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()


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

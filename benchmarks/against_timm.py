"""Step time and peak memory of full-size Xception and Inception V3, ours against timm's.

    python -m benchmarks.against_timm [--pairs 7] [--batch-size 4] [--threads 1]

Both are trained on the same noise (forward, loss, backward, SGD) with random weights, in turns, each in a
fresh process, in both memory orders; they are compared pair by pair and the median of the ratios printed. A
ratio below 1: ours is faster, or needs less memory. Needs timm.
"""

import argparse
import math
import statistics
from collections.abc import Callable
from functools import partial

import timm
import torch
from hydra.utils import instantiate
from torch import nn

from experiments.planning import compose_runs, hydra_configuration
from experiments.sizes.training_step import Noise, Step, Timing, make_step, time_apart

TIMMS = {"xception": "legacy_xception", "inception_v3": "inception_v3"}
"""Our option, and timm's network without auxiliary tower."""

CPU = torch.device("cpu")

SECONDS = 5
"""That a turn is timed at least."""

Pair = tuple[Timing, Timing]
"""Ours and timm's."""
SGD = partial(torch.optim.SGD, lr=0.01, momentum=0.9, weight_decay=1e-5)


def ours(model: str, image_size: int) -> nn.Module:
    """The configured network at the paper's scale."""
    with hydra_configuration():
        words = ("dataset.num_classes=1000", "dataset.channels=3")
        (run,) = compose_runs([f"model={model}", f"dataset.image_size={image_size}", *words])
    return instantiate(run.resolved["model"])


def timms(model: str) -> nn.Module:
    """Timm's network with 1000 classes."""
    return timm.create_model(TIMMS[model], pretrained=False)


def prepare(build: Callable[[], nn.Module], noise: Noise, channels_last: bool) -> Step:
    """Build a network with PyTorch's own initial values, equal in kind on both sides."""
    torch.manual_seed(0)
    network = build()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.reset_parameters()
    return make_step(network, SGD, noise, device=CPU, channels_last=channels_last, bf16=False)


def compare(ours: Callable[[], Step], theirs: Callable[[], Step], pairs: int, threads: int) -> list[Pair]:
    """Time both in turns; who goes first alternates, as a machine's speed drifts."""
    timed = partial(time_apart, device=CPU, threads=threads, seconds=SECONDS)
    found = []
    for pair in range(pairs):
        if pair % 2:
            their = timed(theirs)
            found.append((timed(ours), their))
        else:
            found.append((timed(ours), timed(theirs)))
    return found


def gibibytes(timing: Timing) -> float:
    """Its peak of memory; NaN where the system does not tell."""
    return math.nan if timing.peak_memory is None else timing.peak_memory / 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=[*TIMMS], default=[*TIMMS])
    parser.add_argument("--orders", nargs="+", choices=["contiguous", "channels-last"])
    parser.add_argument("--pairs", type=int, default=7, help="how often the two take turns")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--image-size", type=int, default=299)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    size = arguments.image_size
    noise = Noise(arguments.batch_size, channels=3, image_size=size, num_classes=1000)
    print(f"batch {noise.batch_size}, {size}x{size}, {arguments.threads} threads, torch {torch.__version__}")
    for model in arguments.models:
        builds = (partial(ours, model, size), partial(timms, model))
        for order in arguments.orders or ("contiguous", "channels-last"):
            channels_last = order == "channels-last"
            our_step, their_step = (partial(prepare, build, noise, channels_last) for build in builds)
            measured = compare(our_step, their_step, arguments.pairs, arguments.threads)
            say = f"{model}, {order}: {{}} {{:.2f}} {{}}, timm's {{:.2f}}, median ratio {{:.3f}}"
            for what, unit, of in (
                ("step", "s", [(our.seconds, their.seconds) for our, their in measured]),
                ("peak memory", "GiB", [(gibibytes(our), gibibytes(their)) for our, their in measured]),
            ):
                sides = [statistics.median(side) for side in zip(*of, strict=True)]
                ratio = statistics.median(our / their for our, their in of)
                print(say.format(what, sides[0], unit, sides[1], ratio), flush=True)


if __name__ == "__main__":
    main()

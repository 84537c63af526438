"""Step time and peak memory of full-size Xception and Inception V3, ours against timm's.

    python -m benchmarks.against_timm [--pairs 7] [--batch-size 4] [--threads 1]

Both are trained on the same noise (forward, loss, backward, SGD) with random weights, in turns in one
process, in both memory orders; step times are compared pair by pair and the median of the ratios printed. A
ratio below 1: ours is faster, or needs less memory. Peak memory is that of a fresh process each. Needs timm.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import timm
import torch
from hydra.utils import instantiate
from torch import nn

from experiments.planning import compose_runs, hydra_configuration
from experiments.sizes.training_step import Noise, Step, make_step, peak_resident_memory

TIMMS = {"xception": "legacy_xception", "inception_v3": "inception_v3"}
"""Our option, and timm's network without auxiliary tower."""

CPU = torch.device("cpu")
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


def seconds(step: Step) -> float:
    """Wall time of a step."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def compare_times(our_step: Step, their_step: Step, pairs: int) -> list[tuple[float, float]]:
    """Seconds of a step of both, pair by pair, behind one each that does not count."""
    our_step()
    their_step()
    times = []
    for pair in range(pairs):
        # Who goes first alternates, as the machine's speed drifts.
        if pair % 2:
            their_time = seconds(their_step)
            times.append((seconds(our_step), their_time))
        else:
            our_time = seconds(our_step)
            times.append((our_time, seconds(their_step)))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=[*TIMMS], default=[*TIMMS])
    parser.add_argument("--orders", nargs="+", choices=["contiguous", "channels-last"])
    parser.add_argument("--pairs", type=int, default=7, help="how often the two take turns")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--image-size", type=int, default=299)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-memory", action="store_true", help="leave the fresh processes out")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    size = arguments.image_size
    noise = Noise(arguments.batch_size, channels=3, image_size=size, num_classes=1000)
    print(f"batch {noise.batch_size}, {size}x{size}, {arguments.threads} threads, torch {torch.__version__}")
    for model in arguments.models:
        builds = (partial(ours, model, size), partial(timms, model))
        for order in arguments.orders or ("contiguous", "channels-last"):
            channels_last = order == "channels-last"
            prepares = [partial(prepare, build, noise, channels_last) for build in builds]
            times = compare_times(prepares[0](), prepares[1](), arguments.pairs)
            ratios = [our_time / their_time for our_time, their_time in times]
            our_time, their_time = (statistics.median(side) for side in zip(*times, strict=True))
            print(
                f"{model}, {order}: step {our_time:.2f} s, timm's {their_time:.2f} s, median ratio "
                f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})",
                flush=True,
            )
            if not arguments.no_memory:
                peaks = [peak_resident_memory(start, arguments.threads) for start in prepares]
                if None not in peaks:
                    our_peak, their_peak = (peak / 2**30 for peak in peaks if peak is not None)
                    print(
                        f"{model}, {order}: peak memory {our_peak:.2f} GiB, timm's {their_peak:.2f} GiB, "
                        f"ratio {our_peak / their_peak:.3f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()

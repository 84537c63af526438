"""The learning rate of every step: torch's schedules and the paper's (section 4.3).

ImageNet: x0.94 every 2 epochs. JFT: x0.9 every 3,000,000 samples. Both are functions of the number of steps,
so an interrupted run continues with the same rates.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from lightning_modules.validation import require_integer, require_number, require_one_of

OF_THE_RUN = ("total_steps", "total_iters", "T_max", "T_0")
"""Arguments of torch's schedules that default to the run's number of steps."""


def make_scheduler(
    make: Callable[..., LRScheduler], optimizer: Optimizer, *, total_steps: int, batches: int = 1
) -> LRScheduler:
    """Make a schedule, with unset arguments from the run.

    Args:
        make: A schedule's class or function, or a `functools.partial` of it; so are the parts of
        `SequentialLR`. optimizer: Its rate is the schedule's. total_steps: Schedule steps in the run, for
        `OF_THE_RUN`. batches: Training batches per schedule step.

    Raises:
        ValueError: A required argument is not set.
    """
    parameters = inspect.signature(make).parameters
    given: dict[str, Any] = dict(make.keywords) if isinstance(make, partial) else {}
    of_the_run = dict.fromkeys(OF_THE_RUN, total_steps)
    of_the_run |= {"batches": batches, "max_lr": optimizer.param_groups[0]["lr"]}
    added: dict[str, Any] = {
        name: value for name, value in of_the_run.items() if name in parameters and given.get(name) is None
    }
    if parts := given.get("schedulers"):
        ends = [*given.get("milestones", ()), total_steps]
        starts = [0, *ends[:-1]] if "milestones" in given else [0] * len(parts)
        ends = ends if "milestones" in given else [total_steps] * len(parts)
        added["schedulers"] = [
            make_scheduler(part, optimizer, total_steps=end - start) if isinstance(part, partial) else part
            for part, start, end in zip(parts, starts, ends, strict=False)
        ]
    try:
        if "optimizer" in parameters:
            bound = inspect.signature(make).bind(optimizer=optimizer, **added)
        else:
            bound = inspect.signature(make).bind(optimizer, **added)
    except TypeError as error:
        name = getattr(getattr(make, "func", make), "__name__", "schedule")
        raise ValueError(
            f"recipe.scheduler: {name}: {error}; set it with +recipe.scheduler.NAME=VALUE"
        ) from error
    return make(*bound.args, **bound.kwargs)


def interval_of(scheduler: LRScheduler, chosen: str | None) -> str:
    """When a schedule is stepped, "step" or "epoch", as chosen or needed; ValueError if these differ."""
    require_one_of("recipe.scheduler_interval", chosen, ("step", "epoch", None))
    if not isinstance(scheduler, ReduceLROnPlateau):
        return chosen or "step"
    if chosen == "step":
        raise ValueError(
            "recipe.scheduler_interval=step: must be epoch or null, because ReduceLROnPlateau needs the "
            "validation loss, which is measured once per epoch"
        )
    return "epoch"


def decay_by_epochs(
    optimizer: Optimizer, *, total_steps: int, epochs: int, factor: float, every_epochs: int
) -> LambdaLR:
    """Multiply the rate by `factor` every `every_epochs` epochs.

    `total_steps` are those of all epochs, which are equally long.

    Raises:
        ValueError: A value is out of range.
    """
    _require_factor(factor)
    require_integer("recipe.scheduler.every_epochs", every_epochs, 1)
    require_integer("recipe.scheduler.epochs", epochs, 1)
    steps_per_epoch, rest = divmod(total_steps, epochs)
    if rest:
        raise ValueError(f"recipe.scheduler.epochs={epochs}: must be recipe.epochs, of {total_steps} steps")
    return LambdaLR(optimizer, lambda step: factor ** (step // (steps_per_epoch * every_epochs)))


def decay_by_images(
    optimizer: Optimizer, *, batch_size: int, factor: float, every_images: int, batches: int = 1
) -> LambdaLR:
    """Multiply the rate by `factor` every `every_images` training images, at the first step after them.

    `batch_size` is over all processes; a schedule step has `batches`.

    Raises:
        ValueError: A value is out of range.
    """
    _require_factor(factor)
    require_integer("recipe.scheduler.batch_size", batch_size, 1)
    require_integer("recipe.scheduler.every_images", every_images, 1)
    return LambdaLR(optimizer, lambda step: factor ** (step * batches * batch_size // every_images))


def _require_factor(factor: object) -> None:
    require_number("recipe.scheduler.factor", factor, 0, open_below=True)

"""Learning rates that fall in steps, as in the paper's training (section 4.3).

ImageNet: x0.94 every 2 epochs. JFT: x0.9 every 3,000,000 samples.

Called as every recipe's schedule is, with the optimizer and `total_steps`, and stepped after every
training step. The rate is computed from the number of steps, so it falls at the boundary itself and is
the same in a run that was interrupted.
"""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lightning_modules.validation import require_integer, require_number


def decay_by_epochs(
    optimizer: Optimizer, *, total_steps: int, epochs: int, factor: float, every_epochs: int
) -> LambdaLR:
    """Multiply the rate by `factor` after every so many epochs.

    Args:
        optimizer: Its rate is the one of the first epochs.
        total_steps: Training steps of all epochs. An epoch has the same number of steps as every other,
            whatever number of images its dropped last batch has.
        epochs: The run's.
        factor: Above 0.
        every_epochs: Epochs that share a rate.

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
    optimizer: Optimizer, *, total_steps: int, batch_size: int, factor: float, every_images: int
) -> LambdaLR:
    """Multiply the rate by `factor` whenever so many more images were trained on.

    Args:
        optimizer: Its rate is the one of the first images.
        total_steps: Not needed.
        batch_size: Images of a training step, over all processes.
        factor: Above 0.
        every_images: Images that share a rate. Where they are no multiple of a batch, the first step
            that begins after them has the lower rate.

    Raises:
        ValueError: A value is out of range.
    """
    _require_factor(factor)
    require_integer("recipe.scheduler.batch_size", batch_size, 1)
    require_integer("recipe.scheduler.every_images", every_images, 1)
    return LambdaLR(optimizer, lambda step: factor ** (step * batch_size // every_images))


def _require_factor(factor: object) -> None:
    require_number("recipe.scheduler.factor", factor, 0, open_below=True)

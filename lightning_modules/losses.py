"""Losses that torch lacks, of logits (N, C).

Labels are int64 (N,), one class per image, or float (N, C) in [0, 1], for several classes or mixed images.
"""

from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from lightning_modules.validation import require_number


class BinaryCrossEntropy(nn.Module):
    """Binary cross entropy of each class's sigmoid: sum over classes, mean over images.

    The paper names only "logistic regression"; the reduction is ours. With a mean over classes, each class's
    gradient would shrink with their number.
    """

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        labels = of_every_class(labels, logits)
        return nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="sum") / len(logits)


class Focal(nn.Module):
    """Focal loss of each class's sigmoid (Lin et al. 2017, arXiv:1708.02002).

    The sum over classes and mean over images of `-a_t (1 - p_t)^gamma log(p_t)`, p_t the probability of the
    true label.

    Args:
        gamma: From 0; larger values give less weight to confident classes.
        alpha: a_t of an image's classes, in [0, 1); 1 - alpha for the others. Negative: 1 for all.
    """

    def __init__(self, *, gamma: float, alpha: float) -> None:
        super().__init__()
        require_number("recipe.loss.gamma", gamma, 0)
        require_number("recipe.loss.alpha", alpha, -1, 1)
        self.gamma = gamma
        self.alpha = alpha

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        labels = of_every_class(labels, logits)
        total = sigmoid_focal_loss(logits, labels, alpha=self.alpha, gamma=self.gamma, reduction="sum")
        return total / len(logits)


def of_every_class(labels: Tensor, logits: Tensor) -> Tensor:
    """Labels as (N, C), with the logits' type."""
    if labels.ndim == 1:
        labels = nn.functional.one_hot(labels, logits.shape[1])
    return labels.to(logits.dtype)

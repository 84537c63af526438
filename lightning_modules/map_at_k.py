"""MAP@k with class weights, the paper's metric on FastEval14k (section 4.2, k = 100).

The paper gives no formula: "mean average precision for the top 100 predictions, weighting the contribution of
each class with a score that estimates how common it is in social media images". Ours is the usual MAP@k if
all weights are equal.
"""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_modules.validation import require_integer


class MeanAveragePrecisionAtK(Metric):
    """Mean over images of the weighted average precision of the first k classes.

    An image's classes are ranked by score, ties by class number. With ranks r = 1, ..., min(k, C), c(r) the
    class at rank r, y its label (0 or 1) and w its weight::

        precision(r) = (y_c(1) + ... + y_c(r)) / r
        AP = sum over r of w_c(r) y_c(r) precision(r)  /  sum of the k largest w_c y_c
        MAP = mean of AP over the images

    Our choices: weights apply to labels, not to precision; every image counts the same; the divisor is the
    most that k predictions can collect, so 1 can be reached. Images without a label of positive weight are
    left out; if all are, MAP is NaN.

    Scores are compared as float32 and must not be NaN.

    Args:
        num_classes: C.
        k: Predictions that count.

    Raises:
        ValueError: An argument is not a positive whole number.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    sum_of_precisions: Tensor
    images: Tensor
    class_weights: Tensor

    def __init__(self, num_classes: int, k: int, **metric_options: Any) -> None:
        super().__init__(**metric_options)
        require_integer("num_classes", num_classes, 1)
        require_integer("k", k, 1)
        self.k = min(k, num_classes)
        self.register_buffer("class_weights", torch.ones(num_classes), persistent=False)
        self.add_state("sum_of_precisions", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def set_class_weights(self, weights: Tensor) -> None:
        """Set the class weights (C,), 1 by default, up to a common factor.

        Raises:
            ValueError: The shape is wrong, a weight is negative or not finite, or all are 0.
        """
        if weights.shape != self.class_weights.shape:
            raise ValueError(
                f"class_weights of shape {tuple(weights.shape)}: must be one for each of "
                f"{len(self.class_weights)} classes"
            )
        if not (weights.isfinite().all() and (weights >= 0).all() and weights.any()):
            raise ValueError("class_weights: must be finite and at least 0, not all 0")
        self.class_weights = weights.to(self.class_weights)

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Add a batch: scores (N, C), and labels (N, C), 1 if the image has the class, else 0."""
        ranked = _rank_keys(scores).topk(self.k, dim=1).indices
        relevant = labels.gather(1, ranked).to(self.class_weights)
        ranks = torch.arange(1, self.k + 1, device=relevant.device)
        gains = self.class_weights[ranked] * relevant * relevant.cumsum(1) / ranks
        attainable = (self.class_weights * labels).topk(self.k, dim=1).values.sum(1)
        counted = attainable > 0
        self.sum_of_precisions += (gains.sum(1)[counted] / attainable[counted]).sum()
        self.images += counted.sum()

    def compute(self) -> Tensor:
        return self.sum_of_precisions / self.images


def _rank_keys(scores: Tensor) -> Tensor:
    """Distinct integers (N, C) in the order of the scores; of equal scores, the lower class is larger.

    `topk` breaks ties arbitrarily, and a stable sort of 17,000 classes takes ten times as long.
    """
    bits = (scores.float() + 0.0).view(torch.int32)  # + 0.0: minus zero equals zero
    # IEEE 754: as integers, positive floats have their order and negative ones the opposite.
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()
    num_classes = scores.shape[1]
    return ordered * num_classes - torch.arange(num_classes, device=scores.device)

"""The files of conf/ that are the repository's own; no test is about those that a user adds."""

from pathlib import Path
from typing import Any

from experiments.project import FRAMEWORK_CONF, load_yaml

_NAMES = {
    "augmentation": "crop cutmix dataset flip mixup none rand_augment trivial_augment",
    "claims": "controls paper scale",
    "dataset": (
        "cifar10 fashion_mnist fashion_mnist_embedded fashion_mosaic imagenet imagenet_shards jft "
        "multilabel open_images"
    ),
    "diagnostics": "all dead_units effective_rank gradient_norm none",
    "fully_connected": "none two",
    "hydra/help": "xception_ablations",
    "hydra/output": "records_only",
    "intermediate_activation": "elu none relu",
    "intermediate_norm": "batch_norm none",
    "logger": "csv mlflow none tensorboard wandb",
    "loss": "binary cross_entropy focal label_smoothing task",
    "metric": "calibration_error loss macro_f1 map100 top1 top5",
    "model": (
        "inception_v3 inception_v3_small inception_v3_table3 resnet18 resnet18_small separable_vgg vgg16 "
        "xception xception_small"
    ),
    "norm": "batch_norm group_norm layer_norm network none",
    "operation_order": "depthwise_first pointwise_first",
    "optimizer": "adamw rmsprop rmsprop_jft sgd sgd_imagenet sgd_mosaic",
    "recipe": "embedded embedded_mosaic embedded_polyak imagenet jft",
    "residual": "false projections true",
    "scheduler": "constant cosine decay_by_epochs decay_by_images one_cycle",
    "segments": "channels_16 channels_2 channels_4 channels_8 four one per_channel three",
    "spatial_kernel": "spatially_separable square",
    "study": (
        "activation_by_budget activation_by_data activation_by_width inception_comparison "
        "intermediate_activation jft_comparison operation_order residual residual_by_budget "
        "residual_by_data residual_by_width spectrum spectrum_deep spectrum_multiply_adds spectrum_order "
        "spectrum_width vgg_separable"
    ),
    "trainer": "ddp one_device",
    "tuning": "learning_rate learning_rate_weight_decay",
}
"""Per folder of conf/."""

OPTIONS = [(folder, name) for folder, names in _NAMES.items() for name in names.split()]
"""Folders and names, also of studies, claims and metrics."""


def files_in(folder: str) -> list[Path]:
    """The files of a folder of conf/."""
    return [FRAMEWORK_CONF / folder / f"{name}.yaml" for name in _NAMES[folder].split()]


FILES = [FRAMEWORK_CONF / name for name in ("benchmark.yaml", "config.yaml")]
FILES += [file for folder in _NAMES for file in files_in(folder)]

CLAIM_FILES = files_in("claims")
STUDIES = _NAMES["study"].split()


def file_of(study: str) -> dict[str, Any]:
    """The content of a study's file."""
    content: dict[str, Any] = load_yaml(FRAMEWORK_CONF / "study" / f"{study}.yaml")
    return content

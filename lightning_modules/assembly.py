"""From a resolved configuration to data, module and Lightning's trainer.

Only this module knows which key of conf/ goes where.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn
from torchmetrics import Metric

from lightning_modules.classifier import Classifier
from lightning_modules.diagnostics import Diagnostic, require_diagnostics
from lightning_modules.initialization import all_draws_of, initialize
from lightning_modules.processes import EndAtSigterm
from lightning_modules.tasks import MultiLabel, Task
from lightning_modules.weights import load_weights


def make_data_and_module(config: Mapping[str, Any]) -> tuple[LightningDataModule, Classifier]:
    """Make the data and the module of a run from its resolved configuration.

    Raises:
        ValueError: The weights cannot be used.
    """
    recipe = config["recipe"]
    module = Classifier(
        network=make_network(config),
        task=make_task(config),
        seed=config["seed"],
        loss=instantiate(recipe["loss"]),
        mix=make_mix(config),
        optimizer=make_optimizer(recipe),
        scheduler=instantiate(recipe["scheduler"]),
        scheduler_interval=recipe["scheduler_interval"],
        channels_last=recipe["channels_last"],
        compile_with=compiler_of(config),
        log_every_n_steps=config["logger"].get("every_n_steps", 1),
    )
    if config["weights"] is not None:  # replace the seed's values
        expected, new_head = config["weights_sha256"], config["new_head"]
        load_weights(module.network, config["weights"], expected, new_head=new_head)
    # A checkpoint names its network, so that it can be used as `weights`.
    module.save_hyperparameters({"model": config["model"]}, logger=False)
    return make_data(config), module


def make_network(config: Mapping[str, Any]) -> nn.Module:
    """Make a run's network with initial values from the seed, or its own with `initialize=network`."""
    with all_draws_of(config["seed"], "initial values"):  # for the network's own draws
        network: nn.Module = instantiate(config["model"])
    if config["initialize"] == "seed":
        initialize(network, config["seed"], instantiate(config["recipe"]["weight_init"]))
    return network


def make_optimizer(recipe: Mapping[str, Any]) -> Callable[..., torch.optim.Optimizer]:
    """A function from parameters to the optimizer."""
    optimizer: Callable[..., torch.optim.Optimizer] = instantiate(recipe["optimizer"])
    return partial(optimizer, fused=True) if recipe["fused_optimizer"] else optimizer


def compiler_of(config: Mapping[str, Any]) -> str | None:
    """Backend of torch.compile for training steps; None: not compiled."""
    asked = config["trainer"]["compile"]
    return ("inductor" if asked is True else str(asked)) if asked else None


def set_float32(recipe: Mapping[str, Any]) -> None:
    """Set the precision of float32 on a GPU, for this process."""
    tf32 = bool(recipe.get("tf32"))
    torch.backends.cudnn.allow_tf32 = tf32  # for convolutions, true by default in torch
    torch.set_float32_matmul_precision("high" if tf32 else "highest")


def data_node(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a dataset that its data module takes."""
    return {key: value for key, value in dataset.items() if key not in ("task", "metrics")}


def make_data(config: Mapping[str, Any]) -> LightningDataModule:
    """Make the data module.

    Raises:
        ValueError: It does not support the recipe's augmentation.
    """
    data: LightningDataModule = instantiate(data_node(config["dataset"]))
    transform = instantiate((config["recipe"]["augmentation"] or {}).get("image"))
    if transform is not None:
        if not hasattr(data, "augmentation"):
            raise ValueError(
                f"recipe.augmentation.image: {type(data).__name__} would ignore it, because it has no "
                "attribute `augmentation`"
            )
        data.augmentation = transform
    return data


def make_task(config: Mapping[str, Any]) -> Task:
    """Make the dataset's task, with the run's metrics.

    Raises:
        ValueError: A metric is measured by something else than a torchmetrics.Metric.
    """
    task: Task = instantiate(config["dataset"]["task"])(num_classes=config["dataset"]["num_classes"])
    for name, node in config["metrics"].items():
        if node["measured_by"] is not None:
            metric = instantiate(node["measured_by"])
            if not isinstance(metric, Metric):
                raise ValueError(
                    f"metrics={name}: measured_by makes a {type(metric).__name__}; name a subclass of "
                    f"torchmetrics.Metric in conf/metric/{name}.yaml"
                )
            task.measure(name, metric, training=node["training"])
    return task


def make_mix(config: Mapping[str, Any]) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
    """Make the recipe's mixing of a training batch's images and labels, if any."""
    return instantiate((config["recipe"]["augmentation"] or {}).get("batch"))


def try_loss(config: Mapping[str, Any]) -> None:
    """Try the recipe's loss and mixing on two images of zeros.

    Raises:
        ValueError: The loss does not fit the labels or is not a scalar, or mixing changes the images' shape.
    """
    dataset, task = config["dataset"], make_task(config)
    images = torch.zeros(2, dataset["channels"], dataset["image_size"], dataset["image_size"])
    logits = torch.zeros(2, dataset["num_classes"])
    labels = torch.zeros_like(logits) if isinstance(task, MultiLabel) else torch.zeros(2, dtype=torch.int64)
    loss = instantiate(config["recipe"]["loss"]) or task.loss
    if isinstance(task, MultiLabel) and isinstance(loss, nn.CrossEntropyLoss):
        raise ValueError(
            "recipe.loss._target_=torch.nn.CrossEntropyLoss: takes one label per image, but this dataset has "
            "several; use loss=binary or loss=focal"
        )
    if not isinstance(loss, nn.Module):
        raise ValueError(f"recipe.loss: makes a {type(loss).__name__}; must make a torch.nn.Module")
    if (mix := make_mix(config)) is not None:
        mixed, labels = mix(images, labels)
        if mixed.shape != images.shape:
            raise ValueError(
                f"recipe.augmentation.batch: makes {tuple(mixed.shape)} of {tuple(images.shape)}; "
                "must keep the shape"
            )
    value = loss(logits, labels)
    if value.shape != ():
        raise ValueError(f"recipe.loss: has shape {tuple(value.shape)}; must be a scalar, the mean")


def make_diagnostics(config: Mapping[str, Any]) -> list[Diagnostic]:
    """Make the diagnostics, which are callbacks.

    Raises:
        ValueError: A value is not a diagnostic.
    """
    nodes = config.get("diagnostics") or {}
    # A value that is not a node cannot be instantiated; it is refused below.
    diagnostics = {
        name: instantiate(node) if isinstance(node, Mapping) else node for name, node in nodes.items()
    }
    require_diagnostics(diagnostics)
    return list(diagnostics.values())


def make_trainer(
    config: Mapping[str, Any],
    *,
    callbacks: Sequence[Callback],
    loggers: Sequence[Logger],
    folder: Path,
) -> Trainer:
    """Make the trainer of a run.

    Args:
        config: The run's resolved configuration.
        callbacks: The recipe's averaging is added.
        loggers: May be empty.
        folder: For files that Lightning writes by itself.
    """
    placing, recipe = config["trainer"], config["recipe"]
    set_float32(recipe)
    added: list[Callback] = []
    cluster = None
    if recipe["averaging"] is not None and config["train"]:  # loaded weights are evaluated as they are
        added.append(instantiate(recipe["averaging"]))
    if placing["devices"] * placing["num_nodes"] > 1:
        added.append(EndAtSigterm())
    else:
        # Ignore variables that a scheduler left in the shell (RANK, SLURM_NTASKS): with a rank above 0
        # Lightning would neither warn nor log, with several tasks it would not start.
        rank_zero_only.rank = 0  # type: ignore[attr-defined]
        cluster = LightningEnvironment()
    return Trainer(
        plugins=cluster,
        accelerator=placing["accelerator"],
        devices=placing["devices"],
        num_nodes=placing["num_nodes"],
        strategy=placing["strategy"],
        sync_batchnorm=placing["sync_batchnorm"],
        use_distributed_sampler=False,  # the data module gives each process its own images
        precision=recipe["precision"],
        gradient_clip_val=recipe["gradient_clipping"],
        accumulate_grad_batches=recipe["gradient_accumulation"],
        max_epochs=recipe["epochs"],
        logger=list(loggers) or False,
        log_every_n_steps=1,  # the module logs by itself; a larger number warns of short epochs
        callbacks=[*callbacks, *added],
        num_sanity_val_steps=0,
        deterministic="warn",  # some GPU operations have no deterministic form
        enable_progress_bar=False,  # the caller shows progress
        enable_model_summary=False,
        default_root_dir=folder,
    )

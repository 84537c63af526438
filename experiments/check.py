"""Checks a run before anything is written: sizes, data, results folder.

Checks without torch come first, so that a wrong seed is reported at once.
"""

import inspect
import os
import re
import warnings
from collections.abc import Mapping
from functools import cache, partial
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

from hydra.utils import instantiate
from omegaconf import OmegaConf
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter

from ablations.errors import UserError, as_user_error, did_you_mean, words_of
from ablations.files import check_writable
from ablations.lazily import lazily
from ablations.runs.identity import COMPILE, LEFT_OUT, OF_RECIPE, at
from ablations.runs.records import RunDirectory
from ablations.runs.schema import Count, Size
from ablations.text import amount, memory_size
from ablations.validation import validated
from experiments import environment
from experiments.configuration import (
    NOT_FACTORS,
    RunConfiguration,
)
from experiments.errors import explained, with_file
from experiments.logger import others
from experiments.placement import AUTO, Need
from experiments.project import NOT_GROUPS, current, load_yaml
from lightning_modules.validation import (
    MAX_SEED,
    require_integer,
    require_number,
    require_one_of,
)

with lazily():
    from experiments.sizes import network_cost
    from lightning_modules import assembly, classes, schedules
    from lightning_modules import weights as weights_files
    from lightning_modules.data import images as images_data

if TYPE_CHECKING:
    import torch

CALLED_WITH: Mapping[str, tuple[str, ...]] = {
    "optimizer": ("params",),
    "scheduler": ("optimizer",),
    "weight_init": ("tensor",),
    "averaging": (),
    "loss": (),
}
"""Parts of a recipe, and the positional arguments of each."""

MOST = 1024
"""More threads, or runs per device, are a typing error and would crash."""


def _text(asked: object) -> object:
    if not isinstance(asked, str) or not asked.strip():
        raise ValueError("must be text; put a number in quotes")
    return asked


def _node(asked: object) -> object:
    if not isinstance(asked, dict):
        raise ValueError("must be a node with _target_, as in the files of conf/")
    return asked


def _compiler(asked: object) -> object:
    if not isinstance(asked, bool):
        import torch

        if asked not in (backends := torch.compiler.list_backends(exclude_tags=())):
            raise ValueError(f"must be true, false or one of {', '.join(backends)}")
    return asked


def _count_or_auto(asked: object) -> object:
    if asked != AUTO and not (type(asked) is int and 1 <= asked <= MOST):
        raise ValueError(f"must be a whole number from 1 to {MOST}, or {AUTO}")
    return asked


Rate = Annotated[float, Field(ge=0)]
Momentum = Annotated[float, Field(gt=0, le=1)]
Precision = Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true"]
"""Lightning's, without those that need other libraries."""

VALUES: Mapping[str, Any] = {
    "project": Annotated[Any, AfterValidator(_text)],
    "outcome_version": Count,
    **dict.fromkeys(("train", "keep_checkpoint", "new_head"), bool),
    "initialize": Literal["seed", "network"],
    **dict.fromkeys((f"recipe.{key}" for key in ("channels_last", "tf32", "fused_optimizer")), bool),
    **dict.fromkeys((f"recipe.{key}" for key in ("epochs", "batch_size", "gradient_accumulation")), Size),
    "recipe.precision": Precision,
    "recipe.norm_momentum": Momentum,
    "recipe.gradient_clipping": Annotated[float, Field(gt=0)] | None,
    "recipe.scheduler_interval": Literal["step", "epoch"] | None,
    "recipe.optimizer": Annotated[Any, AfterValidator(_node)],
    "recipe.optimizer.lr": Rate,
    "recipe.scheduler": Annotated[Any, AfterValidator(_node)],
    "recipe.scheduler.max_lr": Rate,
    "model.norm.momentum": Momentum,
    "trainer.threads": Annotated[int, Field(ge=1, le=MOST)],
    "trainer.runs_per_device": Annotated[Any, AfterValidator(_count_or_auto)],
    COMPILE: Annotated[Any, AfterValidator(_compiler)],
    "logger.every_n_steps": Size,
}
"""What the keys may be that no `_target_` takes, as pydantic's types."""


def check_run(run: RunConfiguration) -> None:
    """Raise UserError if a user got anything about a run wrong."""
    environment.check_launcher(run.processes)
    below = (f"runs/{run.run_id}", "tables", "figures")  # tables are written at the end
    check_writable(f"results_dir={run.results_dir}", run.results_dir, below)
    check_values(run)
    run.with_measured(RunDirectory(run.results_dir, run.run_id))
    try:
        _check_parts(run)
    except ValueError as error:
        raise UserError(with_file(str(error))) from error


def check_values(run: RunConfiguration) -> None:
    """Raise UserError for a wrong value that can be found without building parts."""
    check_seed(run)
    check_keys(run)
    _check_values(run)
    check_kinds(run)
    check_factors(run)
    with as_user_error():
        _check_relations(run)


def check_seed(run: RunConfiguration) -> None:
    """Raise UserError if the seed is out of range."""
    with as_user_error():
        require_integer("seed", run.seed, 0, MAX_SEED)


def check_keys(run: RunConfiguration) -> None:
    """Raise UserError for an added key (`+key=value`) that would be ignored.

    A node's `_target_` refuses unknown arguments itself.
    """
    project = current()
    top = {*project.run_keys(), *run.choices} - {*NOT_GROUPS, *OF_RECIPE}
    nodes = {"": (run.resolved, top)}
    for group, option in run.choices.items():
        node = run.resolved.get(group)
        if isinstance(node, dict) and "_target_" not in node and option in project.options(group):
            # A run that several studies share has the diagnostics of all.
            options = project.options(group) if group == "diagnostics" else [option]
            keys = {key for name in options for key in project.keys_of(group, name)}
            added = {*LEFT_OUT.get(group, ()), *(OF_RECIPE if group == "recipe" else ())}
            nodes[group] = (node, keys | added)
    for path, (node, known) in nodes.items():
        if unknown := sorted(node.keys() - known):
            meant = did_you_mean(unknown[0], known) or f"; known: {', '.join(sorted(known))}"
            raise UserError(f"unknown key {f'{path}.{unknown[0]}'.lstrip('.')}{meant}")


def check_kinds(run: RunConfiguration) -> None:
    """Raise UserError if a value has another type than in its option's file.

    In a node with `_target_` only booleans are checked; the target checks the rest.
    """
    project = current()
    _check_kinds("", project.run_keys(), run.resolved)
    for group, option in run.choices.items():
        path = f"recipe.{group}" if group in OF_RECIPE else group
        node = run.resolved["recipe"].get(group) if group in OF_RECIPE else run.resolved.get(group)
        if option in project.options(group):
            _check_kinds(f"{path}.", project.keys_of(group, option), node)


def _check_kinds(path: str, expected: Any, given: Any) -> None:
    if not isinstance(expected, dict) or not isinstance(given, dict):
        return
    own = "_target_" not in expected
    for key in expected.keys() & given.keys():
        kind, value = expected[key], given[key]
        if f"{path}{key}" in VALUES and not isinstance(kind, dict):
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        nested = isinstance(value, list) or (isinstance(value, dict) and "_target_" not in value)
        if isinstance(kind, dict):
            if own and not isinstance(value, dict) and value is not None:
                raise UserError(f"{path}{key}={value}: must be a node with {', '.join(map(str, kind))}")
            _check_kinds(f"{path}{key}.", kind, value)
        elif isinstance(kind, bool):
            if not isinstance(value, bool):
                raise UserError(f"{path}{key}={value}: must be true or false")
        elif key == "_target_" and not isinstance(value, str):
            raise UserError(f"{path}{key}={value}: must be the name of a function or class")
        elif own and isinstance(kind, int | float) and not (number or value is None):
            raise UserError(f"{path}{key}={value}: must be a number")
        elif own and nested and (kind is None or (isinstance(kind, str) and "${" not in kind)):
            raise UserError(f"{path}{key}={value}: must be one value, not several")


def check_factors(run: RunConfiguration) -> None:
    """Raise UserError for a choice of a factor that the network would ignore.

    A network's factors are the groups that its file in conf/model interpolates.
    """
    model = run.choices.get("model")
    project = current()
    names = project.options("model")
    if model not in names:
        return  # not from this project
    factors = {name: _groups_read_by(name) - set(NOT_FACTORS) for name in names}
    for group in sorted(set().union(*factors.values()) - factors[model]):
        option, default = run.choices.get(group), project.default_option(group)
        file = None if default is None else project.option_file(group, default)
        node = None if file is None else OmegaConf.load(file)
        as_by_default = OmegaConf.to_container(OmegaConf.create({**run.resolved, group: node}), resolve=True)
        assert isinstance(as_by_default, dict)
        if group in run.resolved and run.resolved[group] != as_by_default[group]:
            chosen = group if option == default else f"{group}={option}"
            having = ", ".join(sorted(name for name in factors if group in factors[name]))
            raise UserError(
                f"{chosen}: model={model} does not have this factor; leave it at {default} or choose one of: "
                f"{having}"
            )


def _groups_read_by(model: str) -> set[str]:
    """First words of all interpolations, `${a.b}`, in a model's file and its parents."""
    nodes = map(load_yaml, current().option_files("model", model))
    return {name for node in nodes for name in re.findall(r"\$\{(\w+)[.}]", str(node))}


def _check_values(run: RunConfiguration) -> None:
    for key, kind in VALUES.items():
        if (value := at(run.resolved, key, ...)) is not ...:
            validated(_adapter(kind), value, "", key)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind, config=ConfigDict(strict=True))


def _check_relations(run: RunConfiguration) -> None:
    config, recipe, logger = run.resolved, run.resolved["recipe"], run.resolved["logger"]
    if not config["train"] and config["weights"] is None:
        raise ValueError("train=False: needs weights to evaluate; add weights=FILE")
    if config["weights"] is None and config["weights_sha256"] is not None:
        raise ValueError(f"weights_sha256={config['weights_sha256']}: needs a file; add weights=FILE")
    if config["new_head"] and (config["weights"] is None or not config["train"]):
        raise ValueError("new_head=True: needs weights=FILE and train=true")
    if config["train"] and recipe["batch_size"] % run.processes:
        raise ValueError(
            f"recipe.batch_size={recipe['batch_size']}: must be a multiple of the {run.processes} processes "
            "(trainer.devices times trainer.num_nodes)"
        )
    if run.processes > 1:
        require_one_of("trainer.strategy", config["trainer"]["strategy"], ("ddp",))
    _check_tf32(recipe, config["trainer"])
    if logger.get("backend") is not None:
        check_logger(logger)
    for name, node in others(logger).items():
        if not isinstance(node.get("_target_"), str):
            raise ValueError(f"logger.{name}: must have a _target_, one of Lightning's loggers")


def _check_tf32(recipe: Mapping[str, Any], trainer: Mapping[str, Any]) -> None:
    """Refuse `recipe.tf32` without effect, which would only change the run's identity."""
    if not recipe["tf32"]:
        return
    for key, value, allowed in (
        ("recipe.precision", recipe["precision"], ("32-true",)),
        ("trainer.accelerator", trainer["accelerator"], ("auto", "gpu", "cuda")),
    ):
        if value not in allowed:
            raise ValueError(
                f"recipe.tf32=true: has no effect with {key}={value}; choose recipe.tf32=false or "
                f"{key}={' or '.join(allowed)}"
            )


def check_logger(
    logger: Mapping[str, Any], modes: tuple[str, ...] = ("offline", "online", "disabled")
) -> None:
    """Raise ValueError if a setting of the configuration's `logger` is invalid."""
    mode = logger.get("mode")
    key = "WANDB_MODE" if os.environ.get("WANDB_MODE") == mode else "logger.mode"
    require_one_of(key, mode, modes)
    for name in ("project", "entity", "dir", "group", "job_type"):
        value = logger.get(name)
        if not isinstance(value, str) and not (value is None and name not in ("project", "dir")):
            raise ValueError(
                f"logger.{name}={value}: must be text; put a number in quotes: \"logger.{name}='...'\""
            )


def _check_parts(run: RunConfiguration) -> None:
    import torch
    from lightning.pytorch.accelerators import AcceleratorRegistry

    config = run.resolved
    accelerators = ("auto", "gpu", *AcceleratorRegistry.available_accelerators())
    require_one_of("trainer.accelerator", config["trainer"]["accelerator"], accelerators)
    recipe = config["recipe"]
    kinds = {"optimizer": torch.optim.Optimizer, "scheduler": torch.optim.lr_scheduler.LRScheduler}
    for part, first in CALLED_WITH.items():
        if isinstance(recipe.get(part), dict):
            classes.require_arguments(f"recipe.{part}", recipe[part], first, kinds.get(part, object))
    with network_cost.without_memory():
        network = explained("model", lambda: instantiate(config["model"]))
        optimizer = explained("recipe", lambda: instantiate(recipe["optimizer"])(network.parameters()))
        _check_optimization(recipe, optimizer)
        explained("recipe.weight_init", lambda: instantiate(recipe["weight_init"])(torch.empty(2, 2, 3, 3)))
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._NormBase):
            require_number(f"model: {type(module).__name__}.eps", module.eps, 0)
    for diagnostic in explained("diagnostics", lambda: assembly.make_diagnostics(config)):
        diagnostic.require_layers(network)
        if diagnostic.of_training and not config["train"]:
            raise ValueError(f"diagnostics.{diagnostic.name}: needs training steps, but train=false has none")
        if config["trainer"]["compile"]:
            raise ValueError(
                f"diagnostics.{diagnostic.name}: measures single layers, which torch.compile merges: choose "
                "trainer.compile=false or diagnostics=none"
            )
    if (weights := config["weights"]) is not None:
        weights_files.fit_weights(
            network, weights_files.read_weights(weights), weights, new_head=config["new_head"]
        )
    _check_trainer(run)
    for name, node in others(config["logger"]).items():
        with TemporaryDirectory() as elsewhere:  # some write files
            texts = {key: value for key, value in node.items() if isinstance(value, str)}
            moved = {key: text.replace(config["results_dir"], elsewhere) for key, text in texts.items()}
            explained(f"logger.{name}", partial(instantiate, {**node, **moved}))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    what = f"model: {'training' if config['train'] else 'holding'} its {parameters:.4g} parameters"
    _require_memory(what, network_cost.training_memory(network, config), run)
    explained("dataset.task", lambda: assembly.make_task({**config, "metrics": {}}))
    task = explained("metrics", lambda: assembly.make_task(config))
    for name, node in config["metrics"].items():
        if node["labels"] not in (None, task.labels):
            raise ValueError(
                f"metrics={name}: needs {_labels(node['labels'])} per image; "
                f"dataset={run.choices.get('dataset')} has {_labels(task.labels)}"
            )
    explained("recipe.loss", lambda: assembly.try_loss(config))
    explained(
        "dataset", lambda: _check_data(assembly.make_data(config), config["dataset"], train=config["train"])
    )
    _check_step_memory(run, network)


def _check_step_memory(run: RunConfiguration, network: "torch.nn.Module") -> None:
    """Check the memory of a batch's images, then of a training step.

    In between, counting the network shows whether it takes these images.
    """
    config = run.resolved
    size, batch = config["dataset"]["image_size"], config["recipe"]["batch_size"] if config["train"] else 1
    images = 4 * batch * config["dataset"]["channels"] * size**2  # as 32-bit numbers
    _require_memory(f"dataset.image_size={size}: a batch of {batch} images", images, run)
    explained("model", lambda: network_cost.count_network(config))
    if config["train"]:
        of_network = network_cost.training_memory(network, config)
        per_process = batch // run.processes
        try:
            of_step = network_cost.activation_memory(network, config, per_process)
        except Exception as error:  # some networks need real values
            name = config["model"]["_target_"]
            warnings.warn(f"{name}: memory of a training step not checked: {words_of(error)}", stacklevel=2)
            return
        told = f"{memory_size(of_network)} for the network and {memory_size(of_step)} for activations"
        _require_memory(f"recipe.batch_size={batch}: a training step, {told},", of_network + of_step, run)


def _check_optimization(recipe: Mapping[str, Any], optimizer: Any) -> None:
    """Check optimizer and schedule by one step of each."""
    import torch

    name = recipe["optimizer"]["_target_"]
    if not isinstance(optimizer, torch.optim.Optimizer):
        kind = type(optimizer).__name__
        raise ValueError(f"recipe.optimizer._target_={name}: makes a {kind}, not an optimizer")
    if recipe["fused_optimizer"]:
        if "fused" not in inspect.signature(type(optimizer)).parameters:
            kind = type(optimizer).__name__
            raise ValueError(f"recipe.fused_optimizer=True: {kind} has no fused form; set it to false")
        if recipe["precision"] == "16-mixed" and recipe["gradient_clipping"] is not None:
            raise ValueError(
                "recipe.fused_optimizer=True: must be false with recipe.precision=16-mixed and "
                "recipe.gradient_clipping, because it unscales gradients itself"
            )
    scheduler = explained(
        "recipe.scheduler",
        lambda: schedules.make_scheduler(
            instantiate(recipe["scheduler"]), optimizer, total_steps=recipe["epochs"] * 100
        ),
    )
    if not isinstance(scheduler, torch.optim.lr_scheduler.LRScheduler):
        name, kind = recipe["scheduler"]["_target_"], type(scheduler).__name__
        raise ValueError(f"recipe.scheduler._target_={name}: makes a {kind}, not a schedule")
    schedules.interval_of(scheduler, recipe["scheduler_interval"])
    with torch.device("cpu"):
        probe = torch.nn.Parameter(torch.ones(2, 2))
        probe.grad = torch.ones(2, 2)
        explained("recipe.optimizer", lambda: assembly.make_optimizer(recipe)([probe]).step(lambda: 1.0))


def _labels(number: str) -> str:
    return "one label" if number == "single" else "several labels"


def _check_data(data: Any, dataset: Mapping[str, Any], *, train: bool) -> None:
    """Prepare a data module; warn about files that are not read."""
    import torch

    data.prepare_data()
    if train:
        with warnings.catch_warnings(action="ignore"):  # the run itself warns
            data.train_dataloader()  # refuses a batch that is larger than the training part
        if (transform := getattr(data, "augmentation", None)) is not None:
            size = dataset["image_size"]
            black = torch.zeros(dataset["channels"], size, size, dtype=torch.uint8)
            explained("recipe.augmentation.image", lambda: images_data.transformed(black, transform, 0))
    if unread := getattr(data, "unread", None):
        some = ", ".join(unread[:3]) + (", ..." if len(unread) > 3 else "")
        warnings.warn(
            f"{data.key}: skipped {len(unread)} entries that are not images in a class's folder ({some})",
            stacklevel=2,
        )


def _require_memory(what: str, needed: int, run: RunConfiguration) -> None:
    """Require that the smallest device has the `needed` bytes for each of its processes.

    CPU cores share the machine's memory.
    """
    need = Need.of(run)
    sizes = [device.memory for device in need.devices if device.memory is not None]
    available = min(sizes, default=environment.memory())
    sharing = need.per_device if sizes else run.devices
    if needed * sharing <= available:
        return
    kind = need.devices[0].kind
    if need.per_device > 1 and sizes and needed <= available:
        raise ValueError(
            f"trainer.runs_per_device={need.per_device}: {what} needs at least {memory_size(needed)} per "
            f"run; {kind} has {memory_size(available)}: use at most {available // needed}"
        )
    each = f" in {amount(sharing, 'process', 'processes')}" if sharing > 1 else ""
    raise ValueError(
        f"{what} needs at least {memory_size(needed * sharing)}{each}; {kind} has {memory_size(available)}"
    )


def _check_trainer(run: RunConfiguration) -> None:
    """Make the trainer, which refuses missing devices and processes."""
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    environment.quieten()
    config = run.resolved
    make = partial(assembly.make_trainer, config, callbacks=[], loggers=[], folder=run.results_dir)
    try:
        with warnings.catch_warnings(action="ignore"):  # the run itself warns
            trainer = explained("trainer", make)
        if run.processes > 1:
            strategy: Any = trainer.strategy  # with several processes it has a cluster
            strategy.cluster_environment.validate_settings(run.devices, trainer.num_nodes)
    except (MisconfigurationException, RuntimeError) as error:
        raise ValueError(f"trainer: {' '.join(str(error).split())}") from error
    precision = config["recipe"]["precision"]
    if trainer.precision != precision:  # Lightning falls back if the device lacks it
        raise ValueError(
            f"recipe.precision={precision}: not supported by this device; use {trainer.precision}"
        )
    if config["trainer"]["sync_batchnorm"] and trainer.strategy.root_device.type != "cuda":
        raise ValueError("trainer.sync_batchnorm=True: needs a GPU; set it to false")
    Need.of(run)  # enough devices

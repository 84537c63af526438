"""What loggers get of a run: name, group, tags and summary."""

import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from hydra.utils import instantiate

from ablations.lazily import lazily
from ablations.runs.identity import as_json
from ablations.runs.records import DONE
from ablations.runs.schema import COMPLETED
from experiments.configuration import RunConfiguration

with lazily():
    from lightning_modules import loggers as tolerant
    from lightning_modules import wandb_logging

if TYPE_CHECKING:
    from lightning_modules.loggers import TolerantLogger

LONGEST_TAG = 64
"""W&B's limit."""


def is_logged(options: Mapping[str, Any]) -> bool:
    """Whether a run with these settings is logged to W&B."""
    switched_off = os.environ.get("WANDB_DISABLED", "").lower() not in ("", "0", "false", "no")
    return options.get("backend") is not None and options.get("mode") != "disabled" and not switched_off


def others(options: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The nodes of Lightning's other loggers, by name."""
    return {name: node for name, node in options.items() if isinstance(node, Mapping)}


def make_loggers(configuration: RunConfiguration, record: Mapping[str, Any]) -> "list[TolerantLogger]":
    """The loggers of a run.

    In a node's texts, `{run_id}`, `{name}` and `{group}` are replaced by the run's.
    """
    options = configuration.resolved["logger"]
    choices, arm = configuration.choices, options.get("job_type") or configuration.arm_name
    name = f"{arm} seed={configuration.seed}"  # what differs comes first, because lists cut names
    config = {"choices": dict(choices), **as_json(configuration.resolved)}
    loggers: list[tolerant.TolerantLogger] = []
    if is_logged(options):
        varied = [] if configuration.arm_name == "default" else configuration.arm_name.split()
        tags = [choices.get("model", ""), choices.get("dataset", ""), *varied]
        loggers.append(
            wandb_logging.TolerantWandbLogger(
                mode=options["mode"],
                entity=options["entity"],
                project=options["project"],
                folder=options["dir"],
                run_id=record["wandb_run_id"],
                name=name,
                group=options["group"],
                job_type=arm,
                tags=[tag[:LONGEST_TAG] for tag in tags if tag],
                config=config,
            )
        )
    texts = {"run_id": configuration.run_id, "name": name, "group": options.get("group") or ""}
    for key, node in others(options).items():
        alone = FileLock(configuration.results_dir / ".loggers.lock")
        make = partial(instantiate, with_texts(node, texts))
        loggers.append(tolerant.TolerantLogger(key, make, config, alone))
    return loggers


def with_texts(node: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, Any]:
    """A logger's node with the run's texts filled in, safe as parts of a path."""
    safe = {f"{{{name}}}": re.sub(r"[^\w=., -]", "_", text) for name, text in texts.items()}

    def fill(value: Any) -> Any:
        if isinstance(value, str):
            return re.sub(r"\{\w+\}", lambda found: safe.get(found[0], found[0]), value)
        return value

    return {key: fill(value) for key, value in node.items()}


def summary(record: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a record that W&B shows next to a run's name."""
    shown = ("status", "parameters", "multiply_adds", "depth", "steps_per_second", "diverged_at_step")
    metrics = {tolerant.key_of(name): value for name, value in (record["metrics"] or {}).items()}
    return metrics | {key: record[key] for key in shown}


def end(loggers: Sequence["TolerantLogger"], record: Mapping[str, Any]) -> str | None:
    """Log how a run ended; returns its W&B id, or None."""
    for logger in loggers:
        logger.log_end(summary(record), (record["git"] or {}).get("changes") or {})
        logger.finish(succeeded=record["status"] == COMPLETED, ended=record["status"] in DONE)
    return next((logger.version for logger in loggers if logger.version is not None), None)

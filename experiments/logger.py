"""What Weights & Biases is told of a run: its name, group and tags, and what stands beside its name."""

import os
from collections.abc import Mapping
from typing import Any

from ablations.runs.identity import as_json
from experiments.configuration import RunConfiguration
from lightning_modules.wandb_logging import TolerantWandbLogger


def is_logged(options: Mapping[str, Any]) -> bool:
    """Whether a run with these settings of the logger is logged to W&B."""
    switched_off = os.environ.get("WANDB_DISABLED", "").lower() not in ("", "0", "false", "no")
    return options["backend"] is not None and options.get("mode") != "disabled" and not switched_off


def make_logger(configuration: RunConfiguration, record: Mapping[str, Any]) -> TolerantWandbLogger | None:
    """The logger of a run; None where nothing is logged."""
    options = configuration.resolved["logger"]
    if not is_logged(options):
        return None
    choices, arm = configuration.choices, options["job_type"] or configuration.arm_name
    return TolerantWandbLogger(
        mode=options["mode"],
        entity=options["entity"],
        project=options["project"],
        folder=options["dir"],
        run_id=record["wandb_run_id"],
        name=f"{arm} seed={configuration.seed}",  # what tells runs apart comes first: lists cut names
        group=options["group"],
        job_type=arm,
        tags=[*(f"{group}={option}" for group, option in choices.items()), f"seed={configuration.seed}"],
        config=as_json(configuration.resolved),
    )


def summary(record: Mapping[str, Any]) -> dict[str, Any]:
    """What of a record W&B shows beside a run's name."""
    shown = ("status", "parameters", "multiply_adds", "depth", "steps_per_second", "diverged_at_step")
    return (record["metrics"] or {}) | {key: record[key] for key in shown}

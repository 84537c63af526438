"""Measures size and speed of networks on this machine for table 3; see `ablations.evidence.timings`.

::

    python -m ablations benchmark
    python -m ablations benchmark batch_size=8 image_size=299 seconds=10 rounds=12
    python -m ablations benchmark models=inception_v3,xception fully_connected=two trainer.threads=2

It times training steps (forward, loss, backward, optimizer) with `torch.utils.benchmark`, in both memory
orders, in float32 and on a GPU in bfloat16. Networks take turns in rounds, because a machine's speed drifts;
each turn is a new process. Networks are built as for a run.

Every turn is a record in results/runs. A round is measured unless all its records exist, for the same
networks, machine (name, device, threads) and version of PyTorch. So a second command measures nothing, and
`rounds=12` adds six.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from hydra.utils import instantiate
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter
from pydantic.json_schema import SkipJsonSchema

from ablations.errors import UserError, as_user_error
from ablations.evidence.timings import IMAGE_SIZE, MODELS, NUM_CLASSES, output_of
from ablations.evidence.verdicts import MIN_PAIRS
from ablations.files import check_writable
from ablations.runs.identity import is_outside_identity
from ablations.runs.records import DONE, RunDirectory
from ablations.runs.schema import COMPLETED
from ablations.text import amount
from ablations.validation import WRITTEN, validated
from experiments import environment
from experiments.check import check_keys
from experiments.configuration import (
    RunConfiguration,
    home_expanded,
    parse_override,
)
from experiments.errors import explained
from experiments.planning import compose_runs, hydra_configuration
from experiments.project import current
from experiments.run import begin_record, now
from experiments.sizes.network_cost import NetworkCost, count_network, without_memory
from experiments.sizes.training_step import Timing, prepare_step, time_apart
from lightning_modules.validation import require_integer, require_one_of

BATCH_SIZES = {"cpu": 4, "cuda": 32}
"""Ours; a CPU's limit is time, not memory."""

AGAINST = {"models": "xception,inception_v3", "seconds": "2", "rounds": "5"}
"""Defaults of the comparison with libraries."""


def _several(given: object) -> object:
    names = tuple(given.split(",")) if isinstance(given, str) else given
    if isinstance(names, tuple) and len(set(names)) < len(names):
        raise ValueError("duplicate value; give each once")
    return names


Count = Annotated[int, Field(ge=1)]
SEVERAL = BeforeValidator(_several)
"""Values separated by commas."""


class Options(BaseModel):
    """Options of "benchmark", typed as KEY=VALUE."""

    model_config = WRITTEN | ConfigDict(frozen=True)

    models: Annotated[tuple[str, ...], SEVERAL] = tuple(MODELS)
    """Options of conf/model; ratios are to the first."""
    image_size: Count = IMAGE_SIZE
    """Height and width in pixels."""
    num_classes: Count = NUM_CLASSES
    """Outputs of the network."""
    batch_size: Count | None = None
    """Images per step; None: `BATCH_SIZES`."""
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 5
    """Minimum time of a turn."""
    rounds: Count = MIN_PAIRS
    """Turns of each network in each setting."""
    results_dir: Path = Path("results")
    """Folder of the records, and of the tables."""
    overrides: SkipJsonSchema[tuple[str, ...]] = ()
    """Of the networks (`fully_connected=two`) and the device (`trainer.accelerator=cpu`)."""
    against: Annotated[tuple[Literal["timm", "torchvision"], ...], SEVERAL] = ()
    """Libraries to compare with, instead of measuring table 3 (`experiments.speed`). The rest needs it."""
    precisions: Annotated[tuple[Literal["32-true", "tf32", "bf16-mixed"], ...], SEVERAL] = ()
    """Of arithmetic; (): all that are faster on the device."""
    orders: Annotated[tuple[Literal["contiguous", "channels-last"], ...], SEVERAL] = (
        "contiguous",
        "channels-last",
    )
    """Memory orders."""
    compiled: Annotated[tuple[Literal["false", "true", "eager"], ...], SEVERAL] = ("false",)
    """true: torch.compile with inductor; eager: with a backend that needs no compiler and is not faster."""

    @property
    def of_networks(self) -> tuple[str, ...]:
        """Overrides that change the networks."""
        return tuple(word for word in self.overrides if not is_outside_identity(word.partition("=")[0]))

    @property
    def output(self) -> str:
        """Stem of the table's files."""
        return output_of(self.models, self.image_size, self.num_classes, self.of_networks)


def parse_options(words: Sequence[str]) -> Options:
    """Read the arguments of "benchmark"; UserError if one is unknown or invalid."""
    given: dict[str, object] = {"results_dir": current().place(current().run_keys()["results_dir"])}
    if any(word.startswith("against=") for word in words):
        given |= AGAINST
    overrides = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"{word}: expected KEY=VALUE")
        if _is_override(word):
            overrides.append(word)
        else:
            given[key] = home_expanded(key, value) if key == "results_dir" else value
    return validated(TypeAdapter(Options), given).model_copy(update={"overrides": tuple(overrides)})


def _is_override(word: str) -> bool:
    """Whether a word sets a part of the networks or of the device; nothing else is read."""
    override = parse_override(word)
    if override is None or override.is_sweep_override():
        return False
    key, _, rest = override.key_or_group.partition(".")
    of_the_benchmark = ("model", "dataset", "recipe", "logger", "study", "trainer", "hydra")
    return (
        bool(rest) if key in ("model", "trainer") else key not in of_the_benchmark and current().is_group(key)
    )


def find_device(trainer: Mapping[str, Any]) -> torch.device:
    """The device of `trainer.accelerator`; sets the CPU's `trainer.threads`. ValueError if one is invalid."""
    accelerator = trainer["accelerator"]
    require_one_of("trainer.accelerator", accelerator, ("auto", "cpu", "gpu", "cuda"))
    require_integer("trainer.threads", trainer["threads"], 1)
    torch.set_num_threads(trainer["threads"])
    if accelerator == "cpu" or (accelerator == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ValueError(f"trainer.accelerator={accelerator}: found no CUDA device; use cpu")
    return torch.device("cuda", torch.cuda.current_device())


def compose_networks(options: Options) -> dict[str, list[RunConfiguration]]:
    """Configurations of every network, one per round.

    Raises:
        UserError: A choice is invalid.
        HydraException: An option or key does not exist.
    """
    words = [
        "dataset.channels=3",
        f"dataset.image_size={options.image_size}",
        f"dataset.num_classes={options.num_classes}",
        "logger=none",
        *options.overrides,
    ]
    found = {}
    with hydra_configuration():
        for model in options.models:
            found[model] = compose_runs([f"model={model}", *words], range(options.rounds))
            check_keys(found[model][0])
    return found


def plan_rounds(
    options: Options, networks: Mapping[str, Sequence[RunConfiguration]], device: torch.device
) -> list[list[RunConfiguration]]:
    """The turns of each round. Networks alternate; every other round is reversed."""
    bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
    whole = options.seconds == int(options.seconds)
    timing = {
        "models": list(options.models),
        "overrides": list(options.of_networks),
        "seconds": int(options.seconds) if whole else options.seconds,
        "machine": {"host": environment.process()["host"], **environment.device(device)},
        "torch": version("torch"),
    }
    settings = [
        {"batch_size": options.batch_size or BATCH_SIZES[device.type], "precision": precision}
        | {"channels_last": channels_last}
        for precision in ("32-true", "bf16-mixed")[: 1 + bf16]
        for channels_last in (False, True)
    ]

    def turn(number: int, model: str, setting: Mapping[str, Any]) -> RunConfiguration:
        run = networks[model][number]
        own = {"recipe": run.resolved["recipe"] | setting, "timing": timing}
        return replace(run, resolved={**run.resolved, **own, "results_dir": str(options.results_dir)})

    rounds = [
        [turn(number, model, setting) for setting, model in product(settings, options.models)]
        for number in range(options.rounds)
    ]
    return [turns[:: -1 if number % 2 else 1] for number, turns in enumerate(rounds)]


def benchmark(options: Options) -> None:
    """Measure the missing rounds, a record per turn.

    Raises:
        UserError: A choice is invalid.
    """
    if needing := [key for key in ("precisions", "orders", "compiled") if key in options.model_fields_set]:
        raise UserError(f"{needing[0]}: needs against=timm, torchvision or both")
    check_writable(f"results_dir={options.results_dir}", options.results_dir, ["runs", "tables"])
    networks = compose_networks(options)
    resolved = {model: runs[0].resolved for model, runs in networks.items()}
    with as_user_error():
        with without_memory():
            for config in resolved.values():
                explained("model", partial(instantiate, config["model"]))
        costs = {model: count_network(config) for model, config in resolved.items()}
        device = find_device(resolved[options.models[0]]["trainer"])
    rounds = plan_rounds(options, networks, device)
    done = 0
    for number, turns in enumerate(rounds, 1):
        if all(_directory(turn).status() in DONE for turn in turns):
            done += 1
            continue
        for turn in turns:
            model, recipe = turn.choices["model"], turn.resolved["recipe"]
            speed = _measure(turn, costs[model], device)["steps_per_second"]
            order = "channels-last" if recipe["channels_last"] else "contiguous"
            what = f"{model}, {order}, {recipe['precision']}: {speed:.3g} steps/second"
            print(f"round {number} of {options.rounds}: {what}", file=sys.stderr)
    if done:
        print(
            f"{amount(done, 'round')} of {options.rounds} already measured on this machine", file=sys.stderr
        )


def _directory(turn: RunConfiguration) -> RunDirectory:
    return RunDirectory(turn.results_dir, turn.run_id)


def _measure(turn: RunConfiguration, cost: NetworkCost, device: torch.device) -> dict[str, Any]:
    """Time a turn and write its record.

    Raises:
        UserError: The batch does not fit, or another process is measuring it.
    """
    directory = _directory(turn)
    record = begin_record(turn, directory)
    start = time.perf_counter()
    timing = _timed(turn.resolved, device)
    record |= asdict(cost) | {
        "status": COMPLETED,
        "finished": now(),
        "steps": timing.steps,
        "steps_per_second": 1 / timing.seconds,
        "wall_time_s": time.perf_counter() - start,
        "device": environment.device(device) | {"processes": 1, "peak_memory": timing.peak_memory},
        "git": environment.imported(record["git"]),
    }
    with directory.lock() as held:
        if not held:
            raise UserError(f"{directory.path}: another process is measuring it")
        directory.write(record)
    return record


def _timed(config: Mapping[str, Any], device: torch.device) -> Timing:
    batch = f"batch_size={config['recipe']['batch_size']}"
    try:
        return time_apart(
            partial(prepare_step, config, device),
            device=device,
            threads=config["trainer"]["threads"],
            seconds=config["timing"]["seconds"],
        )
    except (MemoryError, torch.cuda.OutOfMemoryError) as error:
        raise UserError(f"{batch}: too large for this device's memory") from error
    except (RuntimeError, ValueError) as error:  # a CPU's allocator; BN on one pixel of one image
        text = " ".join(str(error).split())
        raise UserError(f"{batch}, image_size={config['dataset']['image_size']}: {text}") from error

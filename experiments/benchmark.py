"""Measures size and speed of networks on this machine, as `conf/benchmark.yaml` says.

::

    python -m ablations benchmark
    python -m ablations benchmark batch_size=8 image_size=299 seconds=10 rounds=12
    python -m ablations benchmark models=inception_v3,xception fully_connected=two trainer.threads=2
    python -m ablations benchmark against=timm,torchvision precisions=bf16-mixed compiled=false,true

It times training steps (forward, loss, backward, optimizer) and, against libraries, inference on noise, with
`torch.utils.benchmark`: per precision, memory order and compilation. Within a setting, networks take turns in
one process, because a machine's speed drifts; every other round is reversed.

Every turn is a record in results/runs (`ablations.evidence.timings`). A round is measured unless all its
records exist, for the same networks, machine (name, device, threads) and version of PyTorch. So a second
command measures nothing, and `rounds=12` adds six.
"""

import math
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from itertools import chain, product
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from hydra.utils import instantiate
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter
from pydantic.json_schema import SkipJsonSchema
from torch import nn

from ablations.errors import UserError, as_user_error
from ablations.evidence.timings import OURS, TURN, turn_row
from ablations.evidence.verdicts import MIN_PAIRS
from ablations.files import check_writable
from ablations.runs.identity import COMPILE, is_outside_identity
from ablations.runs.records import DONE, RunDirectory
from ablations.runs.schema import COMPLETED
from ablations.studies.schema import BenchmarkFile
from ablations.text import amount, listed
from ablations.validation import WRITTEN, validated
from experiments import environment
from experiments.check import check_keys
from experiments.configuration import RunConfiguration, home_expanded, parse_override
from experiments.errors import explained
from experiments.planning import compose_runs, hydra_configuration, project_benchmark
from experiments.project import current
from experiments.run import begin_record, now
from experiments.sizes.network_cost import NetworkCost, count_network, without_memory
from experiments.sizes.training_step import Step, make_step, time_it
from lightning_modules.assembly import set_float32
from lightning_modules.validation import require_integer, require_one_of

BATCH_SIZES = {"cpu": 4, "cuda": 32}
"""Ours; a CPU's limit is time, not memory."""

PRECISIONS: Mapping[str, dict[str, Any]] = {
    "32-true": {"precision": "32-true", "tf32": False},
    "tf32": {"precision": "32-true", "tf32": True},
    "bf16-mixed": {"precision": "bf16-mixed", "tf32": False},
}
"""Keys of the recipe."""

COMPILERS = {"false": False, "true": True, "eager": "eager"}
"""Values of `trainer.compile`."""


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

    defined: SkipJsonSchema[BenchmarkFile]
    """`conf/benchmark.yaml`."""
    models: Annotated[tuple[str, ...], SEVERAL]
    """Options of conf/model; ratios are to the first."""
    image_size: Count
    """Height and width in pixels."""
    channels: Count
    """Of the images."""
    num_classes: Count
    """Outputs of the network."""
    batch_size: Count | None
    """Images per step; None: `BATCH_SIZES`."""
    against: Annotated[tuple[str, ...], SEVERAL] = ()
    """Libraries to compare with: `equals` of `conf/benchmark.yaml`."""
    precisions: Annotated[tuple[Literal["32-true", "tf32", "bf16-mixed"], ...], SEVERAL] = ()
    """Of arithmetic; (): all that are faster on the device."""
    orders: Annotated[tuple[Literal["contiguous", "channels_last"], ...], SEVERAL] = (
        "contiguous",
        "channels_last",
    )
    """Memory orders."""
    compiled: Annotated[tuple[Literal["false", "true", "eager"], ...], SEVERAL] = ("false",)
    """true: torch.compile with inductor; eager: with a backend that needs no compiler and is not faster."""
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 5
    """Minimum time of a turn."""
    rounds: Count = MIN_PAIRS
    """Turns of each network in each setting."""
    results_dir: Path = Path("results")
    """Folder of the records, and of the tables."""
    overrides: SkipJsonSchema[tuple[str, ...]] = ()
    """Of the networks (`fully_connected=two`) and the device (`trainer.accelerator=cpu`)."""

    @property
    def of_networks(self) -> tuple[str, ...]:
        """Overrides that change the networks."""
        return tuple(word for word in self.overrides if not is_outside_identity(word.partition("=")[0]))

    @property
    def changes(self) -> tuple[str, ...]:
        """What differs from `conf/benchmark.yaml`, as typed: each combination has a table of its own."""
        usual: dict[str, object] = {key: field.default for key, field in Options.model_fields.items()}
        usual |= _defaults(self.defined)
        typed = {key: getattr(self, key) for key in OF_TABLE if getattr(self, key) != usual[key]}
        texts = {key: ",".join(of) if isinstance(of, tuple) else str(of) for key, of in typed.items()}
        return (*(f"{key}={text}" for key, text in texts.items()), *self.of_networks)

    @property
    def output(self) -> str:
        """Stem of the table's files."""
        return "__".join(
            [self.defined.output, *(re.sub(r"[^\w=.,-]", "_", change) for change in self.changes)]
        )


OF_FILE = ("image_size", "channels", "num_classes", "batch_size")
OF_TABLE = ("models", *OF_FILE, "against", "precisions", "orders", "compiled")
"""Options whose values have tables of their own."""


def _defaults(defined: BenchmarkFile) -> dict[str, object]:
    return {"models": tuple(defined.labels)} | {key: getattr(defined, key) for key in OF_FILE}


def parse_options(words: Sequence[str]) -> Options:
    """Read the arguments of "benchmark"; UserError if one is unknown or invalid."""
    defined = project_benchmark()
    given = _defaults(defined) | {"results_dir": current().resolve(current().run_keys()["results_dir"])}
    if against := [word.partition("=")[2] for word in words if word.startswith("against=")]:
        libraries = [defined.equals.get(library, {}) for library in against[0].split(",")]
        models = dict.fromkeys(model for networks in libraries for model in networks)
        given |= {"models": ",".join(models), "seconds": 2, "rounds": 5}
    overrides = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"{word}: expected KEY=VALUE")
        if key in ("defined", "overrides"):
            raise UserError(f"unknown key {key}")
        if _is_override(word):
            overrides.append(word)
        else:
            given[key] = home_expanded(key, value) if key == "results_dir" else value
    found = validated(TypeAdapter(Options), given | {"defined": defined})
    return found.model_copy(update={"overrides": tuple(overrides)})


def _is_override(word: str) -> bool:
    """Whether a word sets a part of the networks or of the device; nothing else is read."""
    override = parse_override(word)
    if override is None or override.is_sweep_override():
        return False
    key, _, rest = override.key_or_group.partition(".")
    of_the_benchmark = ("model", "dataset", "recipe", "logger", "study", "trainer", "hydra")
    return (
        bool(rest) and override.key_or_group != COMPILE
        if key in ("model", "trainer")
        else key not in of_the_benchmark and current().is_group(key)
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
        *(f"dataset.{key}={getattr(options, key)}" for key in ("image_size", "channels", "num_classes")),
        "logger=none",
        *options.overrides,
    ]
    found = {}
    with hydra_configuration():
        for model in options.models:
            found[model] = compose_runs([f"model={model}", *words], range(options.rounds))
            check_keys(found[model][0])
    return found


def plan_turns(
    options: Options, networks: Mapping[str, Sequence[RunConfiguration]], device: torch.device
) -> list[list[list[RunConfiguration]]]:
    """The settings, their rounds, and the turns of each round; every other round is reversed."""
    libraries = [library for library in options.against if find_spec(library) is not None]
    timing = {
        "table": options.output,
        "models": list(options.models),
        "overrides": list(options.of_networks),
        "seconds": options.seconds,
        "machine": {"host": environment.process()["host"], **environment.device(device)},
        "torch": ", ".join([version("torch"), *(f"{name} {version(name)}" for name in libraries)]),
    }
    equals = options.defined.equals
    sources = [
        (model, source)
        for model in options.models
        for source in (OURS, *libraries)
        if source == OURS or model in equals[source]
    ]
    parts = ("inference", "training") if options.against else ("training",)

    def turn(number: int, model: str, source: str, part: str, setting: Sequence[str]) -> RunConfiguration:
        precision, order, compiled = setting
        run = networks[model][number]
        batch = {"batch_size": options.batch_size or BATCH_SIZES[device.type]}
        recipe = batch | {"channels_last": order == "channels_last"} | PRECISIONS[precision]
        own: dict[str, Any] = {"timing": timing | {"source": source, "part": part}}
        if source != OURS:
            own["model"] = {**equals[source][model], "num_classes": options.num_classes}
        for key, changed in (("recipe", recipe), ("trainer", {"compile": COMPILERS[compiled]})):
            own[key] = run.resolved[key] | changed
        return replace(run, resolved={**run.resolved, **own, "results_dir": str(options.results_dir)})

    def rounds(setting: Sequence[str]) -> Iterator[list[RunConfiguration]]:
        for number in range(options.rounds):
            turns = [turn(number, *of, part, setting) for of, part in product(sources, parts)]
            yield turns[:: -1 if number % 2 else 1]

    precisions = options.precisions or _faster(device)
    return [[*rounds(setting)] for setting in product(precisions, options.orders, options.compiled)]


def _faster(device: torch.device) -> list[str]:
    """float32, and the precisions that are faster on a device."""
    if device.type != "cuda":
        return ["32-true"]
    return [name for name in PRECISIONS if name != "bf16-mixed" or torch.cuda.is_bf16_supported()]


def benchmark(options: Options) -> None:
    """Measure the missing rounds, a record per turn.

    Raises:
        UserError: A choice is invalid, a batch does not fit, or another process is measuring.
    """
    check_writable(f"results_dir={options.results_dir}", options.results_dir, ["runs", "tables"])
    require_equals(options)
    networks = compose_networks(options)
    with as_user_error():
        costs = count_networks(networks)
        device = find_device(networks[options.models[0]][0].resolved["trainer"])
    for library in options.against:
        if find_spec(library) is None:
            print(f"{library} is not installed, so it is left out: pip install {library}", file=sys.stderr)
    measured = 0
    for rounds in (settings := plan_turns(options, networks, device)):
        missing = [turns for turns in rounds if any(_directory(turn).status() not in DONE for turn in turns)]
        measured += len(missing)
        with ExitStack() as locks:
            for turn in chain(*missing):
                if not locks.enter_context(_directory(turn).lock()):
                    raise UserError(f"{_directory(turn).path}: another process is measuring it")
            for turn, record in timed(missing, costs, device):
                _directory(turn).write(record)
                print(_line(turn, record, options.rounds), file=sys.stderr)
    if before := len(settings) * options.rounds - measured:
        print(f"{amount(before, 'round')} already measured on this machine", file=sys.stderr)


def require_equals(options: Options) -> None:
    """Raise UserError if a library has no equal of a network."""
    if not options.against:
        return
    if options.of_networks:
        raise UserError(f"{options.of_networks[0]}: against= compares equal networks; leave it out")
    equals = options.defined.equals
    if unknown := [library for library in options.against if library not in equals]:
        raise UserError(f"against={unknown[0]}: must be one of {listed([*equals])}")
    known = {name for library in options.against for name in equals[library]}
    for model in options.models:
        if model not in known:
            named = ", ".join(options.against)
            raise UserError(f"models={model}: no equal in {named}; available: {', '.join(sorted(known))}")


def count_networks(networks: Mapping[str, Sequence[RunConfiguration]]) -> dict[str, NetworkCost]:
    """The cost of each network; ValueError if one cannot be built."""
    with without_memory():
        for runs in networks.values():
            explained("model", partial(instantiate, runs[0].resolved["model"]))
    return {model: count_network(runs[0].resolved) for model, runs in networks.items()}


def _directory(turn: RunConfiguration) -> RunDirectory:
    return RunDirectory(turn.results_dir, turn.run_id)


def _line(turn: RunConfiguration, record: Mapping[str, Any], rounds: int) -> str:
    row = turn_row(record)
    words = ", ".join(row[key] for key in TURN if row[key] not in ("", OURS))
    return f"round {turn.seed + 1} of {rounds}: {words}: {row['steps_per_second']:.3g} steps/second"


def timed(
    rounds: Sequence[Sequence[RunConfiguration]],
    costs: Mapping[str, NetworkCost],
    device: torch.device,
    deadline: float = math.inf,
) -> Iterator[tuple[RunConfiguration, dict[str, Any]]]:
    """Let the networks of a setting take turns; yields each turn with its record.

    After the deadline (`time.monotonic`) no further round starts.

    Raises:
        UserError: The batch does not fit.
    """
    torch.compiler.reset()  # it stops compiling after some number of variants
    steps: dict[tuple[str, str, str], tuple[nn.Module, Step, int | None]] = {}
    try:
        for number, turns in enumerate(rounds):
            if number and time.monotonic() > deadline:
                return
            set_float32(turns[0].resolved["recipe"])
            with _fits(turns[0].resolved):
                steps = steps or _prepared(turns, device)
            for turn in turns:
                record = begin_record(turn, _directory(turn))
                start = time.perf_counter()
                network, step, peak = steps[_network_of(turn)]
                timing = turn.resolved["timing"]
                network.train(timing["part"] == "training")
                with _fits(turn.resolved):
                    step()  # warms the caches
                    threads = turn.resolved["trainer"]["threads"]
                    seconds, times = time_it(step, threads=threads, seconds=timing["seconds"])
                yield (
                    turn,
                    record
                    | asdict(costs[turn.choices["model"]])
                    | {
                        "status": COMPLETED,
                        "finished": now(),
                        "steps": times,
                        "steps_per_second": 1 / seconds,
                        "wall_time_s": time.perf_counter() - start,
                        "device": environment.device(device) | {"processes": 1, "peak_memory": peak},
                        "git": environment.imported(record["git"]),
                    },
                )
    finally:
        set_float32({})


def _network_of(turn: RunConfiguration) -> tuple[str, str, str]:
    timing = turn.resolved["timing"]
    return turn.choices["model"], timing["source"], timing["part"]


@contextmanager
def _fits(config: Mapping[str, Any]) -> Iterator[None]:
    """Explain why steps of a batch cannot be trained."""
    batch = f"batch_size={config['recipe']['batch_size']}"
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise UserError(f"{batch}: too large for this device's memory") from error
    except (RuntimeError, ValueError) as error:  # a CPU's allocator; BN on one pixel of one image
        text = " ".join(str(error).split())
        raise UserError(f"{batch}, image_size={config['dataset']['image_size']}: {text}") from error


def _prepared(
    turns: Sequence[RunConfiguration], device: torch.device
) -> dict[tuple[str, str, str], tuple[nn.Module, Step, int | None]]:
    """The network, step and peak memory (bytes, on a GPU) of each turn, after warm-up."""
    gpu = device.type == "cuda"
    networks: dict[Any, tuple[nn.Module, int]] = {}
    found = {}
    for turn in sorted(turns, key=_network_of):  # inference first, before there are gradients
        *of, part = key = _network_of(turn)
        if tuple(of) not in networks:
            before = torch.cuda.memory_allocated(device) if gpu else 0
            networks[tuple(of)] = build(turn.resolved["model"]), before
        network, before = networks[tuple(of)]
        if gpu:
            torch.cuda.reset_peak_memory_stats(device)
        step = make_step(network, turn.resolved, training=part == "training", device=device)
        for _ in range(2):  # gradients and the optimizer's state exist from the second on
            step()
        found[key] = network, step, torch.cuda.max_memory_allocated(device) - before if gpu else None
    return found


def build(node: Mapping[str, Any]) -> nn.Module:
    """A network with PyTorch's default initial values, whatever its source."""
    torch.manual_seed(0)
    built: nn.Module = instantiate(node)
    for module in built.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.reset_parameters()
    return built

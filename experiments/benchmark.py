"""Table 3: size and speed of Xception beside Inception V3's, measured on this device.

::

    python -m ablations benchmark
    python -m ablations benchmark batch_size=8 image_size=299 steps=5 rounds=3
    python -m ablations benchmark models=inception_v3,xception fully_connected=two trainer.threads=2

Paper: Chollet 2016 (arXiv:1610.02357), table 3: 23,626,728 parameters and 31 steps/second, 22,855,952 and 28,
a ratio of 0.90, with 1000 classes, on 60 K80 GPUs. What was timed is a training step: forward, loss,
backward, optimizer. Here the networks take turns in one process, in both memory orders, in float32 and on
a GPU in bfloat16 too, so that a drift of the machine's speed meets both; they are built from the
configuration as a run's are, with the recipe's initial values and optimizer.
"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pandas as pd
import torch
from hydra.utils import instantiate
from rich.console import RenderableType
from rich.text import Text

from ablations.errors import UserError
from ablations.files import check_writable
from ablations.runs.identity import is_outside_identity
from ablations.table_files import latex_page, markdown_page, provenance, write_table_files
from ablations.terminal.tables import Section, headed_table
from ablations.text import NO_VALUE
from experiments import environment
from experiments.check import check_keys
from experiments.configuration import (
    RunConfiguration,
    home_expanded,
    option_name,
    parse_override,
    parsed,
)
from experiments.errors import explained
from experiments.planning import compose_runs, hydra_configuration
from experiments.project import current
from experiments.sizes.network_cost import NetworkCost, count_network, without_memory
from experiments.sizes.training_step import (
    STEPS_TO_PEAK,
    Noise,
    Step,
    make_step,
    peak_resident_memory,
    steps_per_second,
)
from lightning_modules.assembly import make_network
from lightning_modules.validation import require_integer, require_one_of

TITLE = "Size and speed"
SOURCE = "Chollet 2016, section 4.5, table 3"
FILE_NAME = "table03_size_and_speed"
PAPER = {"inception_v3_table3": (23_626_728, 31), "xception": (22_855_952, 28)}
"""Table 3: parameters, and steps/second on 60 K80 GPUs."""

AUTO = "auto"
CPU_BATCH_SIZE = 4
"""On a CPU time runs out before memory does. Ours."""
FIRST_BATCH_SIZE = 32
"""Where the search for the largest batch begins."""


@dataclass(frozen=True)
class Options:
    """What is measured, as words KEY=VALUE.

    Attributes:
        models: Options of conf/model, two or more; ratios are to the first.
        image_size: Height and width, in pixels.
        num_classes: Of the logistic regression.
        batch_size: Images in a step. None, "auto": on a GPU the largest power of two at which every
            network fits in every order and precision; on a CPU `CPU_BATCH_SIZE`.
        steps: Timed in a turn.
        rounds: Turns of each network in each order and precision.
        overrides: What else changes the networks (`fully_connected=two`) and the device
            (`trainer.accelerator=cpu`, `trainer.threads=2`), as for a run.
        results_dir: Where the tables go.
    """

    models: tuple[str, ...] = ("inception_v3_table3", "xception")
    image_size: int = 299
    num_classes: int = 1000
    batch_size: int | None = None
    steps: int = 3
    rounds: int = 6  # the fewest whose range is a 95 % interval of the median
    overrides: tuple[str, ...] = ()
    results_dir: Path = Path("results")

    @property
    def file_name(self) -> str:
        """Table 3's; another question has another file, another precision of the answer has not."""
        changes = [] if self.models == Options.models else ["models=" + ",".join(self.models)]
        changes += [
            f"{name}={getattr(self, name)}"
            for name in ("image_size", "num_classes")
            if getattr(self, name) != getattr(Options, name)
        ]
        changes += [word for word in self.overrides if not is_outside_identity(word.partition("=")[0])]
        return "__".join([FILE_NAME, *(re.sub(r"[^\w=.,-]", "_", change) for change in changes)])


def parse_options(words: Sequence[str]) -> Options:
    """What the words after "benchmark" say.

    Raises:
        UserError: A word that nothing reads, or a value that cannot be.
    """
    given: dict[str, Any] = {}
    overrides = []
    own = [field.name for field in fields(Options) if field.name != "overrides"]
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or (key not in own and not _is_override(word)):
            allowed = [f"{name}=" for name in own] + ["trainer.KEY=", "model.KEY=", "an axis="]
            raise UserError(f"{word}: no option of benchmark; there are: {', '.join(allowed)}")
        if key not in own:
            overrides.append(word)
        elif key == "models":
            given[key] = tuple(value.split(","))
        elif key == "results_dir":
            given[key] = Path(home_expanded(key, option_name(parsed(word).value())))
        else:
            automatic = key == "batch_size" and value == AUTO
            given[key] = None if automatic else _whole_number(key, value)
    if len(set(names := given.get("models", Options.models))) < max(2, len(names)):
        raise UserError(f"models={','.join(names)}: must be two or more different ones, separated by commas")
    given.setdefault("results_dir", Path(current().place(current().run_keys()["results_dir"])))
    return Options(**given, overrides=tuple(overrides))


def _is_override(word: str) -> bool:
    """Whether it sets a part of the networks or of the device; the benchmark reads nothing else."""
    override = parse_override(word)
    if override is None or override.is_sweep_override():
        return False
    key, _, rest = override.key_or_group.partition(".")
    of_the_benchmark = ("model", "dataset", "recipe", "logger", "study", "trainer", "hydra")
    return (
        bool(rest) if key in ("model", "trainer") else key not in of_the_benchmark and current().is_group(key)
    )


def _whole_number(key: str, text: str) -> int:
    try:
        number = int(text)
        require_integer(key, number, 1)
    except ValueError as error:
        raise UserError(f"{key}={text}: must be a whole number of at least 1") from error
    return number


class Setting(NamedTuple):
    """One network in one memory order and one precision."""

    model: str
    channels_last: bool
    bf16: bool

    @property
    def memory_order(self) -> str:
        return "channels-last" if self.channels_last else "contiguous"

    @property
    def precision(self) -> str:
        return "bf16 autocast" if self.bf16 else "float32"


@dataclass(frozen=True)
class Measurement:
    """What was found of a setting.

    Attributes:
        setting: Of what.
        cost: Size.
        speeds: Steps/second, one per round.
        ratios: Those over the first network's of the same round, order and precision.
        peak_memory: Bytes; None where they are not known.
    """

    setting: Setting
    cost: NetworkCost
    speeds: tuple[float, ...]
    ratios: tuple[float, ...]
    peak_memory: int | None


def compose_networks(options: Options) -> dict[str, RunConfiguration]:
    """The configuration of every network at the paper's scale.

    Raises:
        UserError: Something that the user chose cannot be.
        HydraException: An option or key does not exist.
    """
    configurations = {}
    with hydra_configuration():
        for model in options.models:
            (configurations[model],) = compose_runs(
                [
                    f"model={model}",
                    f"dataset.num_classes={options.num_classes}",
                    "dataset.channels=3",
                    f"dataset.image_size={options.image_size}",
                    *options.overrides,
                ]
            )
            check_keys(configurations[model])
    return configurations


def find_device(trainer: Mapping[str, Any]) -> torch.device:
    """The device of `trainer.accelerator`, a CPU with `trainer.threads`, which are set.

    Raises:
        ValueError: There is no such device, or it can be no such number of threads.
    """
    accelerator = trainer["accelerator"]
    require_one_of("trainer.accelerator", accelerator, ("auto", "cpu", "gpu", "cuda"))
    require_integer("trainer.threads", trainer["threads"], 1)
    torch.set_num_threads(trainer["threads"])
    if accelerator == "cpu" or (accelerator == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ValueError(f"trainer.accelerator={accelerator}: must be cpu, as there is no CUDA device here")
    return torch.device("cuda", torch.cuda.current_device())


def prepare_step(config: Mapping[str, Any], setting: Setting, batch_size: int, device: str) -> Step:
    """Build a network as a run does, with the recipe's initial values and optimizer.

    Args:
        config: The resolved configuration.
        setting: Memory order and precision.
        batch_size: Images in a step.
        device: As `torch.device` takes it.
    """
    dataset, recipe = config["dataset"], config["recipe"]
    network = make_network(config)
    return make_step(
        network,
        instantiate(recipe["optimizer"]),
        Noise(batch_size, dataset["channels"], dataset["image_size"], dataset["num_classes"]),
        device=torch.device(device),
        channels_last=setting.channels_last,
        bf16=setting.bf16,
    )


def largest_batch_size(fits: Callable[[int], bool]) -> int:
    """The largest power of two that fits, found by doubling and halving.

    Raises:
        UserError: Not even one image fits.
    """
    size = FIRST_BATCH_SIZE
    if fits(size):
        while fits(2 * size):
            size *= 2
        return size
    while size > 1:
        size //= 2
        if fits(size):
            return size
    raise UserError("batch_size=auto: not even one image fits in the device's memory")


Prepare = Callable[[Setting, int], Step]
"""Builds a setting's step for a batch size."""


def fit_on_gpu(prepare: Prepare, settings: Sequence[Setting], batch_size: int) -> bool:
    """Whether each setting alone trains `STEPS_TO_PEAK` steps of that batch with the GPU's memory."""
    for setting in settings:
        fits = _fits(prepare, setting, batch_size)
        torch.cuda.empty_cache()
        if not fits:
            return False
    return True


def _fits(prepare: Prepare, setting: Setting, batch_size: int) -> bool:
    try:
        step = prepare(setting, batch_size)
        for _ in range(STEPS_TO_PEAK):
            step()
    except torch.cuda.OutOfMemoryError:
        return False
    return True


def turns(settings: Sequence[Setting], rounds: int) -> Iterator[tuple[int, Setting]]:
    """The order in which settings are timed: networks alternate, and so does which goes first."""
    models = list(dict.fromkeys(setting.model for setting in settings))
    for number in range(rounds):
        ordered = sorted(
            settings,
            key=lambda setting: (setting.bf16, setting.channels_last, models.index(setting.model)),
            reverse=bool(number % 2),
        )
        for setting in ordered:
            yield number, setting


def measure(
    options: Options,
    configurations: Mapping[str, RunConfiguration],
    costs: Mapping[str, NetworkCost],
    device: torch.device,
) -> tuple[list[Measurement], int]:
    """Measure every network in every memory order and precision, in turns.

    Returns:
        The measurements, the first network's first in each order and precision; the batch size.

    Raises:
        UserError: The batch does not fit.
    """
    on_gpu = device.type == "cuda"
    precisions = (False, True) if on_gpu and torch.cuda.is_bf16_supported() else (False,)
    settings = [
        Setting(model, channels_last, bf16)
        for bf16, channels_last, model in product(precisions, (False, True), options.models)
    ]

    def prepare(setting: Setting, batch_size: int) -> Step:
        return prepare_step(configurations[setting.model].resolved, setting, batch_size, str(device))

    batch_size = options.batch_size
    if batch_size is None:
        fits = partial(fit_on_gpu, prepare, settings)
        batch_size = largest_batch_size(fits) if on_gpu else CPU_BATCH_SIZE
    peaks: dict[Setting, int | None] = {}
    speeds: dict[Setting, list[float]] = {setting: [] for setting in settings}
    try:
        if not on_gpu:
            for setting in settings:
                resolved = configurations[setting.model].resolved
                prepare_there = partial(prepare_step, resolved, setting, batch_size, str(device))
                peaks[setting] = peak_resident_memory(prepare_there, torch.get_num_threads())
        for number, setting in turns(settings, options.rounds):
            if on_gpu:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(device)
            step = prepare(setting, batch_size)
            speeds[setting].append(steps_per_second(step, options.steps, device))
            del step  # before the next network is built: memory is for one
            if on_gpu:
                peaks[setting] = torch.cuda.max_memory_allocated(device)
            print(
                f"round {number + 1} of {options.rounds}: {setting.model}, {setting.memory_order}, "
                f"{setting.precision}: {speeds[setting][-1]:.3g} steps/second",
                file=sys.stderr,
            )
    except (MemoryError, torch.cuda.OutOfMemoryError) as error:
        raise UserError(f"batch_size={batch_size}: too large for this device's memory") from error
    except (RuntimeError, ValueError) as error:  # of a CPU's allocator; of BN on one pixel of one image
        text = " ".join(str(error).split())
        raise UserError(f"batch_size={batch_size}, image_size={options.image_size}: {text}") from error

    def ratios(setting: Setting) -> tuple[float, ...]:
        first = speeds[setting._replace(model=options.models[0])]
        return tuple(own / others for own, others in zip(speeds[setting], first, strict=True))

    return [
        Measurement(setting, costs[setting.model], tuple(speeds[setting]), ratios(setting), peaks[setting])
        for setting in settings
    ], batch_size


def benchmark(words: Sequence[str]) -> tuple[RenderableType, list[Path]]:
    """Measure, and write the table.

    Args:
        words: KEY=VALUE; see `Options`.

    Returns:
        The table for the terminal, and the paths of its three files.

    Raises:
        UserError: Something that the user chose cannot be.
    """
    options = parse_options(words)
    check_writable(f"results_dir={options.results_dir}", options.results_dir, ["tables"])
    configurations = compose_networks(options)
    try:
        resolved = {model: run.resolved for model, run in configurations.items()}
        with without_memory():
            for config in resolved.values():
                explained("model", partial(instantiate, config["model"]))
        costs = {model: count_network(config) for model, config in resolved.items()}
        device = find_device(resolved[options.models[0]]["trainer"])
    except ValueError as error:
        raise UserError(str(error)) from error
    measurements, batch_size = measure(options, configurations, costs, device)
    numbers = benchmark_table(measurements)
    readable = _readable(measurements)
    notes = _notes(options, measurements, batch_size, device)
    title, subtitle = TITLE, f"{_scale(options, batch_size)}. {SOURCE}."
    paths = write_table_files(
        options.results_dir / "tables",
        options.file_name,
        csv=numbers.assign(
            batch_size=batch_size,
            image_size=options.image_size,
            device=device.type,
            device_name=environment.device(device)["name"],
            rounds=options.rounds,
        ),
        markdown=markdown_page(title, subtitle, [readable], notes),
        latex=latex_page(title, subtitle, options.file_name, [readable], notes),
    )
    return _console_table(readable, subtitle), paths


def benchmark_table(measurements: Sequence[Measurement]) -> pd.DataFrame:
    """The numbers, one row per network, memory order and precision.

    Columns: model, memory_order, precision, parameters, multiply_adds (of one image); steps_per_second and
    ratio (to the first network of the same order and precision) as _median, _min, _max over rounds; ratios,
    that of every round, a text; peak_memory_bytes; paper_parameters, paper_steps_per_second, paper_ratio.
    What there is no number for, and the ratio of the first network, is missing; so are the paper's where
    ours is another network: with other classes, another axis or width.
    """
    first = measurements[0].setting.model
    papers = {
        found.setting.model: PAPER[found.setting.model]
        for found in measurements
        if found.cost.parameters == PAPER.get(found.setting.model, (None, None))[0]
    }
    rows = []
    for found in measurements:
        is_first = found.setting.model == first
        paper_parameters, paper_speed = papers.get(found.setting.model, (None, None))
        rows.append(
            {
                "model": found.setting.model,
                "memory_order": found.setting.memory_order,
                "precision": found.setting.precision,
                "parameters": found.cost.parameters,
                "multiply_adds": found.cost.multiply_adds,
                **_spread("steps_per_second", found.speeds),
                **_spread("ratio", () if is_first else found.ratios),
                "ratios": None if is_first else " ".join(f"{ratio:.6g}" for ratio in found.ratios),
                "peak_memory_bytes": found.peak_memory,
                "paper_parameters": paper_parameters,
                "paper_steps_per_second": paper_speed,
                "paper_ratio": None
                if is_first or not paper_speed or first not in papers
                else paper_speed / papers[first][1],
            }
        )
    integers = ("parameters", "multiply_adds", "peak_memory_bytes", "paper_parameters")
    return pd.DataFrame(rows).astype(dict.fromkeys((*integers, "paper_steps_per_second"), "Int64"))


def _spread(name: str, values: Sequence[float]) -> dict[str, float | None]:
    numbers = (median(values), min(values), max(values)) if values else (None, None, None)
    return dict(zip((f"{name}_median", f"{name}_min", f"{name}_max"), numbers, strict=True))


# What a person reads


def _readable(measurements: Sequence[Measurement]) -> pd.DataFrame:
    first = measurements[0].setting.model
    rows = []
    for _, row in benchmark_table(measurements).iterrows():
        rows.append(
            {
                "network": row["model"],
                "memory order": row["memory_order"],
                "precision": row["precision"],
                "parameters": f"{row['parameters']:,}",
                "multiply-adds": f"{row['multiply_adds'] / 1e9:.2f} G",
                "steps/second": _with_spread(row, "steps_per_second"),
                f"ratio to {first}": _with_spread(row, "ratio"),
                "peak memory, GiB": _number(row["peak_memory_bytes"], lambda value: f"{value / 2**30:.2f}"),
                "paper: parameters": _number(row["paper_parameters"], lambda value: f"{value:,}"),
                "paper: steps/second": _number(row["paper_steps_per_second"], str),
                "paper: ratio": _number(row["paper_ratio"], lambda value: f"{value:.2f}"),
            }
        )
    return pd.DataFrame(rows)


def _number(value: Any, show: Callable[[Any], str]) -> str:
    return NO_VALUE if pd.isna(value) else show(value)


def _with_spread(row: pd.Series, name: str) -> str:
    middle, low, high = (row[f"{name}_{part}"] for part in ("median", "min", "max"))
    if pd.isna(middle):
        return NO_VALUE
    middle, low, high = (f"{value:#.3g}".removesuffix(".") for value in (middle, low, high))
    return f"{middle} [{low}, {high}]"


def _console_table(readable: pd.DataFrame, subtitle: str) -> RenderableType:
    """For a terminal of 80 columns: the paper's values stand in the heading, ranges below a median."""
    of_network = ("network", "memory order", "precision")
    of_paper = [name for name in readable.columns if name.startswith("paper: ")]
    measured = [name for name in readable.columns if name not in (*of_network, *of_paper)]
    sections = []
    for _, row in readable.iterrows():
        printed = [
            f"{name.removeprefix('paper: ')} {row[name]}" for name in of_paper if row[name] != NO_VALUE
        ]
        words = ", ".join(row[name] for name in of_network)
        words += f" (paper: {', '.join(printed)})" if printed else ""
        sections.append(Section(Text(words, "bold"), [[row[name].replace(" [", "\n[") for name in measured]]))
    headers = [name.replace(" to ", "\nto ").replace(", ", ",\n") for name in measured]
    return headed_table(TITLE, headers, sections, subtitle)


def _scale(options: Options, batch_size: int) -> str:
    changed = "".join(f", {override}" for override in options.overrides)
    pixels = f"{options.image_size}x{options.image_size} pixels"
    return f"Training steps of {batch_size} images of {pixels}, {options.num_classes} classes{changed}"


def _notes(
    options: Options, measurements: Sequence[Measurement], batch_size: int, device: torch.device
) -> list[str]:
    on_gpu = device.type == "cuda"
    if options.batch_size is not None:
        batch = "as given"
    elif on_gpu:
        batch = "the largest power of two at which every network fits in every memory order and precision"
    else:
        batch = "ours, as on a CPU time runs out before memory does"
    memory = (
        "the most that PyTorch had allocated at a time on the GPU"
        if on_gpu
        else f"what a fresh process that trains {STEPS_TO_PEAK} steps has resident at most, less what it "
        "had before it built the network"
    )
    notes = [
        "A step is forward pass, loss, backward pass and the recipe's optimizer on noise images; "
        f"steps/second: median over rounds ({options.rounds}, of {options.steps} steps each), minimum and "
        "maximum in brackets. In a round the networks take turns, each built anew and given a step that "
        "does not count.",
        f"Ratio: steps/second over those of {options.models[0]} in the same round, memory order and "
        "precision; median, minimum and maximum.",
        f"Batch of {batch_size} images: {batch}.",
        f"Peak memory: {memory}.",
        "Multiply-adds: of the convolutions and linear layers, for one image.",
        "Paper: 60 K80 GPUs with synchronous gradient descent; its batch size is not stated.",
    ]
    if on_gpu and torch.backends.cudnn.allow_tf32:
        notes.append("Convolutions in float32 may use the GPU's TF32, as is PyTorch's default.")
    if on_gpu and not any(found.setting.bf16 for found in measurements):
        notes.append("This GPU has no bfloat16.")
    record = {
        "device": environment.device(device),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": environment.imported(environment.git_state()),
        "versions": environment.versions(),
    }
    return notes + provenance("Measured", [record])

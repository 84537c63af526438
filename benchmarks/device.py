"""Checks training on a GPU, then measures speeds. 8 minutes on one GPU.

    python -m benchmarks.device [--minutes 8] [--results-dir results]
    python -m benchmarks.device --device cpu --tiny     # the same code, on a CPU in a minute
    python -m benchmarks.device --dry-run               # only the plan; the default without a GPU

Writes results/benchmark/device.json after each part, and prints a table. If parts take longer than estimated,
speeds stop after a round, sweeps are ended, and parts that would exceed the time are left out; so are parts
that need more devices. Compiling cannot be stopped, so it is last and may end late. Exits with 1 if a check
failed.

The seconds of each part are estimates from before any run on a GPU (see `PARTS`).
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningDataModule
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ablations.evidence.timings import Timings
from ablations.files import write_atomically
from ablations.runs.records import RunDirectory
from ablations.tables.timings import timing_table
from experiments import benchmark, environment
from experiments.planning import compose_runs, hydra_configuration
from experiments.recorder import Recorder
from lightning_modules.assembly import make_data, make_data_and_module, make_trainer

REPOSITORY = Path(__file__).resolve().parents[1]

TINY = ("model.width=0.03", "model.middle_modules=1", "model.stem_stride=2", "dataset.train_images=320")
"""A network of a few channels on few images."""

Found = dict[str, Any]
"""A part's results by name; a check has `passed`."""


class OutOfTime(Exception):
    """The time ran out before the end of a part."""


@dataclass(frozen=True)
class Setup:
    """Where to measure, and how much.

    Attributes:
        device: Where runs train.
        devices: Number of devices.
        folder: For runs.
        tiny: Whether everything is as small as possible.
        deadline: As `time.monotonic`.
    """

    device: torch.device
    devices: int
    folder: Path
    tiny: bool
    deadline: float

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    @property
    def words(self) -> list[str]:
        """Overrides of every run."""
        accelerator = "gpu" if self.device.type == "cuda" else self.device.type
        return [f"trainer.accelerator={accelerator}", "logger=none", *(TINY if self.tiny else ())]

    @property
    def few(self) -> list[str]:
        """Overrides of short runs: 20 steps per epoch."""
        return [] if self.tiny else ["dataset.train_images=1280"]

    def config(self, *words: str) -> Mapping[str, Any]:
        """The configuration of a run of the small Xception on the embedded images."""
        with hydra_configuration():
            (run,) = compose_runs([*self.words, *words])
        return run.resolved

    def sweep(self, name: str, *words: str) -> list[Found]:
        """Run run.py as a command until the deadline; returns its records."""
        command = [sys.executable, "run.py", *words, *self.words, f"results_dir={self.folder / name}"]
        environment.free_memory()  # for its runs
        run_for(command, max(1, self.left))
        return [json.loads(path.read_text()) for path in (self.folder / name).glob("runs/*/record.json")]


def run_for(command: Sequence[str], seconds: float) -> None:
    """Run a command for a limited time; its workers end with it.

    Raises:
        OutOfTime: It took longer.
        RuntimeError: It failed; has its last output.
    """
    with subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # puts its workers into its group
    ) as process:
        try:
            printed, _ = process.communicate(timeout=seconds)
        except BaseException as error:  # also KeyboardInterrupt, which reaches no other session
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise OutOfTime from error
            raise
    if process.returncode:
        raise RuntimeError(" ".join(printed.strip().splitlines()[-3:]))


@dataclass(frozen=True)
class Fit:
    """Results of a fit: rows of metrics.csv without seconds, weights, warnings."""

    rows: list[Found]
    state: dict[str, Tensor]
    warned: list[str]

    def equals(self, other: "Fit") -> bool:
        """Whether both are bit-identical."""
        same = [torch.equal(value, other.state[name]) for name, value in self.state.items()]
        return self.rows == other.rows and all(same)


class Interrupted(Exception):
    """Simulates a process that ends."""


class Interrupt(Callback):
    """Ends training in the second epoch."""

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_index: int) -> None:
        if trainer.current_epoch == 1 and batch_index == 1:
            raise Interrupted


def fit(setup: Setup, config: Mapping[str, Any], name: str, *callbacks: Callback) -> Fit:
    """Train in a run directory, from its checkpoint if there is one."""
    directory = RunDirectory(setup.folder, name)
    directory.path.mkdir(parents=True, exist_ok=True)
    recorder = Recorder(directory)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer = make_trainer(config, callbacks=[recorder, *callbacks], loggers=[], folder=directory.path)
        data, module = make_data_and_module(config)
        trainer.fit(module, data, ckpt_path=directory.checkpoint(), weights_only=True)
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in recorder.rows]
    state = {key: value.detach().cpu().clone() for key, value in module.state_dict().items()}
    told = {str(warning.message).partition("\n")[0] for warning in caught}
    return Fit(rows, state, sorted(text for text in told if "determin" in text))


def loss_falls(setup: Setup) -> Found:
    """Training in bfloat16 lowers the loss from the first to the last epoch."""
    rows = fit(setup, setup.config("recipe.precision=bf16-mixed", "recipe.epochs=4"), "bf16").rows
    first, last = rows[0]["train_loss"], rows[-1]["train_loss"]
    return {"passed": last < first, "first_epoch": first, "last_epoch": last}


def same_batches(setup: Setup) -> Found:
    """Batches of two epochs, mirrored and cropped, are bit-identical to a CPU's."""
    config = setup.config("dataset.crop_padding=2")
    there, here = (_batches(config, device) for device in (setup.device, torch.device("cpu")))
    pairs = list(zip(there, here, strict=True))
    equal = all(torch.equal(a.cpu(), b) for one, other in pairs for a, b in zip(one, other, strict=True))
    on_device = all(tensor.device.type == setup.device.type for batch in there for tensor in batch)
    return {"passed": equal and on_device, "batches": len(pairs), "made_on_the_device": on_device}


def _batches(config: Mapping[str, Any], device: torch.device) -> list[tuple[Tensor, Tensor]]:
    data: LightningDataModule = make_data(config)
    strategy = SimpleNamespace(root_device=device)
    data.trainer = cast(Any, SimpleNamespace(global_rank=0, world_size=1, strategy=strategy))
    data.prepare_data()
    data.setup("fit")
    loader: Any = data.train_dataloader()
    batches = []
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)
        batches += list(loader)
    return batches


def same_twice(setup: Setup) -> Found:
    """A run twice, and once interrupted: bit-identical if the device is deterministic."""
    config = setup.config(*setup.few, "recipe.epochs=2")
    first, second = (fit(setup, config, name) for name in ("first", "second"))
    with contextlib.suppress(Interrupted):
        fit(setup, config, "resumed", Interrupt())
    resumed = fit(setup, config, "resumed")
    equal_twice, equal_resumed = (first.equals(other) for other in (second, resumed))
    found = {"equal_twice": equal_twice, "equal_resumed": equal_resumed, "warned": first.warned}
    complete = len(resumed.rows) == len(first.rows)
    if complete and not equal_twice:
        return {"passed": None, "note": "not deterministic here", **found}
    return {"passed": equal_resumed, **found}


def two_processes(setup: Setup) -> Found:
    """A run on two devices, which exchange gradients: with NCCL on GPUs, gloo on a CPU."""
    (record,) = setup.sweep(
        "two_processes", "trainer=ddp", "trainer.devices=2", *setup.few, "recipe.epochs=1"
    )
    done = record["status"] == "completed" and record["device"]["processes"] == 2
    return {"passed": done, "status": record["status"], "steps_per_second": record["steps_per_second"]}


SPEED_TINY = (
    *("image_size=33", "batch_size=2", "num_classes=5", "seconds=0.001", "rounds=1"),
    "models=xception",
)


def speeds(setup: Setup, *words: str) -> Found:
    """Our networks and timm's and torchvision's, per setting while there is time."""
    accelerator = "cuda" if setup.device.type == "cuda" else "cpu"
    tiny = SPEED_TINY if setup.tiny else ()
    asked = benchmark.parse_options(
        ["seconds=0.3", "rounds=3", *words, f"trainer.accelerator={accelerator}", *tiny]
    )
    if setup.tiny and "true" in asked.compiled:  # a CPU's compiler takes minutes
        asked = asked.model_copy(update={"compiled": ("eager",)})
    networks = benchmark.compose_networks(asked)
    costs = benchmark.count_networks(networks)
    records: dict[str, Found] = {}
    left_out = 0
    longest = 0.0
    for rounds in benchmark.plan_turns(asked, networks, setup.device):
        if records and longest > setup.left:
            left_out += 1
            continue
        start = time.monotonic()
        for turn, record in benchmark.timed(rounds, costs, setup.device, setup.deadline):
            records[turn.run_id] = record
        longest = max(longest, time.monotonic() - start)
    table = timing_table(Timings(records).turns, asked.models[0])
    lines = [
        f"{row.model}, {row.source}, {row.part}, {row.precision}, {row.memory_order}: "
        f"{row.images_per_second_median:.3g} images/s"
        for row in table.itertuples()
    ]
    return {
        "lines": lines,
        "settings_left_out": left_out,
        "table": json.loads(table.to_json(orient="records")),
    }


def packed(setup: Setup, per_device: int) -> Found:
    """A sweep of 16 short runs, several at a time on a device."""
    runs = 2 if setup.tiny else 16
    start = time.monotonic()
    seeds = f"seed={','.join(map(str, range(runs)))}"
    words = ("-m", seeds, f"trainer.runs_per_device={per_device}", *setup.few, "recipe.epochs=1")
    records = setup.sweep(f"packed_{per_device}", *words)
    seconds = time.monotonic() - start
    done = [record for record in records if record["status"] == "completed"]
    return {
        "passed": len(done) == runs,
        "runs_per_minute": 60 * len(done) / seconds,
        "devices": sorted({index for record in done for index in record["device"].get("indices", [])}),
        "peak_memory": max(
            (memory for record in done if (memory := record["device"].get("peak_memory"))), default=None
        ),
    }


@dataclass(frozen=True)
class Part:
    """A part of the script.

    Attributes:
        name: In table and JSON.
        run: Does the part.
        seconds: Estimate for a GPU (see `PARTS`).
        devices: Number of devices that it needs.
    """

    name: str
    run: Callable[[Setup], Found]
    seconds: float
    devices: int = 1

    @property
    def what(self) -> str:
        """What it does, in a line."""
        return (getattr(self.run, "__doc__", None) or "").partition("\n")[0]


def packing(per_device: int, seconds: float) -> Part:
    """The part of a sweep."""

    def run(setup: Setup) -> Found:
        return packed(setup, per_device)

    run.__doc__ = f"A sweep of 16 short runs on slots, {per_device} at a time on a device"
    return Part(f"sweep, {per_device} per device", run, seconds)


def measuring(name: str, what: str, seconds: float, *words: str) -> Part:
    """A part that measures speeds."""

    def run(setup: Setup) -> Found:
        return speeds(setup, *words)

    run.__doc__ = what
    return Part(name, run, seconds)


LIBRARIES = "against=timm,torchvision"

PARTS = (
    Part("loss falls in bf16", loss_falls, 20),
    Part("batches of a CPU", same_batches, 5),
    Part("twice, and resumed", same_twice, 15),
    Part("two processes", two_processes, 30, devices=2),
    measuring(
        "speed, bf16", "Next to timm and torchvision in bf16, channels-last", 35,
        LIBRARIES, "precisions=bf16-mixed", "orders=channels_last",
    ),
    packing(8, 35),
    packing(4, 35),
    packing(2, 40),
    packing(1, 55),
    measuring(
        "speed, float32", "Next to timm and torchvision in float32 and TF32, channels-last", 55,
        LIBRARIES, "precisions=32-true,tf32", "orders=channels_last", "rounds=2",
    ),
    measuring(
        "speed, contiguous", "Xception next to timm's in bf16, contiguous", 15,
        LIBRARIES, "models=xception", "precisions=bf16-mixed", "orders=contiguous", "rounds=2",
    ),
    measuring(
        "speed, compiled", "Our Xception compiled, in bf16, channels-last", 100,
        "models=xception", "precisions=bf16-mixed", "orders=channels_last", "compiled=true", "rounds=2",
    ),
)  # fmt: skip
"""Most important first, because the last ones are left out if time runs short.

The estimates assume: 10 s for CUDA's first start; 20 ms per step of the small Xception, whose kernels are too
small to fill a GPU, so 2 s per epoch of all images with evaluation and 1 s with few; 20 s for a sweep to
start its processes, and 2 s per run of one process. Speeds: 3 s to build a network and choose its algorithms,
then rounds of 0.6 s (training and inference), twice that with warm-up. Compiling: 45 s each for training and
inference. They add up to 440 of 480 s.
"""


@dataclass
class Outcome:
    """A part's outcome: passed, failed, not judged, measured, or left out, with the reason."""

    part: str
    outcome: str
    seconds: float = 0.0
    why: str = ""
    found: Found = field(default_factory=dict)


def do(part: Part, setup: Setup, later: float) -> Outcome:
    """Do a part, or say why not; its exceptions become its outcome.

    It may take the time that later parts do not need, and at least its own.
    """
    if part.devices > setup.devices:
        why = f"needs {part.devices} devices, there is {setup.devices}"
        return Outcome(part.name, "left out", why=why)
    if not setup.tiny and part.seconds > setup.left:
        why = f"takes about {part.seconds:.0f} s, {max(0, setup.left):.0f} s are left"
        return Outcome(part.name, "left out", why=why)
    start = time.monotonic()
    try:
        deadline = max(start + part.seconds, setup.deadline - later)
        found = part.run(replace(setup, deadline=min(setup.deadline, deadline)))
        outcome = Outcome(part.name, "measured", found=found)
        if "passed" in found:
            outcome.outcome = {True: "passed", False: "failed", None: "not judged"}[found["passed"]]
    except OutOfTime:
        outcome = Outcome(part.name, "left out", why="ended, as the time was over")
    except Exception as error:
        outcome = Outcome(part.name, "failed", why=f"{type(error).__name__}: {' '.join(str(error).split())}")
    outcome.seconds = time.monotonic() - start
    return outcome


def all_outcomes(setup: Setup, parts: Sequence[Part]) -> Iterator[Outcome]:
    """Do the parts one by one, and report each as it ends."""
    for number, part in enumerate(parts, 1):
        later = sum(other.seconds for other in parts[number:] if other.devices <= setup.devices)
        outcome = do(part, setup, later)
        print(
            f"{part.name}: {outcome.outcome}, {outcome.seconds:.0f} s {outcome.why}".rstrip(), file=sys.stderr
        )
        yield outcome


def table_of(title: str, rows: Sequence[Sequence[str]], headers: Sequence[str]) -> Table:
    """A table for the terminal."""
    table = Table(*headers, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    return table


def told(outcome: Outcome) -> str:
    """A part's results, for the table."""
    if outcome.why:
        return outcome.why
    if lines := outcome.found.get("lines"):
        return "\n".join(lines)
    shown = {
        key: value
        for key, value in outcome.found.items()
        if key not in ("passed", "table") and value is not None and value != []
    }
    return ", ".join(
        f"{key.replace('_', ' ')} {value:.4g}"
        if isinstance(value, float)
        else f"{key.replace('_', ' ')} {value}"
        for key, value in shown.items()
    )


def write(outcomes: Sequence[Outcome], device: torch.device, folder: Path) -> Path:
    """Write the JSON: device, versions, and each part's outcome."""
    path = folder / "benchmark" / "device.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "device": environment.device(device),
        "versions": environment.versions(),
        "git": (environment.git_state() or {}).get("commit"),
        "parts": [vars(outcome) for outcome in outcomes],
    }
    write_atomically(path, json.dumps(content, indent=2) + "\n")
    return path


def main(words: Sequence[str] | None = None, parts: Sequence[Part] = PARTS) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", choices=["auto", "cuda", "cpu"], default="auto", help="auto: a GPU")
    parser.add_argument("--minutes", type=float, default=8, help="that all parts may take together")
    parser.add_argument("--results-dir", type=Path, default=Path("results"))
    parser.add_argument("--tiny", action="store_true", help="as small as it can be")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    arguments = parser.parse_args(words)
    console = Console()
    there = torch.cuda.is_available()
    if arguments.dry_run or (arguments.device != "cpu" and not there):
        rows = [[part.name, f"{part.seconds:.0f} s", part.what] for part in parts]
        why = "" if there else " No GPU is visible here."
        console.print(table_of(f"What would be done on a GPU.{why}", rows, ["part", "about", "what"]))
        return 0
    device = torch.device("cpu" if arguments.device == "cpu" else "cuda:0")
    devices = torch.cuda.device_count() if device.type == "cuda" else 2  # processes of a CPU
    deadline = time.monotonic() + 60 * arguments.minutes
    environment.quieten()
    torch.set_num_threads(1)
    # An ended sweep may still write.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        setup = Setup(device, devices, Path(folder), arguments.tiny, deadline)
        outcomes: list[Outcome] = []
        for outcome in all_outcomes(setup, parts):
            outcomes.append(outcome)
            path = write(outcomes, device, arguments.results_dir)
    rows = [[one.part, one.outcome, f"{one.seconds:.0f} s", told(one)] for one in outcomes]
    console.print(table_of(environment.device(device)["name"], rows, ["part", "outcome", "took", "found"]))
    print(path)
    return int(any(one.outcome == "failed" for one in outcomes))


if __name__ == "__main__":
    sys.exit(main())

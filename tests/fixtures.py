"""What the tests of several packages share: a small network, small data. A plugin of pytest."""

import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from ablations import __main__ as command
from ablations.runs.histories import History
from ablations.runs.records import SCHEMA, SCHEMA_VERSION, RunDirectory
from ablations.studies.results import (
    Arm,
    Design,
    Factor,
    PaperRow,
    Study,
    StudyFigure,
    StudyRun,
    Trial,
    Tuning,
)
from experiments import devices, environment
from experiments.configuration import RunConfiguration
from experiments.planning import compose_runs, hydra_configuration
from lightning_modules.classifier import Classifier
from lightning_modules.data.images import ImageDataModule, Part
from lightning_modules.initialization import initialize
from lightning_modules.networks.blocks import LinearShortcut, SameMaxPool2d
from lightning_modules.networks.head import no_fully_connected
from lightning_modules.networks.separable import (
    SeparableConvNorm,
    depthwise_first,
    segments_by_size,
    square_kernel,
)
from lightning_modules.networks.xception import Xception
from lightning_modules.tasks import SingleLabel, Task, top_k_accuracy
from tests.composing import composed_once
from tests.few_images import write_few_images

PAPER: dict[str, Any] = {
    "num_classes": 1000,
    "in_channels": 3,
    "width": 1,
    "stem_stride": 2,
    "middle_modules": 8,
    "dropout": 0.0,
    "residual": LinearShortcut,
    "pool": SameMaxPool2d,
    "fully_connected": no_fully_connected,
    "norm": partial(nn.BatchNorm2d, eps=1e-3, momentum=0.1),
}
SMALL = PAPER | {"num_classes": 6, "in_channels": 1, "width": 0.05, "stem_stride": 1, "middle_modules": 1}
SEPARABLE: dict[str, Any] = {
    "operation_order": depthwise_first,
    "segments": partial(segments_by_size, channels_per_segment=1),
    "spatial_kernel": partial(square_kernel, kernel_size=3),
    "intermediate_norm": nn.Identity,
    "intermediate_activation": nn.Identity,
}
ONE_CYCLE = partial(OneCycleLR, max_lr=0.1, pct_start=0.3, cycle_momentum=False)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """One thread, as in a run: results to the last bit, and test processes side by side."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True, scope="session")
def own_devices(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs of these tests share the machine's devices with each other and with nobody else's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
        yield


@pytest.fixture(autouse=True, scope="session")
def compose_once() -> Iterator[None]:
    """What Hydra composed it copies for who asks again."""
    with composed_once():
        yield


@pytest.fixture(scope="session")
def few_images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Settings of dataset=fashion_mnist_embedded by which it is a few images."""
    return write_few_images(tmp_path_factory.mktemp("few_images"))


@pytest.fixture
def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Pretends that there are GPUs: `pretend(2, memory=2**30)`, each with the attributes that are given.

    Returns the file that says so: what is written there is what there is from then on.
    """

    def make(count: int, **attributes: Any) -> Path:
        monkeypatch.setattr(devices, "_before", {})  # what an earlier test entered
        monkeypatch.setenv("PRETENDED_VISIBLE", "")
        file = tmp_path / "devices.json"
        gpu = {"kind": "pretended", "name": "Pretended", "variable": "PRETENDED_VISIBLE", "memory": 2**33}
        file.write_text(
            json.dumps([gpu | {"index": n, "id": f"{tmp_path.name}-{n}"} | attributes for n in range(count)])
        )
        monkeypatch.setenv(devices.PRETENDED, str(file))
        return file

    return make


def xception(defaults: Mapping[str, Any], changes: Mapping[str, Any]) -> Xception:
    """An Xception with some arguments, of the network or of its separable convolutions, changed."""
    separable = {key: changes.get(key, value) for key, value in SEPARABLE.items()}
    others = {key: value for key, value in changes.items() if key not in SEPARABLE}
    return Xception(**({"separable": partial(SeparableConvNorm, **separable)} | dict(defaults) | others))


@pytest.fixture
def separable() -> Callable[..., SeparableConvNorm]:
    """Makes the paper's separable convolution with some arguments changed."""
    return lambda *channels, **changes: SeparableConvNorm(*channels, **(SEPARABLE | changes))


@pytest.fixture
def paper_xception() -> Callable[..., Xception]:
    """Makes the paper's Xception with some arguments changed."""
    return lambda **changes: xception(PAPER, changes)


@pytest.fixture
def small_xception() -> Callable[..., Xception]:
    """Makes a narrow Xception for small grey images of six classes, with some arguments changed."""
    return lambda **changes: xception(SMALL, changes)


@pytest.fixture(scope="module")
def isolated_wandb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The real W&B without an account, without settings of whoever runs the tests, without network."""
    import wandb

    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for variable in [name for name in os.environ if name.startswith("WANDB_")] + ["NETRC"]:
            patch.delenv(variable, raising=False)
        patch.setenv("HOME", str(home))
        for variable in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
            patch.setenv(variable, str(home / variable))
        patch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # the discard port: nobody answers
        wandb.teardown()
        yield wandb
        wandb.teardown()


class TinyImages(ImageDataModule):
    """Noise images of 10x10 pixels whose brightness tells the class; no files."""

    file_names = ()
    folders = ("",)
    hint = ""

    def decode(self, contents: Mapping[str, bytes]) -> tuple[Part, Part]:
        noise = np.random.default_rng(7)

        def part(per_class: int) -> Part:
            labels = noise.permutation(np.repeat(np.arange(self.num_classes), per_class))
            images = noise.integers(0, 100, size=(len(labels), 1, 10, 10))
            images += (150 // self.num_classes * labels)[:, None, None, None]
            return Part(images.astype(np.uint8), labels)

        return part(6), part(3)


@pytest.fixture
def tiny_data(tmp_path: Path) -> Callable[..., TinyImages]:
    """Makes 30 training images in batches of 8, 6 validation and 18 test images in batches of 4."""

    def make(**changes: Any) -> TinyImages:
        settings: dict[str, Any] = {
            "root": tmp_path,
            "download": False,
            "checksums": {},
            "num_classes": 6,
            "channels": 1,
            "image_size": 10,
            "validation_images": 6,
            "train_images": None,
            "split_seed": 0,
            "batch_size": 8,
            "eval_batch_size": 4,
            "seed": 0,
            "horizontal_flip": True,
            "crop_padding": 2,
            "num_workers": None,
        }
        return TinyImages(**(settings | changes))

    return make


def measuring_accuracy(num_classes: int) -> Task:
    """One label an image, measured as conf/metric/top1.yaml and top5.yaml have it."""
    task = SingleLabel(num_classes)
    task.measure("top1", top_k_accuracy(num_classes, 1), training=True)
    task.measure("top5", top_k_accuracy(num_classes, 5))
    return task


@pytest.fixture
def make_task() -> Callable[[int], Task]:
    """Makes a task of one label an image, measured by top-1 and top-5."""
    return measuring_accuracy


@pytest.fixture
def make_classifier(small_xception: Callable[..., Xception]) -> Callable[..., Classifier]:
    """Makes a classifier, by default of the small network, with some arguments changed."""

    def make(**changes: Any) -> Classifier:
        network = small_xception(dropout=changes.pop("dropout", 0.5))
        arguments: dict[str, Any] = {
            "network": network,
            "task": measuring_accuracy(6),
            "seed": 0,
            "optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-5),
            "scheduler": ONE_CYCLE,
            "scheduler_interval": None,
            "loss": None,
            "mix": None,
            "channels_last": True,
            "compile_with": None,
            "log_every_n_steps": 1,
        }
        weight_init = changes.pop("weight_init", nn.init.xavier_uniform_)
        arguments |= changes
        initialize(arguments["network"], arguments["seed"], weight_init)
        return Classifier(**arguments)

    return make


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer that writes nothing of its own; `quieten` as before a run."""
    environment.quieten()

    def make(
        epochs: int,
        *,
        logger: Logger | bool = False,
        callbacks: Sequence[Callback] = (),
        checkpoints: bool = False,
        precision: Literal["32-true", "bf16-mixed"] = "32-true",
        **settings: Any,
    ) -> Trainer:
        return Trainer(
            accelerator="cpu",
            devices=1,
            precision=precision,
            **settings,
            max_epochs=epochs,
            logger=logger,
            log_every_n_steps=1,
            callbacks=list(callbacks),
            num_sanity_val_steps=0,
            deterministic=True,
            enable_checkpointing=checkpoints,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )

    return make


STEPS_PER_EPOCH = 94

COLUMNS = (
    *("epoch", "step", "train_loss", "train_top1", "val_loss", "val_top1", "val_top5"),
    *("learning_rate", "seconds"),
)
"""Of metrics.csv where images have one label."""


@pytest.fixture
def residual_study() -> Study:
    """Two arms, the baseline second, so that "baseline first" is a change of order."""
    return Study(
        name="residual",
        title="Residual connections",
        output="figure09_residual",
        source="Chollet 2016, section 4.6, figure 9",
        arms=(
            Arm("without", "without residual connections", {"residual": "false"}, "ends lower"),
            Arm("with", "with residual connections", {"residual": "true"}, "ends higher"),
        ),
        baseline="with",
        seeds=(0, 1, 2, 3, 4, 5),
        metrics=("top1",),
        target=0.8,
        scale="Xception at width 0.125 on fashion_mnist_embedded (28x28, 10 classes), 6 epochs",
    )


@pytest.fixture
def activation_study() -> Study:
    """Three arms."""
    return Study(
        name="intermediate_activation",
        title="Intermediate activation",
        output="figure10_intermediate_activation",
        source="Chollet 2016, section 4.7, figure 10",
        arms=(
            Arm("none", "no intermediate activation", {"intermediate_activation": "none"}, "highest"),
            Arm("relu", "intermediate ReLU", {"intermediate_activation": "relu"}, "below none"),
            Arm("elu", "intermediate ELU", {"intermediate_activation": "elu"}, "below none"),
        ),
        baseline="none",
        seeds=(0, 1, 2, 3, 4, 5),
        metrics=("top1",),
        target=0.8,
        scale="Xception at width 0.125 on fashion_mnist_embedded (28x28, 10 classes), 6 epochs",
    )


@pytest.fixture
def factorial_study() -> Study:
    """Two factors, three by two arms: at 1, 4 and 16 channels, without and with ReLU."""
    positions = {"one": 1.0, "four": 4.0, "all": 16.0}
    lines = {"none": "none", "relu": "ReLU"}
    levels = {f"{x}_{line}": {"depth": x, "act": line} for x in positions for line in lines}
    return Study(
        name="some_spectrum",
        title="Some spectrum",
        output="section_spectrum",
        source="Chollet 2016, section 4.7",
        arms=tuple(Arm(name, f"{of['depth']}, {lines[of['act']]}", of, "") for name, of in levels.items()),
        baseline="one_none",
        seeds=(0, 1),
        metrics=("top1",),
        target=0.8,
        scale="Xception on fashion_mnist_embedded",
        design=Design(
            factors=(
                Factor("depth", "depth", {x: x for x in positions}, {"all": "every one"}),
                Factor("act", "activation", lines),
            ),
            x="depth",
            lines="act",
            axis="channels per segment",
            levels=levels,
            positions={name: positions[of["depth"]] for name, of in levels.items()},
        ),
    )


MakeRun = Callable[..., StudyRun]


@pytest.fixture
def make_run() -> MakeRun:
    """Builds one run: `make_run(arm, seed, curve, test_top1, status="completed", **record)`.

    `curve` is validation top-1 at the end of each epoch; its last value is the final one.
    """

    def make(
        arm: str,
        seed: int,
        curve: Sequence[float] = (),
        test_top1: float = 0.5,
        status: str = "completed",
        **changes: object,
    ) -> StudyRun:
        run_id = f"{arm}-{seed}"
        directory = Path("results/runs") / run_id
        if status not in ("completed", "diverged"):
            return StudyRun(arm, seed, run_id, directory, status, None, None)
        record: dict[str, object] = {
            "status": status,
            "seed": seed,
            "config": {"dataset": {"num_classes": 10}},
            "data_fingerprint": "sha256:0",
            "parameters": 340_000,
            "multiply_adds": 7_000_000,
            "depth": 71,
            "wall_time_s": 90.0,
            "device": {"name": "Some CPU", "type": "cpu", "threads": 1},
            "versions": {"python": "3.11.2", "torch": "2.9.0"},
            "git": {"commit": "0123456789abcdef", "changes": {}},
            "finished": "2026-01-02T03:04:05+00:00",
            "edited": None,
            "files": None,
        }
        if status == "completed":
            record["metrics"] = {"val_top1": curve[-1], "test_top1": test_top1}
            record["steps_per_second"] = 6.0 + seed
        else:
            record["diverged_at_step"] = STEPS_PER_EPOCH * len(curve) + 7
        epochs = np.arange(1, len(curve) + 1)
        columns = {"epoch": epochs, "step": STEPS_PER_EPOCH * epochs, "val_top1": curve}
        history = History({name: np.array(column, float) for name, column in columns.items()})
        return StudyRun(arm, seed, run_id, directory, status, record | changes, history)

    return make


@pytest.fixture
def trending(make_run: MakeRun) -> list[StudyRun]:
    """Of `factorial_study`: ReLU minus none is 1, 2 and 5 points, so that it grows by 1 point per doubling.

    A bit differs by seed.
    """
    return [
        make_run(f"{level}_{line}", seed, [0.5, value], value)
        for seed in range(7)
        for level, effect in (("one", 0.01), ("four", 0.02), ("all", 0.05))
        for line in ("none", "relu")
        for value in [0.6 + 0.01 * seed + (line == "relu") * (effect + (level == "all") * 0.001 * (seed % 3))]
    ]


@pytest.fixture
def make_runs(make_run: MakeRun) -> Callable[[Study], list[StudyRun]]:
    """Builds a completed run per arm and seed, with curves that look like training."""

    def make(study: Study) -> list[StudyRun]:
        generator = np.random.default_rng(1)
        runs = []
        for seed in study.seeds:
            luck = generator.normal(0, 0.006)  # what the arms of one seed share
            for place, arm in enumerate(study.arms):
                late = arm.name in ("without", "elu")
                end = 0.885 - 0.03 * place - 0.07 * (arm.name == "without") + luck
                start = (0.12 if late else 0.55) - 0.03 * place + generator.normal(0, 0.02)
                epochs = np.arange(6)
                curve = end - (end - start) * np.exp(-(0.6 if late else 0.9) * epochs)
                curve = curve + generator.normal(0, 0.012 if late else 0.006, 6)
                runs.append(make_run(arm.name, seed, curve, curve[-1] - 0.01))
        return runs

    return make


@pytest.fixture
def hydra() -> Iterator[None]:
    """Hydra composes from this project's configuration."""
    with hydra_configuration():
        yield


@pytest.fixture
def results_dir(tmp_path: Path) -> Path:
    """A folder of results that does not exist yet."""
    return tmp_path / "results"


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, results_dir: Path) -> Callable[..., int]:
    """Calls `python -m ablations` on the test's results: `call("list", "residual")` returns the exit code."""

    def run(*words: str) -> int:
        monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
        if not results_dir.exists():  # a command refuses a folder that is not there
            results_dir.mkdir()
        place = (
            [] if any(word.startswith("results_dir=") for word in words) else [f"results_dir={results_dir}"]
        )
        monkeypatch.setattr(sys, "argv", ["ablations", *words, *place])
        code = command.main()
        if results_dir.is_dir() and not list(results_dir.iterdir()):
            results_dir.rmdir()
        return code

    return run


Configure = Callable[..., RunConfiguration]


@pytest.fixture
def configure(hydra: None, results_dir: Path) -> Configure:
    """Composes one run as the command line does: `configure("residual=false", "seed=1")`."""

    def make(*overrides: str) -> RunConfiguration:
        (configuration,) = compose_runs([f"results_dir={results_dir}", *overrides])
        return configuration

    return make


@pytest.fixture
def configuration(results_dir: Path) -> RunConfiguration:
    """The little of a run's configuration that a record needs, without Hydra."""
    resolved = {
        "seed": 3,
        "results_dir": str(results_dir),
        "dataset": {"checksums": {"images": "sha256:0"}, "num_classes": 10, "image_size": 28},
        "recipe": {"epochs": 2},
        "trainer": {"devices": 1, "num_nodes": 1},
    }
    return RunConfiguration(resolved, {"model": "xception", "residual": "true"})


WriteRun = Callable[..., RunDirectory]


@pytest.fixture(scope="session")
def write_run() -> WriteRun:
    """Writes a run as run.py does: `write_run(configuration, status, epochs=None, **record)`.

    `epochs` rows of metrics.csv: all of them where the run is completed, else none.
    """

    def write(
        configuration: RunConfiguration, status: str = "completed", epochs: int | None = None, **changes: Any
    ) -> RunDirectory:
        directory = RunDirectory(configuration.results_dir, configuration.run_id)
        directory.path.mkdir(parents=True, exist_ok=True)
        completed = status == "completed"
        device = {"type": "cpu", "name": "Some CPU", "threads": 1}
        if epochs is None:
            epochs = configuration.resolved["recipe"]["epochs"] if completed else 0
        top1 = 0.5 + 0.01 * configuration.seed
        metrics = {"val_loss": 0.7, "val_top1": top1, "val_top5": 0.9}
        metrics |= {"test_loss": 0.8, "test_top1": top1 - 0.1, "test_top5": 0.8}
        record = dict.fromkeys(SCHEMA) | {
            "schema_version": SCHEMA_VERSION,
            "run_id": configuration.run_id,
            "status": status,
            "process": {"host": "somewhere", "pid": 12345},
            "started": "2026-01-02T03:04:05+00:00",
            "finished": None if status == "running" else "2026-01-02T03:05:05+00:00",
            "choices": dict(configuration.choices),
            "seed": configuration.seed,
            "config": json.loads(json.dumps(configuration.resolved)),
            "data_fingerprint": configuration.data_fingerprint,
            "metrics": metrics if completed else None,
            "parameters": 340_000,
            "multiply_adds": 7_000_000,
            "depth": 71,
            "steps": 94 * epochs,
            "steps_per_second": 6.5 if epochs else None,
            "wall_time_s": 60.5,
            "undecodable_images": 0,
            "device": device if status in ("completed", "diverged") else None,
            "versions": {"python": "3.11.2", "torch": "2.9.0"},
            "git": {"commit": "0123456789abcdef", "changes": {}},
            "diverged_at_step": 17 if status == "diverged" else None,
            "error": "Traceback\n  somewhere\nOSError: disk full\n" if status == "failed" else None,
        }
        if epochs or completed:
            with directory.history_path.open("w", newline="", encoding="utf-8") as file:
                rows = csv.DictWriter(file, COLUMNS, restval=0.25, lineterminator="\n")
                rows.writeheader()
                for epoch in range(1, epochs + 1):
                    late = epochs - epoch
                    rows.writerow({"epoch": epoch, "step": 94 * epoch, "val_top1": top1 - 0.05 * late})
        if configuration.diagnostics:
            header = "diagnostic,layer,depth,channels,epoch,step,value\n"
            directory.diagnostics_path.write_text(header, encoding="utf-8")
        directory.write(record | changes)
        return directory

    return write


@pytest.fixture
def jft_study() -> Study:
    """Four arms in two pairs, a metric that is no accuracy, values and a row of the paper, two figures."""
    fc = {"fully_connected": "two"}
    return Study(
        name="jft_comparison",
        title="Multi-label",
        output="table02_jft",
        source="Chollet 2016, table 2",
        arms=(
            Arm("inception", "Inception V3", {"model": "inception_v3"}, "lowest", {"map100": 6.36}),
            Arm("xception", "Xception", {"model": "xception"}, "higher", {"map100": 6.7}),
            Arm("inception_fc", "Inception V3, FC", {"model": "inception_v3", **fc}, "", {"map100": 6.5}),
            Arm("xception_fc", "Xception, FC", {"model": "xception", **fc}, "", {}, baseline="inception_fc"),
        ),
        baseline="inception",
        seeds=(0, 1),
        metrics=("map100", "top5"),
        target=0.6,
        scale="mosaics",
        figures=(
            StudyFigure("figure07", "No FC", "figure 7", ("inception", "xception"), "inception"),
            StudyFigure("figure08", "FC", "figure 8", ("inception_fc", "xception_fc"), "inception_fc"),
        ),
        paper_only=(PaperRow("VGG-16", {"map100": 5.0}),),
    )


@pytest.fixture
def jft_runs(jft_study: Study, make_run: MakeRun) -> list[StudyRun]:
    """Final MAP@100 of an arm and seed: 0.50 + 0.05 * place of the arm + 0.01 * seed; test 0.1 lower."""
    runs = []
    for place, arm in enumerate(jft_study.arms):
        for seed in jft_study.seeds:
            final = 0.50 + 0.05 * place + 0.01 * seed
            run = make_run(arm.name, seed, [0.3, final])
            assert run.record is not None
            assert run.history is not None
            metrics = {"val_map100": final, "test_map100": final - 0.1, "val_top5": 0.9, "test_top5": 0.8}
            history = History({**run.history.columns, "val_map100": run.history["val_top1"]})
            runs.append(replace(run, record={**run.record, "metrics": metrics}, history=history))
    return runs


@pytest.fixture
def tuned_study(residual_study: Study) -> Study:
    """Two arms with four trials of two seeds each: best at trial 3, and as configured; one run diverged."""
    rates = (0.1, 0.034, 0.3, 0.9)
    values = {"with": (0.85, 0.82, 0.87, 0.5), "without": (0.7, 0.6, 0.65, 0.3)}

    def trial(arm: str, place: int) -> Trial:
        runs = (f"{arm}-{place}-100", f"{arm}-{place}-101")
        return Trial({"learning_rate": rates[place]}, values[arm][place], runs, int(place == 3))

    return replace(
        residual_study,
        output="figure09_residual__tuning=learning_rate",
        tuning=Tuning(
            option="learning_rate",
            keys={"learning_rate": "recipe.optimizer.lr"},
            space={"learning_rate": "log-uniform from 0.01 to 1"},
            logarithmic=("learning_rate",),
            sampler="RandomSampler",
            independent=True,
            seeds=(100, 101),
            epochs=6,
            labels={arm.name: arm.label for arm in residual_study.arms},
            trials={arm: tuple(trial(arm, place) for place in range(4)) for arm in values},
            core_hours=0.234,
            recorded_runs=16,
            journal="residual__tuning=learning_rate.log",
        ),
    )


Measure = Callable[..., StudyRun]


@pytest.fixture
def measure(tmp_path: Path) -> Measure:
    """Gives a run a directory with what it measured: `measure(run, rows)`, rows (diagnostic, layer, channels,
    epoch, step, value); the depth is left 1. Two epochs are planned.
    """

    def write(run: StudyRun, rows: Sequence[tuple[str, str, int, int, int, float]]) -> StudyRun:
        directory = tmp_path / "results" / "runs" / run.run_id
        directory.mkdir(parents=True, exist_ok=True)
        lines = ["diagnostic,layer,depth,channels,epoch,step,value"]
        lines += [",".join(map(str, (row[0], row[1], 1, *row[2:]))) for row in rows]
        (directory / "diagnostics.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        assert run.record is not None
        asked = {row[0]: {} for row in rows}
        config = {**run.record["config"], "recipe": {"epochs": 2}, "diagnostics": asked}
        return replace(run, directory=directory, record={**run.record, "config": config})

    return write

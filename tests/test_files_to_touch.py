"""How many files a user touches, in a project, for an arm, a factor, a metric, a figure, data and so on."""

import hashlib
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ablations import __main__ as command
from ablations.runs.identity import run_id_of
from ablations.runs.records import RunDirectory
from experiments import run
from experiments.check import check_run
from experiments.plan import plan_sweep
from experiments.planning import compose_runs, hydra_configuration, plan_study
from experiments.project import FRAMEWORK_CONF, Project, use
from experiments.study_file import comparable_studies
from tests.few_images import as_words

RUN = "from experiments.run import main\n\nif __name__ == '__main__':\n    raise SystemExit(main(__file__))\n"


class Touched:
    """A project in an empty folder: what is written into it is what a user writes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "conf").mkdir(parents=True)
        (root / "run.py").write_text(RUN)
        self.files: list[str] = []

    def write(self, file: str, text: str) -> None:
        path = self.root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self.files.append(file)

    def ids(self, *arguments: str) -> list[str]:
        """The run_ids that a command plans."""
        with hydra_configuration():
            return [planned.run_id for planned in plan_sweep(arguments)]

    def check(self, *overrides: str) -> None:
        """What a run does before it trains: it builds every part and reads the data."""
        with hydra_configuration():
            (configuration,) = compose_runs([f"results_dir={self.root}/results", *overrides])
        check_run(configuration)

    def train(self, *words: str) -> RunDirectory:
        """`python run.py` with these words."""
        words = (*words, f"results_dir={self.root}/results", "logger=none")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.root)
            patch.setattr(sys, "argv", ["run.py", *words])
            assert run.main(str(self.root / "run.py")) == 0
        (folder,) = (self.root / "results/runs").iterdir()
        return RunDirectory(self.root / "results", folder.name)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Touched]:
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", list(sys.path))
        with use(Project(tmp_path / "paper")) as _:
            yield Touched(tmp_path / "paper")
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


def test_an_arm_is_one_file(project: Touched) -> None:
    project.write("conf/intermediate_activation/silu.yaml", "_target_: torch.nn.SiLU\n_partial_: true\n")
    assert len(set(project.ids("intermediate_activation=none,relu,silu"))) == 3
    project.check("intermediate_activation=silu")
    assert len(project.files) == 1


POOL = """\
_target_: torch.nn.AvgPool2d
_partial_: true
kernel_size: 3
stride: 2
padding: 1
"""


def test_a_factor_is_a_folder_of_options_and_the_networks_file_and_orphans_no_run(project: Touched) -> None:
    study = (FRAMEWORK_CONF / "study/residual.yaml").read_text()  # a project plans its own studies alone
    project.write("conf/study/residual.yaml", study)
    with hydra_configuration():
        before = [planned.run_id for planned in plan_study("residual")[1]]
    file = "conf/model/xception.yaml"
    network = (FRAMEWORK_CONF.parent / file).read_text()
    part = "pool:\n  _target_: lightning_modules.networks.blocks.SameMaxPool2d\n  _partial_: true\n"
    assert network.count(part) == 1
    declared = "defaults:\n  - /pool@_global_.pool: max\n  - _self_\n"
    project.write("conf/pool/max.yaml", part.partition("\n")[2].replace("  ", ""))
    project.write("conf/pool/average.yaml", POOL)
    project.write(file, declared + network.replace(part, "pool: ${pool}\n"))

    with hydra_configuration():
        assert [planned.run_id for planned in plan_study("residual")[1]] == before
    neutral, varied = project.ids("pool=max,average")
    assert neutral in before
    assert varied not in before
    project.check("pool=average")
    assert [name for name in project.files if "/pool/" not in name] == ["conf/study/residual.yaml", file]


NETWORK = '''\
"""A network of the user's."""

from torch import nn


class Plain(nn.Sequential):
    def __init__(self, *, num_classes, in_channels, width):
        channels = round(64 * width)
        super().__init__(
            nn.Conv2d(in_channels, channels, 3, 2, 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels, num_classes),
        )
'''
NETWORK_CONF = """\
_target_: my_network.Plain
num_classes: ${dataset.num_classes}
in_channels: ${dataset.channels}
width: 1.0
"""


@pytest.mark.slow
def test_a_factor_of_a_new_argument_orphans_no_run_once_records_know_their_option(
    project: Touched, few_images: Mapping[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    def migrate(word: str) -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["ablations", "migrate", word, f"results_dir={project.root}/results"])
            command.main()
        return "".join(capsys.readouterr())

    project.write("my_network.py", NETWORK)
    project.write("conf/model/plain.yaml", NETWORK_CONF)
    trained = project.train("model=plain", "model.width=0.1", "recipe.epochs=1", *as_words(few_images)).read()

    with_argument = NETWORK.replace("width):", "width, act):").replace("nn.ReLU()", "act()")
    project.write("my_network.py", with_argument)
    del sys.modules["my_network"]
    declared = "defaults:\n  - /act@_global_.act: relu\n  - _self_\nact: ${act}\n"
    project.write("conf/model/plain.yaml", declared + NETWORK_CONF)
    project.write("conf/act/relu.yaml", "_target_: torch.nn.ReLU\n_partial_: true\n")
    project.write("conf/act/prelu.yaml", "_target_: torch.nn.PReLU\n_partial_: true\n")
    words = ("model=plain", "model.width=0.1", "recipe.epochs=1", *as_words(few_images))
    neutral, varied = project.ids("act=relu,prelu", *words)
    assert trained["run_id"] not in (neutral, varied)

    assert "choose the option that builds what was built before" in migrate("act=prelu")
    (original,) = (project.root / "results/runs").iterdir()
    table = original / "metrics.csv"
    content = table.read_text()
    table.write_text(content.replace("0.", "0.9"))
    assert "0 records updated" in (told := migrate("act=relu"))
    assert "changed or damaged" in told
    table.write_text(content)
    # A record that others made is not to call what it names.
    executed = project.root / "executed"
    trap = {"_target_": "sympy.sympify", "_args_": [f'__import__("os").mkdir("{executed}")']}
    config = {**trained["config"], "model": {**trained["config"]["model"], "new": trap}}
    foreign = RunDirectory(project.root / "results", run_id_of(config))
    shutil.copytree(original, foreign.path)
    foreign.write({**trained, "config": config, "run_id": foreign.run_id})

    assert "1 record updated" in (told := migrate("act=relu"))
    assert f"{foreign.record_path}: its network has sympy.sympify" in told
    assert not executed.exists()
    shutil.rmtree(foreign.path)
    (directory,) = (project.root / "results/runs").iterdir()
    record = RunDirectory(project.root / "results", neutral).read()
    assert (directory.name, record["choices"]["act"]) == (neutral, "relu")
    assert record["metrics"] == trained["metrics"]
    assert "0 records updated" in migrate("act=relu")
    for wrong, line in (("act=rele", "act=rele: no such option"), ("acts=relu", "acts=relu: no such option")):
        assert line in migrate(wrong)


def test_a_network_is_a_module_and_one_file_and_a_small_variant_one_more(project: Touched) -> None:
    project.write("my_network.py", NETWORK)
    project.write("conf/model/plain.yaml", NETWORK_CONF)
    project.check("model=plain")
    assert len(project.files) == 2
    project.write("conf/model/plain_small.yaml", "defaults: [plain, _self_]\nwidth: 0.125\n")
    project.check("model=plain_small")
    assert len(set(project.ids("model=plain,plain_small,xception_small"))) == 3
    with hydra_configuration():
        (plain,) = compose_runs(["model=plain_small"])
    assert plain.resolved["model"]["width"] == 0.125
    assert plain.resolved["recipe"]["optimizer"]["weight_decay"] == 1e-5  # it says nothing about it


READER = '''\
"""A reader of the user's: one archive."""

import io

import numpy as np

from lightning_modules.data.images import ImageDataModule, Part


class Brightness(ImageDataModule):
    file_names = ("brightness.npz",)
    folders = ("",)
    hint = "put brightness.npz into {root}"

    def decode(self, contents):
        with np.load(io.BytesIO(contents["brightness.npz"])) as arrays:
            train, test = (
                Part(arrays[f"{part}_images"], arrays[f"{part}_labels"]) for part in ("train", "test")
            )
        return train, test
'''
DATASET_CONF = """\
_target_: my_reader.Brightness
root: ROOT
download: false
checksums: {brightness.npz: sha256:CHECKSUM}
num_classes: 4
channels: 1
image_size: 16
task: {_target_: lightning_modules.tasks.SingleLabel, _partial_: true}
validation_images: 20
train_images: null
split_seed: 0
batch_size: ${recipe.batch_size}
eval_batch_size: 500
seed: ${seed}
horizontal_flip: true
crop_padding: 2
num_workers: null
"""


def write_images(path: Path) -> str:
    """Noise whose brightness tells the class; returns its SHA-256."""
    draws = np.random.default_rng(0)
    arrays = {}
    for part, number in (("train", 60), ("test", 20)):
        labels = draws.permutation(np.arange(number) % 4)
        noise = draws.integers(0, 60, size=(number, 1, 16, 16))
        arrays[f"{part}_images"] = (noise + 48 * labels[:, None, None, None]).astype(np.uint8)
        arrays[f"{part}_labels"] = labels
    path.parent.mkdir()
    np.savez(path, **arrays)
    return hashlib.sha256(path.read_bytes()).hexdigest()


METRIC = """\
label: balanced accuracy
unit: share
direction: higher
chance: 1 / num_classes
measured_by:
  _target_: torchmetrics.classification.MulticlassAccuracy
  num_classes: ${dataset.num_classes}
  average: macro
"""


@pytest.mark.slow
def test_a_metric_is_one_file_and_is_measured_compared_and_judged(
    project: Touched, few_images: Mapping[str, Any]
) -> None:
    project.write("conf/metric/balanced_accuracy.yaml", METRIC)
    tiny = ("model.width=0.02", "model.middle_modules=0", "recipe.epochs=1")
    record = project.train("metrics=balanced_accuracy", *tiny, *as_words(few_images)).read()
    assert list(record["config"]["metrics"]) == ["balanced_accuracy", "top1", "top5"]
    metrics = record["metrics"]
    # The test images are equally many of each class.
    assert metrics["test_balanced_accuracy"] == pytest.approx(metrics["test_top1"], abs=1e-6)
    assert len(project.files) == 1
    study = (FRAMEWORK_CONF / "study/residual.yaml").read_text()
    project.write(
        "conf/study/residual.yaml", study.replace("metrics: [top1]", "metrics: [balanced_accuracy]")
    )
    with hydra_configuration():
        planned, runs = plan_study("residual", ["seed=0"])
    assert planned.deciding.label == "balanced accuracy"
    assert all("balanced_accuracy" in run.configuration.metrics for run in runs)
    assert "test_balanced_accuracy" in comparable_studies()["residual"].metrics


@pytest.mark.slow
def test_a_dataset_is_a_reader_and_one_file_and_trains(project: Touched, tmp_path: Path) -> None:
    checksum = write_images(tmp_path / "data/brightness.npz")
    project.write("my_reader.py", READER)
    text = DATASET_CONF.replace("ROOT", f"{tmp_path}/data").replace("CHECKSUM", checksum)
    project.write("conf/dataset/brightness.yaml", text)
    tiny = ("model.width=0.02", "model.middle_modules=0", "recipe.epochs=1", "recipe.batch_size=20")
    record = project.train("dataset=brightness", *tiny).read()
    assert record["status"] == "completed"
    assert record["choices"]["dataset"] == "brightness"
    assert 0 <= record["metrics"]["test_top1"] <= 1
    assert len(project.files) == 2


STUDY = """\
name: shortcuts
title: Shortcuts
source: ours
output: shortcuts
base: {model: xception_small, dataset: fashion_mnist_embedded, recipe: embedded}
arms:
  - {name: with, label: with shortcuts, choose: {residual: "true"}}
  - {name: without, label: without shortcuts, choose: {residual: "false"}}
baseline: with
seeds: [0, 1]
metrics: [top1]
target: 0.6
"""


@pytest.fixture
def record(write_run: Callable[..., RunDirectory], results_dir: Path) -> Callable[..., None]:
    """Records a study's runs but the last; test top-1 without shortcuts is 10 points lower."""

    def write() -> None:
        with hydra_configuration():
            _, planned = plan_study("shortcuts", [f"results_dir={results_dir}"])
        for each in planned[:-1]:
            top1 = 0.6 + 0.001 * each.configuration.seed ** (1 + (each.arm == "with"))
            tested = top1 - (0.05 if each.arm == "with" else 0.15)
            write_run(each.configuration, metrics={"val_top1": top1, "test_top1": tested})

    return write


FIGURE = '''\
"""Figures of the user's."""

from matplotlib.figure import Figure

from ablations.studies.results import outcomes


def sizes(study, runs):
    figure = Figure()
    axes = figure.add_subplot(xlabel="parameters", ylabel="test top-1")
    for arm, of_arm in outcomes(study, runs).items():
        found = [(one.run.record["parameters"], one.final["test_top1"]) for one in of_arm]
        axes.plot(*zip(*found, strict=True), "o", label=f"{arm}: {len(found)} runs")
    axes.legend()
    return figure
'''


def test_a_figure_is_one_file_and_is_written_with_ours(
    project: Touched,
    record: Callable[[], None],
    call: Callable[..., int],
    results_dir: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    project.write("my_figures.py", FIGURE)
    figures = "figures: [{draw: my_figures.sizes, output: sizes, title: Size and accuracy}]\n"
    project.write("conf/study/shortcuts.yaml", STUDY + figures)
    record()
    assert call("shortcuts") == 0
    written = {path.name for path in (results_dir / "figures").iterdir()}
    assert written == {f"{name}.{form}" for name in ("shortcuts", "sizes") for form in ("png", "svg", "pdf")}
    drawn = (results_dir / "figures/sizes.svg").read_text()
    for text in ("Size and accuracy", "parameters", "with: 2 runs", "without: 1 runs", "seed 1 (missing)"):
        assert text in drawn

    for wrong, why in {"my_figures.nope": "no attribute", "nowhere.sizes": "No module", "sizes": ""}.items():
        (project.root / "conf/study/shortcuts.yaml").write_text(
            STUDY + figures.replace("my_figures.sizes", wrong)
        )
        capsys.readouterr()
        assert call("shortcuts") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"figures.0.draw={wrong}: " in line
        assert why in line


QUANTITY = '''\
"""Quantities of the user's."""

import ablations


@ablations.quantity(label="gap between validation and test", unit="share")
def gap(outcome):
    return outcome.final["val_top1"] - outcome.final["test_top1"]
'''
CLAIM = """\
claims:
  - id: smaller-gap
    statement: With shortcuts the gap between validation and test is smaller.
    source: ours
    study: shortcuts
    comparisons:
      - {treatment: with, control: without, metric: my_quantities.gap, direction: lower, margin: 0.05}
"""


def test_a_kind_of_claim_is_one_file_and_is_judged(
    project: Touched,
    record: Callable[[], None],
    call: Callable[..., int],
    results_dir: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    project.write("my_quantities.py", QUANTITY)
    project.write("conf/study/shortcuts.yaml", STUDY.replace("[0, 1]", "[0, 1, 2, 3, 4, 5, 6]"))
    project.write("conf/claims/ours.yaml", CLAIM)
    record()
    assert call("verdicts", "shortcuts") == 0
    (table,) = (results_dir / "tables").glob("*.csv")
    (verdict,) = pd.read_csv(table).to_dict("records")
    assert (verdict["verdict"], verdict["n_pairs"]) == ("holds", 6)
    assert verdict["estimate"] == pytest.approx(-0.1)
    assert "gap between validation and test" in capsys.readouterr().out

    for wrong, why in {"my_quantities.nope": "no attribute", "math.pi": "not a quantity"}.items():
        (project.root / "conf/claims/ours.yaml").write_text(CLAIM.replace("my_quantities.gap", wrong))
        assert call("verdicts", "shortcuts") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"conf/claims/ours.yaml: claim smaller-gap: comparisons.0: metric={wrong}: " in line
        assert why in line

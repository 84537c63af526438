"""train=false: weights are evaluated once, and the record is one like any other."""

import json
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torchmetrics import MeanMetric, Metric

from ablations.errors import UserError
from ablations.runs.records import RunDirectory
from experiments import command_line, run
from experiments.check import check_run
from experiments.configuration import RunConfiguration
from experiments.plan import plan_sweep
from experiments.planned_run import PlannedRun
from experiments.planning import compose_runs, hydra_configuration, plan_study
from experiments.project import FRAMEWORK_CONF
from experiments.standing import standing
from lightning_modules.assembly import make_data_and_module
from lightning_modules.tasks import SingleLabel
from tests.few_images import as_words

pytestmark = pytest.mark.slow

SMALL = (
    "model.width=0.02",
    "model.stem_stride=2",
    "model.middle_modules=0",
    "recipe.epochs=1",
    "logger=none",
)


@pytest.fixture(scope="module")
def results_dir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def tiny(few_images: Mapping[str, Any]) -> list[str]:
    """Words of a small network on few images, which it sees in small batches."""
    return [*SMALL, *as_words(few_images), "recipe.batch_size=10"]


@pytest.fixture(scope="module")
def configure(results_dir: Path, tiny: list[str]) -> Callable[..., RunConfiguration]:
    def make(*overrides: str) -> RunConfiguration:
        with hydra_configuration():
            (configuration,) = compose_runs([*tiny, f"results_dir='{results_dir}'", *overrides])
        return configuration

    return make


def directory_of(configuration: RunConfiguration) -> RunDirectory:
    return RunDirectory(configuration.results_dir, configuration.run_id)


def carried_out(configuration: RunConfiguration) -> RunDirectory:
    check_run(configuration)
    directory = directory_of(configuration)
    with directory.lock():
        run.train(configuration, directory)
    return directory


@pytest.fixture(scope="module")
def trained(configure) -> RunDirectory:
    """A run whose network differs from the default's in what its values do not show."""
    return carried_out(configure("intermediate_activation=relu", "model.norm.eps=0.1", "seed=3"))


@pytest.fixture(scope="module")
def evaluated(configure, trained: RunDirectory) -> RunConfiguration:
    """The same network on the same data: the seed alone is another."""
    weights = f"weights='{trained.checkpoint_path}'"
    configuration = configure("intermediate_activation=relu", "seed=4", "train=false", weights)
    carried_out(configuration)
    return configuration


def test_a_checkpoint_gives_the_metrics_of_its_run(
    trained: RunDirectory, evaluated: RunConfiguration
) -> None:
    then, now = trained.read(), directory_of(evaluated).read()
    assert then is not None
    assert now is not None
    assert now["metrics"] == then["metrics"]
    # Of the network's own answers, which another seed's start would not give: not of equal ones to all.
    assert now["metrics"]["val_loss"] != pytest.approx(math.log(10), abs=1e-4)
    assert now["config"]["model"]["norm"]["eps"] == 0.1  # follows the checkpoint
    assert now["config"]["weights_sha256"] == evaluated.resolved["weights_sha256"]


def test_the_record_of_an_evaluation(evaluated: RunConfiguration) -> None:
    directory = directory_of(evaluated)
    record = directory.read()
    assert record is not None
    assert (record["status"], record["steps"], record["steps_per_second"]) == ("completed", 0, None)
    assert record["finished"]
    assert directory.rows() == []
    assert directory.checkpoint() is None
    assert directory.status() == "completed"  # so that it is not evaluated again
    assert command_line.outcome(record).startswith("completed: validation top-1 ")
    directory.history_path.rename(directory.path / "aside")
    assert directory.status() == "missing"
    (directory.path / "aside").rename(directory.history_path)


def test_how_an_evaluation_stands_among_planned_runs(evaluated: RunConfiguration) -> None:
    planned = PlannedRun("arm", (), evaluated, "sweep")
    assert planned.epochs == 0
    ((entry,), problems) = standing([planned])
    assert problems == []
    assert entry.status == "completed"
    assert entry.history is not None
    assert len(entry.history) == 0


def test_what_only_training_needs_does_not_stop_an_evaluation(
    configure, trained: RunDirectory, evaluated: RunConfiguration
) -> None:
    settings = ("intermediate_activation=relu", "train=false", f"weights='{trained.checkpoint_path}'")
    larger = configure(*settings, "recipe.batch_size=5000")  # than the training part
    assert carried_out(larger).read()["metrics"] == directory_of(evaluated).read()["metrics"]
    check_run(configure(*settings, "trainer=ddp", "trainer.accelerator=cpu", "recipe.batch_size=63"))


def test_weights_are_evaluated_as_they_are_whatever_the_recipe_averages(
    configure, trained: RunDirectory
) -> None:
    averaging = "recipe.averaging={_target_:lightning_modules.averaging.PolyakAveraging,decay:0.9}"
    weights = f"weights='{trained.checkpoint_path}'"
    run = configure("intermediate_activation=relu", "seed=3", "train=false", weights, averaging)
    then, now = trained.read(), carried_out(run).read()
    assert then is not None
    assert now is not None
    assert now["metrics"] == then["metrics"]


def test_weights_of_another_library_are_evaluated(configure, tmp_path: Path) -> None:
    """A published network's file, from end to end: its constants are followed and a record is written."""
    file = tmp_path / "legacy_xception.pt"
    import timm  # it takes a second of whoever collects tests

    torch.save(timm.create_model("legacy_xception", num_classes=10, in_chans=1).state_dict(), file)
    full_size = ["model.width=1", "model.stem_stride=2", "model.middle_modules=8"]
    record = carried_out(configure(*full_size, "train=false", f"weights={file}")).read()
    assert record is not None
    assert (record["status"], record["error"], record["steps"]) == ("completed", None, 0)
    assert record["config"]["model"]["norm"]["eps"] == 1e-5
    assert 0 < record["metrics"]["test_loss"] < 100


def test_training_starts_from_the_weights(configure, trained: RunDirectory) -> None:
    weights = f"weights='{trained.checkpoint_path}'"
    configuration = configure(weights, "intermediate_activation=elu", "seed=5")
    assert configuration.resolved["model"]["norm"]["eps"] == 0.1
    _, module = make_data_and_module(configuration.resolved)
    state = torch.load(trained.checkpoint_path, weights_only=True)["state_dict"]
    for name, value in module.network.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(value, state[f"network.{name}"]), name
    assert module.network.stem.conv1.conv.weight.is_contiguous(memory_format=torch.channels_last)
    record = carried_out(configuration).read()
    assert record is not None
    assert record["status"] == "completed"
    assert record["steps"] == 280 // 10


def test_weights_that_are_not_finite_diverge(configure, trained: RunDirectory, tmp_path: Path) -> None:
    checkpoint = torch.load(trained.checkpoint_path, weights_only=True)
    checkpoint["state_dict"]["network.head.logits.bias"].fill_(float("nan"))
    torch.save(checkpoint, tmp_path / "nan.ckpt")
    configuration = configure(
        f"weights='{tmp_path / 'nan.ckpt'}'", "intermediate_activation=relu", "train=false"
    )
    directory = carried_out(configuration)
    record = directory.read()
    assert record is not None
    assert (record["status"], record["diverged_at_step"]) == ("diverged", 0)
    assert directory.status() == "diverged"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("intermediate_activation=elu",),
            "model.separable.intermediate_activation._target_=torch.nn.ELU: the network",
        ),
        (("model.stem_stride=1",), "model.stem_stride=1: the network of weights="),
        (("model.norm.eps=0.01",), "model.norm.eps=0.01: the network of weights="),
    ],
)
def test_another_network_is_not_evaluated(
    configure, trained: RunDirectory, overrides: tuple[str, ...], message: str
) -> None:
    weights = f"weights='{trained.checkpoint_path}'"
    with pytest.raises(UserError) as raised:
        configure(weights, "train=false", "intermediate_activation=relu", *overrides)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("dataset.channels=3",), "needs dataset.channels=1, not 3"),
        (("dataset.num_classes=7",), "has 10 classes, but dataset.num_classes=7; new_head=true"),
        (
            ("model.width=0.05",),
            "another width: stem.conv1.conv.weight is 1x1x3x3 in the file and 2x1x3x3 in",
        ),
        (
            ("model.middle_modules=1",),
            "of another network than Xception as configured: without middle_flow.0.",
        ),
    ],
)
def test_the_check_names_what_does_not_fit(
    configure, trained: RunDirectory, overrides: tuple[str, ...], message: str
) -> None:
    weights = f"weights='{trained.checkpoint_path}'"
    before = sorted(trained.path.parent.iterdir())
    with pytest.raises(UserError) as raised:
        check_run(configure(weights, *overrides))
    assert str(raised.value).startswith(f"weights={trained.checkpoint_path}: {message}")
    assert sorted(trained.path.parent.iterdir()) == before


def test_a_sweep_over_weights(trained: RunDirectory, tiny: list[str], tmp_path: Path) -> None:
    copy = tmp_path / "copy.ckpt"
    checkpoint = torch.load(trained.checkpoint_path, weights_only=True)
    torch.save(checkpoint | {"epoch": 7}, copy)
    arguments = [*tiny, "train=false", "intermediate_activation=relu"]
    with hydra_configuration():
        runs = plan_sweep([*arguments, f"weights={trained.checkpoint_path},{copy}"])
        with pytest.raises(UserError, match="identical runs"):
            plan_sweep([*arguments, f"weights={copy},{shutil.copy(copy, tmp_path / 'same.ckpt')}"])
    assert len({run.run_id for run in runs}) == 2
    assert {run.arm for run in runs} == {f"weights={trained.checkpoint_path}", f"weights={copy}"}


def test_a_study_of_training_trains(trained: RunDirectory, tiny: list[str]) -> None:
    overrides = ["train=false", *tiny, f"weights={trained.checkpoint_path}"]
    with (
        hydra_configuration(),
        pytest.raises(UserError, match=r"^train=false: study=residual compares"),
    ):
        plan_study("residual", overrides)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train=false", "train=False: needs weights to evaluate; add weights=FILE"),
        ("train=maybe", "train=maybe: must be true or false"),
        ("weights=none.h5", "weights=none.h5: no such file"),
        ("weights_sha256=abc", "weights_sha256=abc: needs a file; add weights=FILE"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # a command sets it
    monkeypatch.setattr("sys.argv", ["run.py", *arguments.split()])
    assert run.main(str(FRAMEWORK_CONF.parent / "run.py")) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert list(tmp_path.iterdir()) == []


def test_the_command_evaluates_once(
    trained: RunDirectory,
    evaluated: RunConfiguration,
    tiny: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    directory = directory_of(evaluated)
    before = directory.record_path.read_text()
    overrides = [
        "intermediate_activation=relu",
        "seed=4",
        "train=false",
        f"weights={trained.checkpoint_path}",
    ]
    where = f"results_dir={evaluated.results_dir}"
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # a command sets it
    monkeypatch.setattr("sys.argv", ["run.py", *tiny, where, *overrides])
    assert run.main(str(FRAMEWORK_CONF.parent / "run.py")) == 0
    top1 = json.loads(before)["metrics"]["val_top1"]
    assert f": validation top-1 {top1:.1%}" in capsys.readouterr().out
    assert directory.record_path.read_text() == before


class NothingToMeasure(MeanMetric):
    """A metric of one's own without a value in the test."""

    def update(self, *_: object) -> None:
        super().update(float("nan"))


class WithoutTestMetric(SingleLabel):
    def measure(self, name: str, metric: Metric, *, training: bool = False) -> None:
        super().measure(name, metric, training=training)
        if name == "top1":
            self.metrics["test"]["top1"] = self.test_top1 = NothingToMeasure(nan_strategy="ignore")


@pytest.mark.filterwarnings("ignore:Encountered `nan` values", "ignore:No samples to concatenate")
def test_a_metric_that_is_no_number_ends_in_a_failed_record(configure) -> None:
    """Not in one that says `running` for ever."""
    configuration = configure(f"dataset.task._target_={__name__}.WithoutTestMetric", "seed=5")
    record = carried_out(configuration).read()
    assert record is not None
    assert (record["status"], record["metrics"]) == ("failed", None)
    assert "test_top1=nan" in record["error"].splitlines()[-1]
    assert directory_of(configuration).status() == "failed"


def test_an_infinite_setting_of_a_layer_is_trained_with_and_recorded(configure) -> None:
    hardtanh = "++intermediate_activation={_target_:torch.nn.Hardtanh,_partial_:true,min_val:0,max_val:inf}"
    configuration = configure("intermediate_activation=relu", hardtanh)
    record = carried_out(configuration).read()
    assert record is not None
    assert record["status"] == "completed"
    assert record["config"]["intermediate_activation"]["max_val"] == ".inf"
    assert RunConfiguration(record["config"], record["choices"]).run_id == record["run_id"]


def test_the_checkpoint_of_a_finished_run_is_deleted_where_it_is_not_kept(configure) -> None:
    kept, freed = configure("seed=11"), configure("seed=11", "keep_checkpoint=false")
    assert kept.run_id == freed.run_id
    directory = carried_out(freed)
    assert directory.status() == "completed"
    assert not directory.checkpoint_path.exists()
    record = directory.read()
    assert record is not None
    assert set(record["files"]) == {"metrics.csv"}

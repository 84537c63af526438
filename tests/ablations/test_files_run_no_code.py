"""No value of a file that others may have made is called or evaluated: each would leave a folder."""

import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate

from ablations.errors import UserError
from ablations.runs.archive import unpack
from ablations.runs.records import RunDirectory, measured_diagnostics
from experiments.check import check_run
from experiments.configuration import RunConfiguration, load_yaml
from experiments.planning import compose_runs, hydra_configuration, plan_study
from experiments.run import train
from experiments.tuning import plan_tuning
from lightning_modules.assembly import make_data_and_module
from tests.few_images import as_words

pytestmark = pytest.mark.slow  # plans whole studies or builds many networks

TINY = ("model.width=0.02", "model.stem_stride=2", "model.middle_modules=0", "recipe.epochs=1", "logger=none")


class Trap:
    """A node of a configuration that makes a folder where it is instantiated, and a pickle that does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.node = {"_target_": "sympy.sympify", "_args_": [f'__import__("os").mkdir("{folder}")']}

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    works = Trap(tmp_path / "works")
    with suppress(Exception):
        instantiate(works.node)
    assert works.folder.exists()
    return Trap(tmp_path / "executed")


@pytest.fixture
def configure(tmp_path: Path, few_images: Mapping[str, Any]) -> Callable[..., RunConfiguration]:
    tiny = [*TINY, *as_words(few_images), f"results_dir='{tmp_path / 'results'}'"]

    def make(*overrides: str) -> RunConfiguration:
        with hydra_configuration():
            (configuration,) = compose_runs([*tiny, *overrides])
        return configuration

    return make


# Weights


# A part, a part of a part, a plain value, the class and a key that is new; a text as well as a node.
@pytest.mark.parametrize(
    ("key", "as_text"),
    [
        *((key, False) for key in ("pool", "separable.segments", "norm.eps", "_target_", "new")),
        *((key, True) for key in ("residual", "norm.eps")),
    ],
)
def test_the_configuration_in_a_checkpoint(
    configure, trap: Trap, tmp_path: Path, key: str, as_text: bool
) -> None:
    model = json.loads(json.dumps(configure().resolved["model"]))
    *parents, last = key.split(".")
    node = model
    for parent in parents:
        node = node[parent]
    node[last] = "${oc.env:HOME}" if as_text else trap.node
    _, module = make_data_and_module(configure().resolved)
    torch.save(
        {
            "pytorch-lightning_version": "2.6",
            "state_dict": {f"network.{name}": value for name, value in module.network.state_dict().items()},
            "hyper_parameters": {"model": model},
        },
        tmp_path / "file",
    )
    weights = f"weights='{tmp_path / 'file'}'"
    for more in ([], ["train=false"]):
        with suppress(UserError):  # another network is not evaluated
            configuration = configure(weights, *more)
            check_run(configuration)
            make_data_and_module(configuration.resolved)
            assert configuration.resolved["model"] == configure().resolved["model"]
            assert not more
    assert not trap.folder.exists()


@pytest.mark.parametrize("eps", [float("nan"), float("inf"), "1e-3", True, [1e-3]])
def test_an_epsilon_that_is_no_number(configure, tmp_path: Path, eps: object) -> None:
    model = {"norm": {"eps": eps}}
    state = {"network.head.logits.weight": torch.ones(1, 1)}
    content = {"pytorch-lightning_version": "2.6", "state_dict": state, "hyper_parameters": {"model": model}}
    torch.save(content, tmp_path / "file")
    with pytest.raises(UserError, match=r"^weights=.*: damaged: norm\.eps of its network is "):
        configure(f"weights='{tmp_path / 'file'}'")


def test_a_configuration_that_holds_itself(configure, tmp_path: Path) -> None:
    model: dict[str, Any] = {}
    model["norm"] = model
    state = {"network.head.logits.weight": torch.ones(1, 1)}
    content = {"pytorch-lightning_version": "2.6", "state_dict": state, "hyper_parameters": {"model": model}}
    torch.save(content, tmp_path / "file")
    with pytest.raises(UserError, match=r"^weights=.*: damaged"):
        configure(f"weights='{tmp_path / 'file'}'")


def test_a_value_in_a_checkpoint_that_a_terminal_obeys(configure, tmp_path: Path) -> None:
    model = {"norm": {"eps": 1e-3}, "residual": "\x1b[1mbold\n"}
    state = {"network.\x1b[1mhead": torch.ones(1, 1)}
    content = {"pytorch-lightning_version": "2.6", "state_dict": state, "hyper_parameters": {"model": model}}
    torch.save(content, tmp_path / "file")
    for more in ([], ["train=false"]):
        with pytest.raises(UserError) as raised:
            check_run(configure(f"weights='{tmp_path / 'file'}'", *more))
        assert str(raised.value).isprintable()


@pytest.mark.slow
def test_a_checkpoint_to_go_on_from(configure, trap: Trap, capsys: pytest.CaptureFixture[str]) -> None:
    configuration = configure()
    directory = RunDirectory(configuration.results_dir, configuration.run_id)
    with directory.lock():
        train(configuration, directory)
        assert capsys.readouterr().out == ""
        for place in ("callbacks", "hyper_parameters", "loops", "state_dict"):
            checkpoint = torch.load(directory.checkpoint_path, weights_only=False)
            torch.save(checkpoint | {place: trap}, directory.checkpoint_path)
            assert directory.checkpoint() is not None
            record = train(configuration, directory)
            assert capsys.readouterr().out == "default seed 0 continues after 1 of 1 epoch\n"
            assert record["status"] == "failed"
            assert not trap.folder.exists()
            torch.save(checkpoint, directory.checkpoint_path)


# Records


@pytest.fixture
def archive(tmp_path: Path) -> Callable[[RunDirectory], Path]:
    """Packs one record as somebody else may have."""

    def pack(directory: RunDirectory) -> Path:
        path = tmp_path / "records.tar.xz"
        with tarfile.open(path, "w:xz") as file:
            data = directory.record_path.read_bytes()
            entry = tarfile.TarInfo(f"runs/{directory.run_id}/record.json")
            entry.size = len(data)
            file.addfile(entry, io.BytesIO(data))
        directory.record_path.unlink()
        directory.path.rmdir()
        return path

    return pack


def hostile(trap: Trap) -> dict[str, Any]:
    """Diagnostics of a record; the first are ours but for a part."""
    ours = "lightning_modules.diagnostics.DeadUnits"
    return {
        "another": {"another": trap.node},
        "target": {"dead_units": trap.node},
        "within": {"dead_units": {"_target_": ours, "images": trap.node, "tolerance": 0.001}},
        "more": {"dead_units": {"_target_": ours, "images": 512, "tolerance": 0.001, "more": trap.node}},
        "list": {"dead_units": {"_target_": ours, "images": [trap.node], "tolerance": 0.001}},
        "text": {"dead_units": {"_target_": ours, "images": "${oc.env:HOME}", "tolerance": 0.001}},
    }


@pytest.mark.parametrize("what", list(hostile(Trap(Path()))))
@pytest.mark.parametrize("status", ["failed", "running"])
def test_what_a_record_says_that_it_measured(
    configure, write_run, archive, trap: Trap, tmp_path: Path, what: str, status: str
) -> None:
    configuration = configure()
    written = write_run(configuration.with_diagnostics(hostile(trap)[what]), status, epochs=0)
    written.diagnostics_path.unlink()
    unpack(archive(written), configuration.results_dir)
    directory = RunDirectory(configuration.results_dir, configuration.run_id)
    assert measured_diagnostics(directory.read_or_none())
    before = directory.record_path.read_bytes()
    for call in (lambda: check_run(configuration), lambda: train(configuration, directory)):
        with pytest.raises(UserError, match=r"/record\.json: diagnostics\.\w+ is not in conf/diagnostics; "):
            call()
    assert not trap.folder.exists()
    assert directory.record_path.read_bytes() == before


def test_what_a_record_measured_with_other_settings_is_measured_again(configure, write_run) -> None:
    node = {"_target_": "lightning_modules.diagnostics.DeadUnits", "images": 7, "tolerance": 0.5}
    configuration = configure()
    directory = write_run(configuration.with_diagnostics({"dead_units": node}), "failed")
    assert configuration.with_measured(directory).diagnostics == {"dead_units": node}


def test_the_configuration_in_records(call, write_run, trap: Trap, results_dir: Path) -> None:
    with hydra_configuration():
        _, planned = plan_study("residual", [f"results_dir={results_dir}"])
    for each in planned:
        resolved = json.loads(json.dumps(each.configuration.resolved))
        config = resolved | {
            "model": resolved["model"] | {"pool": trap.node, "residual": trap.node},
            "segments": trap.node,
            "dataset": resolved["dataset"] | {"task": trap.node},
            "diagnostics": {"dead_units": trap.node},
        }
        write_run(each.configuration, config=config)
    for command in ("list", "tables", "verdicts", "report"):
        call(command, "residual")
        assert not trap.folder.exists()


# Trials of a tuning


@pytest.mark.parametrize("kind", ["node", "text", "list"])
def test_settings_of_a_trial(trap: Trap, results_dir: Path, kind: str) -> None:
    pytest.importorskip("optuna")
    others = ["tuning=learning_rate", "tuning.trials=2", f"results_dir={results_dir}"]
    node: Any = {"node": trap.node, "text": "${oc.env:HOME}", "list": [trap.node]}[kind]
    with hydra_configuration():
        plan = plan_tuning("residual", others)
        with pytest.raises(UserError, match=r"damaged: learning_rate=.* is not in tuning\.space"):
            plan.trial_runs("residual", {"learning_rate": node})
        with pytest.raises(UserError, match=r"damaged: model=.* is not in tuning\.space"):
            plan.trial_runs("residual", {"model": 0.1})
        with pytest.raises(UserError, match=r"^tuning\.sampler: CmaEsSampler: "):
            plan_tuning("residual", [*others, "tuning.sampler._target_=optuna.samplers.CmaEsSampler"])
    assert not trap.folder.exists()


# YAML


def test_tags_of_yaml(trap: Trap, tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(f"claims: !!python/object/apply:os.mkdir ['{trap.folder}']\n", encoding="utf-8")
    with pytest.raises(UserError, match="cannot be read: could not determine a constructor"):
        load_yaml(path)
    assert not trap.folder.exists()

"""The commands of the README as a user types them, in a copy of the repository whose network is tiny.

The copy differs in a few files of conf/, so that the commands can be typed as in the README. Its processes
also wait less long for each other when they are told to end. The commands need not import the large libraries
again (tests/processes.py), except those of the default launcher.
Later commands find what earlier ones trained: these are fixtures, so that tests run in any order.
"""

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ablations.runs.records import RunDirectory
from ablations.runs.schema import kind_of
from benchmarks.interrupted_sweeps import wait_at_most
from experiments import run
from experiments.project import Project, use
from tests.processes import REPOSITORY, Command, typed

pytestmark = pytest.mark.slow

COPIED = ("run.py", "ablations", "experiments", "lightning_modules", "hydra_plugins", "conf")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, few_images):
    folder = tmp_path_factory.mktemp("checkout")
    for name in COPIED:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    network = folder / "conf/model/xception.yaml"  # and its small variant's, which is as wide
    text = network.read_text().replace("width: 1.0", "width: 0.02")
    network.write_text(text.replace("middle_modules: 8", "middle_modules: 0"))
    small = folder / "conf/model/xception_small.yaml"
    small.write_text("defaults:\n  - xception\n  - _self_\n")
    recipe = folder / "conf/recipe/embedded.yaml"
    recipe.write_text(recipe.read_text().replace("epochs: 6", "epochs: 1"))
    data = folder / "conf/dataset/fashion_mnist_embedded.yaml"
    data.write_text(yaml.dump(yaml.safe_load(data.read_text()) | few_images))
    processes = folder / "lightning_modules/processes.py"
    processes.write_text(processes.read_text().replace("GRACE_S = 10.0", "GRACE_S = 0.5"))
    return folder


def type_command(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    program, *words = line.split()
    assert program == "python"
    return typed(folder, *words)


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in folder.glob("results/runs/*/record.json")]


def without_caches(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if "__pycache__" not in path.parts)


Done = tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]
"""A command, and the records after it."""


@pytest.fixture(scope="module")
def one_run(checkout: Path) -> Done:
    return type_command(checkout, "python run.py"), records(checkout)


@pytest.fixture(scope="module")
def residual_group(checkout: Path, one_run: Done) -> Done:
    """Two runs, of which the first is done, through the default launcher."""
    return type_command(checkout, "python run.py -m model=xception residual=true,false"), records(checkout)


@pytest.fixture(scope="module")
def both_groups(checkout: Path, residual_group: Done) -> Done:
    choices = "intermediate_activation=none,relu,elu residual=true,false"
    line = f"python run.py -m {choices} logger=none hydra/launcher=basic"
    return type_command(checkout, line), records(checkout)


@pytest.fixture(scope="module")
def study(checkout: Path, both_groups: Done) -> Done:
    line = "python run.py -m study=residual seed=0 logger=none hydra/launcher=basic"
    return type_command(checkout, line), records(checkout)


def test_help_tells_what_can_be_chosen_in_a_screenful(checkout):
    result = type_command(checkout, "python run.py --help")
    assert result.returncode == 0
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert len(lines) <= 50
    assert all(len(line) < 80 for line in lines)
    for expected in (
        "residual: false, projections, true",
        "python run.py -m study=residual",
        "python -m ablations list",
    ):
        assert expected in result.stdout


def test_the_shell_completes_options(checkout, monkeypatch):
    monkeypatch.setenv("COMP_LINE", "python run.py residual=")
    monkeypatch.setenv("COMP_POINT", str(len("python run.py residual=")))
    result = type_command(checkout, "python run.py -sc query=bash")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.split() == ["residual=false", "residual=projections", "residual=true"]


def test_cfg_shows_the_configuration(checkout):
    before = sorted(checkout.rglob("*"))
    result = type_command(checkout, "python run.py --cfg job residual=false")
    assert result.returncode == 0
    assert "_target_: lightning_modules.networks.blocks.no_shortcut" in result.stdout
    assert without_caches(checkout.rglob("*")) == without_caches(before)


def test_one_run(checkout, one_run):
    result, (record,) = one_run
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert record["status"] == "completed"
    assert f"record: results/runs/{record['run_id']}/record.json" in result.stdout
    assert "Epoch" not in result.stdout  # Lightning's bar
    assert re.fullmatch(
        r"(epoch 1/1, validation top-1 .*\n)?completed: validation top-1 .*\nrecord: .*\n", result.stdout
    )
    assert list(checkout.glob("results/wandb/offline-run-*"))
    assert {path.name for path in checkout.iterdir()} == {*COPIED, "results"}


def test_a_done_run_is_not_trained_again(checkout, one_run):
    before = checkout / "results/runs" / one_run[1][0]["run_id"] / "record.json"
    content, changed = before.read_bytes(), before.stat().st_mtime_ns
    result = type_command(checkout, "python run.py")
    assert result.returncode == 0
    assert result.stdout.startswith("already completed on ")
    assert (before.read_bytes(), before.stat().st_mtime_ns) == (content, changed)


def test_sweep_of_the_residual_group_as_typed(residual_group):
    result, found = residual_group
    assert result.returncode == 0, result.stderr
    assert sorted(record["choices"]["residual"] for record in found) == ["false", "true"]
    assert "2 of 2 runs done" in result.stdout
    assert result.stderr == ""


def test_sweep_of_both_groups(both_groups):
    result, found = both_groups
    assert result.returncode == 0, result.stderr
    assert "4 of 6 runs to be trained" in result.stdout
    trained = {
        (r["choices"]["intermediate_activation"], r["choices"]["residual"], r["seed"])
        for r in found
        if r["status"] == "completed"
    }
    assert len(trained) == len(found) == 6


def test_study(both_groups, study):
    result, found = study
    assert result.returncode == 0, result.stderr
    # The sweep had one seed of two arms, and did not measure the gradients that the study asks for.
    assert "4 of 4 runs to be trained" in result.stdout
    assert len(found) == len(both_groups[1]) + 2
    assert result.stdout.index("4 of 4 runs done") < result.stdout.index("residual-final")  # its verdict
    lines = result.stderr.splitlines()
    assert len(lines) == 2  # one for each of those runs
    assert all(line.startswith("not measured as requested (gradient_norm)") for line in lines)


@pytest.mark.usefixtures("study")
def test_tables_and_figures_from_the_records(checkout):
    before = {path: path.read_bytes() for path in checkout.glob("results/runs/*/*")}
    result = type_command(checkout, "python -m ablations residual intermediate_activation")
    assert result.returncode == 0, result.stderr
    assert before == {path: path.read_bytes() for path in checkout.glob("results/runs/*/*")}
    for stem in ("figure09_residual", "figure10_intermediate_activation"):
        for path in (f"tables/{stem}.csv", f"tables/{stem}.md", f"tables/{stem}.tex"):
            assert (checkout / "results" / path).stat().st_size > 100
        for path in (f"figures/{stem}.png", f"figures/{stem}.svg"):
            assert (checkout / "results" / path).stat().st_size > 1000
            assert f"results/{path}" in result.stdout
    table = (checkout / "results/tables/figure10_intermediate_activation.md").read_text()
    assert "1 / 12" in table  # seed 0 of each


def test_the_same_run_gives_the_same_metrics_to_the_last_bit(checkout, both_groups, tmp_path):
    line = f"python run.py intermediate_activation=elu logger=none results_dir={tmp_path}"
    assert type_command(checkout, line).returncode == 0
    (path,) = tmp_path.glob("runs/*/record.json")
    alone = json.loads(path.read_text())
    (beside_others,) = (r for r in both_groups[1] if r["run_id"] == alone["run_id"])
    assert alone["metrics"] == beside_others["metrics"]
    assert kind_of(alone["device"]) == kind_of(beside_others["device"])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("modle=xception", "unknown key modle"),
        ("seed=-1", "seed=-1: must be a whole number from 0 to 4294967295"),
        ("-m seed=0,-1", "seed=-1: must be a whole number from 0 to 4294967295"),
        ("results_dir=run.py/results", "results_dir=run.py/results: cannot be written"),
        ("seed=9 dataset.root=nowhere", "dataset.root=nowhere: missing train-images-idx3-ubyte"),
        ("study=residual", "study=residual needs -m"),
        ("tuning=learning_rate", "tuning=learning_rate needs a study: add -m study=NAME"),
        ("-m tuning=learning_rate", "tuning=learning_rate: needs a study: add study=NAME"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(checkout, monkeypatch, capsys, arguments, expected):
    """In this process; tests/experiments/test_command_line.py has what else is refused."""
    before = sorted(checkout.rglob("*"))
    monkeypatch.chdir(checkout)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments.split()])
    with use(Project(checkout)):
        assert run.main(str(checkout / "run.py")) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"error: {expected}")
    assert len(errors.splitlines()) == 1
    assert without_caches(checkout.rglob("*")) == without_caches(before)


def test_a_failing_run_stops_no_other(checkout):
    (checkout / "lightning_modules/broken.py").write_text(
        "from torch import nn\n\n\n"
        "class Broken(nn.Module):\n"
        "    def forward(self, x):\n"
        "        assert not self.training, 'no training'\n"
        "        return x\n"
    )
    (checkout / "conf/intermediate_activation/broken.yaml").write_text(
        "_target_: lightning_modules.broken.Broken\n_partial_: true\n"
    )
    line = "python run.py -m intermediate_activation=broken,none seed=8 logger=none hydra/launcher=basic"
    result = type_command(checkout, line)
    assert result.returncode == 1
    (failed,) = (r for r in records(checkout) if r["choices"]["intermediate_activation"] == "broken")
    (other,) = (r for r in records(checkout) if r["seed"] == 8 and r["run_id"] != failed["run_id"])
    assert failed["status"] == "failed"
    assert "AssertionError: no training" in failed["error"]
    assert other["status"] == "completed"
    assert "1 of 2 runs failed:" in result.stderr
    assert f"results/runs/{failed['run_id']}" in result.stderr
    assert "Traceback" not in result.stderr

    (checkout / "conf/study/broken.yaml").write_text(
        (checkout / "conf/study/intermediate_activation.yaml")
        .read_text()
        .replace("name: intermediate_activation", "name: broken")
        .replace("output: figure10_intermediate_activation", "output: broken")
        .replace("relu", "broken")
        .replace("seeds: [0, 1, 2, 3, 4, 5]", "seeds: [8]")
    )
    result = type_command(checkout, "python -m ablations broken")
    assert result.returncode == 0, result.stderr
    assert "0 / 1" in (checkout / "results/tables/broken.md").read_text()


def test_divergence_is_an_outcome(checkout):
    line = "python run.py recipe.optimizer.lr=1e30 logger=none"
    result = type_command(checkout, line)
    assert result.returncode == 0
    assert "diverged: the loss was not finite after step" in result.stdout
    (record,) = (r for r in records(checkout) if r["status"] == "diverged")
    assert record["diverged_at_step"] >= 1
    again = type_command(checkout, line)
    assert again.returncode == 0
    assert "epoch" not in again.stdout


def test_an_interrupt_ends_a_run_with_its_code_and_the_run_can_go_on(checkout, tmp_path):
    words = ("run.py", "recipe.epochs=400", "logger=none", f"results_dir={tmp_path}")
    with Command(checkout, *words, group=True) as process:
        while process.poll() is None and not list(tmp_path.glob("runs/*/metrics.csv")):
            wait_at_most(process, 0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert "Traceback" not in process.errors
        assert "interrupted; rerun the command to continue" in process.errors
    (directory,) = tmp_path.glob("runs/*")
    record = json.loads((directory / "record.json").read_text())
    assert record["status"] == "running"
    assert record["device"]["threads"] == 1
    assert run.checkpoint_of_same_kind(RunDirectory(tmp_path, directory.name), record)
    elsewhere = record | {"device": record["device"] | {"threads": 2}}
    assert run.checkpoint_of_same_kind(RunDirectory(tmp_path, directory.name), elsewhere) is None


PROCESSES = "trainer=ddp trainer.devices=2 trainer.accelerator=cpu logger=none"


def test_two_processes_train_one_run_of_a_sweep(checkout, tmp_path):
    # Each run has a command of its own, which finds the options of other folders too.
    for group, option in (("trainer", "ddp"), ("logger", "none")):
        (tmp_path / group / group).mkdir(parents=True)
        shutil.copy(checkout / "conf" / group / f"{option}.yaml", tmp_path / group / group / "mine.yaml")
    words = f"residual=true hydra/launcher=basic {PROCESSES} results_dir={tmp_path}"
    words = words.replace("trainer=ddp", "trainer=mine").replace("logger=none", "logger=mine")
    folders = f"--config-dir={tmp_path / 'trainer'} hydra.searchpath=[file://{tmp_path / 'logger'}]"
    (checkout / "run.py").rename(checkout / "train.py")
    result = type_command(checkout, f"python train.py -m {folders} {words}")
    (checkout / "train.py").rename(checkout / "run.py")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert "1 of 1 run done" in result.stdout
    assert result.stdout.count("completed: validation top-1") == 1  # the first process alone speaks
    (record,) = (json.loads(path.read_text()) for path in tmp_path.glob("runs/*/record.json"))
    assert record["device"]["processes"] == 2
    assert record["device"]["threads"] == 1
    assert record["steps"] == 280 // 128
    assert record["steps_per_second"] > 0


def test_variables_that_a_scheduler_left_in_the_shell_change_nothing(checkout, tmp_path, monkeypatch):
    left = {
        "RANK": 1,
        "WORLD_SIZE": 2,
        "LOCAL_RANK": 1,
        "SLURM_JOB_ID": 1,
        "SLURM_PROCID": 1,
        "SLURM_NTASKS": 4,
    }
    for name, value in left.items():
        monkeypatch.setenv(name, str(value))
    result = type_command(checkout, f"python run.py trainer.accelerator=cpu results_dir={tmp_path}")
    assert (result.returncode, result.stderr) == (0, "")
    (logged,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    inspect = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(logged)]
    shown = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout
    assert any("val/top1" in line for line in shown.splitlines() if json.loads(line)["type"] == "history")


def test_torchrun_without_a_strategy_says_what_to_add(checkout, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "run.py"]
    result = subprocess.run(
        [*command, f"results_dir={tmp_path / 'results'}"], cwd=checkout, capture_output=True, text=True
    )
    assert result.returncode != 0
    assert "error: torchrun started 2 processes, but the run has one: add trainer=ddp" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_signal_ends_all_processes_of_a_run_and_it_can_go_on(checkout, tmp_path):
    words = ("run.py", *PROCESSES.split(), "recipe.epochs=400", f"results_dir={tmp_path}")
    with Command(checkout, *words, group=True) as process:
        while process.poll() is None and not list(tmp_path.glob("runs/*/metrics.csv")):
            wait_at_most(process, 0.05)
        (other,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        ended = os.pidfd_open(int(other))
        os.kill(int(other), signal.SIGSTOP)  # the first process waits for the other, which never answers
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=120) == 143
        assert process.errors == ""
        assert select.select([ended], [], [], 60)[0], "the other process lives on"
        os.close(ended)
    (path,) = tmp_path.glob("runs/*")
    directory = RunDirectory(tmp_path, path.name)
    assert directory.status() == "missing"  # the lock is free
    record = directory.read()
    assert record["status"] == "running"
    assert run.checkpoint_of_same_kind(directory, record)

"""Offline runs are written and read back; whatever W&B cannot do, training goes on."""

import builtins
import getpass
import json
import math
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from lightning_modules.confusion import ConfusionMatrix
from lightning_modules.loggers import LoggingFailed
from lightning_modules.wandb_logging import TolerantWandbLogger

pytestmark = pytest.mark.slow  # starts W&B's own process

ARGUMENTS = {
    "mode": "offline",
    "entity": "a-team",
    "project": "a-project",
    "run_id": "0123abcd",
    "name": "xception residual=true seed=0",
    "group": "residual",
    "job_type": "non_residual",
    "tags": ["model=xception", "residual=true"],
    "config": {"seed": 0, "model": {"width": 0.125, "residual": {"_target_": "a.b"}}, "study": None},
}


@pytest.fixture
def make_logger(tmp_path):
    def make(**changes):
        return TolerantWandbLogger(**({"folder": tmp_path / "logs"} | ARGUMENTS | changes))

    return make


def records_of(folder: Path):
    """The records of the one offline run in a folder, as (type, content)."""
    (run,) = folder.glob("wandb/offline-run-*/*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(run)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [(record["type"], record.get(record["type"])) for record in map(json.loads, lines)]


def only(records, kind):
    return [content for of_kind, content in records if of_kind == kind]


def test_an_offline_run_can_be_read_back(
    isolated_wandb, make_logger, make_classifier, make_trainer, tiny_data, tmp_path, capfd
):
    logger = make_logger()
    trainer = make_trainer(2, logger=logger)
    module, data = make_classifier(), tiny_data()
    trainer.fit(module, data)
    last = dict(trainer.callback_metrics)
    trainer.test(module, data, verbose=False)
    assert logger.version == "0123abcd"
    logger.log_end({"status": "completed", "parameters": 340_000, "diverged_at_step": None}, {})
    logger.finish(succeeded=True)
    assert capfd.readouterr() == ("", "")

    records = records_of(tmp_path / "logs")
    (run,) = only(records, "run")
    assert run["entity"] == "a-team"
    assert run["project"] == "a-project"
    assert run["run_id"] == "0123abcd"
    assert run["display_name"] == "xception residual=true seed=0"
    assert run["run_group"] == "residual"
    assert run["job_type"] == "non_residual"
    assert run["tags"] == ["model=xception", "residual=true"]
    config = run["config"]["update"]
    assert {key: config[key] for key in ARGUMENTS["config"]} == ARGUMENTS["config"]
    assert [end["exit_code"] for end in only(records, "exit")] == [0]

    history = [content["item"] for content in only(records, "history")]
    steps = [row for row in history if "train/loss" in row]
    assert [row["trainer/global_step"] for row in steps] == list(range(6))
    assert all({"train/top1", "train/learning_rate"} <= row.keys() for row in steps)
    epochs = [row for row in history if "val/top1" in row]
    assert [(row["epoch"], row["trainer/global_step"]) for row in epochs] == [(0, 2), (1, 5)]
    assert all({"val/loss", "val/top5"} <= row.keys() for row in epochs)
    assert sum("train/loss_epoch" in row and "train/top1_epoch" in row for row in history) == 2
    assert epochs[-1]["val/loss"] == pytest.approx(last["val_loss"].item())
    assert sum("test/top1" in row for row in history) == 1

    summary = {}
    for content in only(records, "summary"):
        summary |= content["update"]
    assert summary["status"] == "completed"
    assert summary["parameters"] == 340_000
    assert summary["diverged_at_step"] is None
    assert summary["val/loss"] == epochs[-1]["val/loss"]
    assert summary["test/top1"] == pytest.approx(trainer.callback_metrics["test_top1"].item())


def test_charts_are_over_training_steps(isolated_wandb, make_logger, tmp_path):
    logger = make_logger()
    logger.log_metrics({"train/loss": 1.0}, step=3)
    logger.finish(succeeded=True)
    over_steps = [
        metric.get("glob_name") or metric.get("name")
        for metric in only(records_of(tmp_path / "logs"), "metric")
        if metric.get("step_metric") == "trainer/global_step"
    ]
    assert "*" in over_steps


def test_an_interrupted_run_is_one_without_overlapping_steps(isolated_wandb, make_logger, tmp_path):
    """It ends after five of six steps, and goes on from the third, where an epoch was recorded."""
    first, second = make_logger(), None
    for step in range(5):
        first.log_metrics({"train/loss": float(step)}, step=step)
        if step == 2:
            first.log_metrics({"val_loss": 0.5}, step=step)
            first.log_metrics({"train_loss": 0.4}, step=step)
    first.finish(succeeded=False, ended=False)
    second = make_logger(folder=tmp_path / "on")
    for step in range(3, 6):
        second.log_metrics({"train/loss": float(step)}, step=step)
    second.log_metrics({"test_loss": 0.3}, step=6)
    second.finish(succeeded=True)
    parts = [records_of(tmp_path / "logs"), records_of(tmp_path / "on")]
    assert {run["run_id"] for part in parts for run in only(part, "run")} == {"0123abcd"}
    rows = [content["item"] for part in parts for content in only(part, "history")]
    assert [row["train/loss"] for row in rows if "train/loss" in row] == [0, 1, 2, 3, 4, 5]
    assert [row["_step"] for row in rows] == list(range(7))


def test_the_rest_of_a_run_that_diverged_is_logged(isolated_wandb, make_logger, tmp_path):
    logger = make_logger()
    logger.log_metrics({"train/loss": 3.0}, step=0)
    logger.finish(succeeded=False)
    assert len(only(records_of(tmp_path / "logs"), "history")) == 1


def test_confusion_matrix_packages_and_changes_of_code_are_kept(
    isolated_wandb, make_logger, make_classifier, make_trainer, tiny_data, tmp_path
):
    logger = make_logger()
    trainer = make_trainer(1, logger=logger, callbacks=[ConfusionMatrix(6)])
    trainer.test(make_classifier(), tiny_data(), verbose=False)
    logger.log_end({}, {"networks.py": "- old\n+ new"})
    logger.finish(succeeded=True)
    (run,) = (tmp_path / "logs" / "wandb").glob("offline-run-*")
    assert "\ntorch==" in (run / "files" / "requirements.txt").read_text()
    assert (run / "files" / "changes.diff").read_text() == "- old\n+ new"
    (table,) = (run / "files" / "media" / "table" / "test").glob("*.table.json")
    counts = {(row[0], row[1]): row[2] for row in json.loads(table.read_text())["data"]}
    assert len(counts) == 36
    assert sum(counts.values()) == 18  # the test images, three of each class
    assert [sum(counts[f"{actual}", f"{other}"] for other in range(6)) for actual in range(6)] == [3] * 6


def test_loggers_of_one_process_make_a_run_each(isolated_wandb, make_logger, tmp_path, capfd):
    for number, succeeded in enumerate((False, True)):
        logger = make_logger(run_id=f"run{number}", folder=tmp_path / str(number), group=None, job_type=None)
        logger.log_metrics({"train/loss": float(number)}, step=0)
        logger.finish(succeeded=succeeded)
        assert isolated_wandb.run is None
    assert capfd.readouterr() == ("", "")
    for number, succeeded in enumerate((False, True)):
        records = records_of(tmp_path / str(number))
        assert [run["run_id"] for run in only(records, "run")] == [f"run{number}"]
        assert [content["item"]["train/loss"] for content in only(records, "history")] == [number]
        assert [end["exit_code"] for end in only(records, "exit")] == [0 if succeeded else 1]


def test_online_without_an_account_logs_offline_and_asks_nothing(
    isolated_wandb, make_logger, monkeypatch, tmp_path, capfd
):
    def ask(*_):
        raise AssertionError("a prompt")

    monkeypatch.setattr(builtins, "input", ask)
    monkeypatch.setattr(getpass, "getpass", ask)
    with pytest.warns(LoggingFailed, match="no W&B account is configured"):
        logger = make_logger(mode="online")
    logger.log_metrics({"train/loss": 0.5}, step=0)
    logger.finish(succeeded=True)
    assert capfd.readouterr() == ("", "")
    history = only(records_of(tmp_path / "logs"), "history")
    assert [content["item"]["train/loss"] for content in history] == [0.5]


class FakeRun:
    """A W&B run that works, but for the methods named."""

    id = "0123abcd"

    def __init__(self, broken, error, folder):
        self.dir = str(folder)
        self.logged = []
        self.finished = []
        self.summary = self
        for name in broken:
            setattr(self, name, self.fail)
        self.error = error

    def fail(self, *_, **__):
        raise self.error

    def log(self, metrics, step=None):
        self.logged.append(metrics)

    def update(self, values):
        self.logged.append(values)

    def define_metric(self, *_, **__):
        pass

    def save(self, *_, **__):
        pass

    def finish(self, exit_code):
        self.finished.append(exit_code)


DISK_FULL = OSError(28, "No space left on device")


def break_import(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    return "ModuleNotFoundError: import of wandb halted"


def break_folder(monkeypatch, tmp_path):
    (tmp_path / "logs").write_text("a file")
    return "FileExistsError"


def break_init(monkeypatch, tmp_path):
    def init(**_):
        raise RuntimeError("the service did not start\nand more lines")

    monkeypatch.setattr("wandb.init", init)
    return "RuntimeError: the service did not start$"


def broken_run(*methods):
    def break_methods(monkeypatch, tmp_path):
        monkeypatch.setattr("wandb.init", lambda **_: FakeRun(methods, DISK_FULL, tmp_path))
        return "OSError: .*No space left on device"

    break_methods.__name__ = "_".join(methods)
    return break_methods


@pytest.mark.parametrize(
    "break_it",
    [
        break_import,
        break_folder,
        break_init,
        broken_run("define_metric"),
        broken_run("log"),
        broken_run("update"),
        broken_run("finish"),
        broken_run("log", "update", "finish"),
    ],
    ids=lambda function: function.__name__,
)
def test_training_goes_on_after_one_warning(
    break_it, make_logger, make_classifier, make_trainer, tiny_data, monkeypatch, tmp_path, capfd
):
    message = break_it(monkeypatch, tmp_path)
    module = make_classifier()
    start = module.network.head.logits.weight.detach().clone()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LoggingFailed)
        logger = make_logger()
        trainer = make_trainer(2, logger=logger)
        trainer.fit(module, tiny_data())
        logger.log_end({"status": "completed"}, {})
        logger.finish(succeeded=True)
    (warning,) = (entry for entry in caught if entry.category is LoggingFailed)
    assert re.match(f"W&B is switched off for this run: {message}", str(warning.message))
    assert trainer.global_step == 6
    assert math.isfinite(trainer.callback_metrics["val_loss"])
    assert not torch.equal(start, module.network.head.logits.weight)
    assert capfd.readouterr() == ("", "")


def test_a_run_that_could_not_log_is_finished_all_the_same(make_logger, monkeypatch, tmp_path):
    run = FakeRun(["log"], DISK_FULL, tmp_path)
    monkeypatch.setattr("wandb.init", lambda **_: run)
    logger = make_logger()
    with pytest.warns(LoggingFailed):
        logger.log_metrics({"test_loss": 1.0}, step=0)
    logger.log_end({"status": "failed"}, {})
    assert run.logged == []  # after a failure the rest is not logged
    logger.finish(succeeded=False)
    assert run.finished == [1]


def test_an_interruption_is_no_failure_of_wandb(make_logger, monkeypatch, tmp_path):
    monkeypatch.setattr("wandb.init", lambda **_: FakeRun(["log"], KeyboardInterrupt(), tmp_path))
    logger = make_logger()
    with pytest.raises(KeyboardInterrupt):
        logger.log_metrics({"test_loss": 1.0}, step=0)

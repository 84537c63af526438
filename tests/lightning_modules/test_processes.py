"""Several processes train what one process trains: the same batches, the same metrics, every image once."""

import math
import os

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers.logger import DummyLogger
from torch import multiprocessing, nn
from torch.optim.lr_scheduler import LambdaLR

from ablations.runs.identity import filled
from ablations.runs.records import RunDirectory
from experiments import environment
from experiments.recorder import Recorder
from lightning_modules.assembly import make_trainer
from lightning_modules.classifier import TrainingDiverged
from lightning_modules.data.images import EpochSampler, sequential_selections
from lightning_modules.processes import agree_on_buffers, mean_over_processes, start_processes

BATCH_SIZE = 12
"""Of all processes: a multiple of 1, 2, 3, 4. Two steps an epoch, 6 of 30 images are dropped."""


def test_together_processes_have_the_batches_of_one():
    whole = EpochSampler(30, BATCH_SIZE, seed=5)
    for processes in (2, 3):
        parts = [
            EpochSampler(30, BATCH_SIZE, seed=5, process=process, processes=processes)
            for process in range(processes)
        ]
        for epoch in (0, 1):
            for sampler in (whole, *parts):
                sampler.set_epoch(epoch)
            assert len(whole) == len(parts[0]) == 2
            for expected, *shares in zip(whole, *parts, strict=True):
                assert [len(share.indices) for share in shares] == [BATCH_SIZE // processes] * processes
                assert torch.equal(torch.cat([share.indices for share in shares]), expected.indices)
                assert torch.equal(torch.cat([share.uniforms for share in shares]), expected.uniforms)


@pytest.mark.parametrize("images", [3, 10, 11, 12])
def test_evaluation_has_every_image_in_one_process(images):
    parts = [sequential_selections(images, 2, process=process, processes=3) for process in range(3)]
    seen = torch.cat([selection.indices for part in parts for selection in part])
    assert seen.tolist() == list(range(images))
    assert all(len(selection.indices) <= 2 for part in parts for selection in part)


class Seen(Callback):
    """Keeps the labels of every batch and the network that is evaluated."""

    def __init__(self):
        self.kept = {"training": [], "validation": [], "test": [], "evaluated": []}

    def on_train_batch_start(self, trainer, module, batch, batch_index):
        self.kept["training"].append(batch)

    def on_validation_batch_start(self, trainer, module, batch, batch_index, *_):
        self.kept["validation"].append(batch)
        if batch_index == 0:
            self.kept["evaluated"].append({k: v.clone() for k, v in module.network.state_dict().items()})

    def on_test_batch_start(self, trainer, module, batch, batch_index, *_):
        self.kept["test"].append(batch)


class Logged(DummyLogger):
    """Keeps what each step logs."""

    def __init__(self):
        super().__init__()
        self.kept = []

    def log_metrics(self, metrics, step=None):
        self.kept += [metrics] if "train/loss" in metrics else []


@pytest.fixture
def fit(tmp_path, make_classifier, tiny_data):
    """Fits and tests in processes that are forks of this one; returns what each kept."""
    environment.quieten()

    def fit_one(process, processes, port, name, epochs, averaging, ruined, changes):
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(process)}
        torch.set_num_threads(1)
        directory = RunDirectory(tmp_path, name)
        directory.path.mkdir(parents=True, exist_ok=True)
        place = {"accelerator": "cpu"}
        if processes > 1:
            place |= {"devices": processes, "strategy": "ddp"}
        recipe = {"epochs": epochs, "precision": "32-true", "averaging": averaging}
        seen, recorder, logger = Seen(), Recorder(directory), Logged()
        trainer = make_trainer(
            filled({"trainer": place, "recipe": recipe}),
            callbacks=[recorder, seen],
            loggers=[] if process else [logger],  # as in a run
            folder=tmp_path,
        )
        start_processes(trainer)
        module, data = make_classifier(**changes()), tiny_data(batch_size=BATCH_SIZE, validation_images=12)
        if ruined == process:  # weights of one process alone: its loss is not finite, the others' are
            trainer.callbacks.insert(0, Ruin())
        outcome = {"diverged": None}
        try:
            trainer.fit(module, data, ckpt_path=directory.checkpoint())
            outcome["test"] = trainer.test(module, data, verbose=False)[0]
        except TrainingDiverged as divergence:
            outcome["diverged"] = divergence.step
        outcome |= {"seen": seen.kept, "logged": logger.kept, "rows": recorder.rows, "steps": recorder.steps}
        outcome["planned"] = trainer.estimated_stepping_batches if not outcome["diverged"] else None
        torch.save(outcome, tmp_path / f"{name}-{process}.pt")

    def fit(processes, name="run", *, epochs=2, averaging=None, ruined=None, changes=dict):
        port = 20_000 + os.getpid() % 20_000 + len(list(tmp_path.iterdir()))
        arguments = (processes, port, name, epochs, averaging, ruined, changes)
        multiprocessing.start_processes(fit_one, arguments, nprocs=processes, start_method="fork")
        return [
            torch.load(tmp_path / f"{name}-{process}.pt", weights_only=False) for process in range(processes)
        ]

    return fit


class Ruin(Callback):
    """Makes the second batch of the process not finite."""

    def on_train_batch_start(self, trainer, module, batch, batch_index):
        if batch_index == 1:
            batch[0].fill_(math.nan)


def network_with(norm):
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), norm, nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 6)
    )


def group_norm():
    """No BN, whose statistics are of a process's own images, and no dropout."""
    return {"network": network_with(nn.GroupNorm(2, 8))}


def batch_norm():
    """BN and dropout, and a schedule that does not depend on the number of epochs."""
    network = nn.Sequential(network_with(nn.BatchNorm2d(8)), nn.Dropout(0.1))
    return {"network": network, "scheduler": lambda optimizer, total_steps: LambdaLR(optimizer, lambda _: 1)}


def without_time(rows):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "averaging"),
    [
        (3, None),
        (3, {"_target_": "lightning_modules.averaging.PolyakAveraging", "decay": 0.5}),
        (4, None),  # which the 18 test images are not a multiple of
    ],
)
def test_processes_give_the_metrics_of_one(fit, processes, averaging):
    (one,) = fit(1, "one", averaging=averaging, changes=group_norm)
    several = fit(processes, "several", averaging=averaging, changes=group_norm)
    for step, (images, labels) in enumerate(one["seen"]["training"]):
        shares = [process["seen"]["training"][step] for process in several]
        assert torch.equal(torch.cat([share[0] for share in shares]), images)
        assert torch.equal(torch.cat([share[1] for share in shares]), labels)
    for process in several:
        expected = [pytest.approx(row, rel=1e-4) for row in without_time(one["rows"])]
        assert without_time(process["rows"]) == expected
        assert process["test"] == pytest.approx(one["test"], rel=1e-4)
        assert process["steps"] == process["planned"] == one["steps"] == one["planned"] == 4
    # Of all processes' images, not of the first one's.
    assert several[0]["logged"] == [pytest.approx(step, rel=1e-4) for step in one["logged"]]
    assert len(one["logged"]) == 4
    # 12 and 18 images in batches of at most 4; two epochs are validated.
    for part, images in (("validation", 2 * 12), ("test", 18)):
        assert sum(len(labels) for process in several for _, labels in process["seen"][part]) == images


@pytest.mark.slow
def test_one_network_is_evaluated_and_going_on_is_exact(fit):
    averaging = {"_target_": "lightning_modules.averaging.PolyakAveraging", "decay": 0.5}
    whole = fit(2, "whole", averaging=averaging, changes=batch_norm)
    for left, right in zip(*(process["seen"]["evaluated"] for process in whole), strict=True):
        assert [name for name in left if not torch.equal(left[name], right[name])] == []  # BN's buffers too
    fit(2, "interrupted", epochs=1, averaging=averaging, changes=batch_norm)
    for process, expected in zip(
        fit(2, "interrupted", averaging=averaging, changes=batch_norm), whole, strict=True
    ):
        assert len(process["seen"]["training"]) == 2  # the second epoch's steps
        assert without_time(process["rows"]) == without_time(expected["rows"])
        assert process["test"] == expected["test"]


@pytest.mark.slow
def test_a_loss_that_is_not_finite_in_one_process_ends_all(fit):
    for process in fit(2, ruined=1, changes=group_norm):
        assert process["diverged"] == 1
        assert process["rows"] == []


def test_one_process_has_nothing_to_agree_on():
    value, network = torch.tensor(2.0), nn.BatchNorm2d(3)
    assert mean_over_processes(value) is value
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    agree_on_buffers(network)
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())


def test_the_first_process_is_the_one_that_keeps_the_record(monkeypatch):
    names = ("TORCHELASTIC_RUN_ID", "RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_NTASKS", "SLURM_PROCID")
    for variables, rank in (
        ({}, 0),
        ({"LOCAL_RANK": "1", "NODE_RANK": "0"}, 1),  # started by Lightning
        ({"NODE_RANK": "1"}, 4),  # another machine's first
        ({"NODE_RANK": "1", "LOCAL_RANK": "3"}, 7),
        ({"TORCHELASTIC_RUN_ID": "x", "RANK": "5", "LOCAL_RANK": "1"}, 5),  # torchrun
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "6"}, 6),  # srun
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "LOCAL_RANK": "2"}, 2),  # Lightning, in a job's shell
    ):
        for name in names:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert environment.process_rank(devices=4) == rank

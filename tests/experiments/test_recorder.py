"""metrics.csv and checkpoint.ckpt after every epoch, without a training loop."""

import copy
import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ablations.runs.records import RunDirectory
from experiments.recorder import Recorder, number

COLUMNS = ["epoch", "step", "train_loss", "train_top1", "val_loss", "val_top1", "val_top5"]
COLUMNS += ["learning_rate", "seconds"]
METRICS = ("train_loss", "train_top1", "val_loss", "val_top1", "val_top5", "learning_rate")


class FakeTrainer:
    """What of Lightning's trainer a recorder reads at the end of an epoch."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.current_epoch = 0
        self.global_step = 0
        self.is_global_zero = True
        self.callback_metrics: dict[str, torch.Tensor] = {}
        self.saved: list[dict[str, Any]] = []
        self.datamodule = SimpleNamespace()

    def save_checkpoint(self, path: Path) -> None:
        self.saved.append(copy.deepcopy(self.recorder.state_dict()))
        torch.save(self.saved[-1], path)

    def train_epoch(self, steps: int = 10) -> None:
        module: Any = SimpleNamespace(device=torch.device("cpu"))
        trainer: Any = self
        self.recorder.on_train_epoch_start(trainer, module)
        self.global_step += steps
        self.recorder.on_train_batch_end()
        draws = torch.rand(len(METRICS), generator=torch.Generator().manual_seed(self.current_epoch))
        self.callback_metrics = dict(zip(METRICS, draws, strict=True))
        self.recorder.on_train_epoch_end(trainer, module)
        self.current_epoch += 1


@pytest.fixture
def directory(results_dir: Path) -> RunDirectory:
    directory = RunDirectory(results_dir, "0" * 12)
    directory.path.mkdir(parents=True)
    return directory


@pytest.fixture
def trainer(directory: RunDirectory) -> FakeTrainer:
    return FakeTrainer(Recorder(directory))


@pytest.mark.parametrize("value", [0.765, 0.1, 1 / 3, 1e-7, 1e-30, 16777217.0, 0.0, -2.5])
def test_number_is_the_shortest_that_reads_back(value: float) -> None:
    tensor = torch.tensor(value, dtype=torch.float32)
    assert torch.equal(torch.tensor(number(tensor), dtype=torch.float32), tensor)
    assert len(repr(number(tensor))) <= len(repr(tensor.item()))
    assert isinstance(number(tensor), float)


def test_number_by_hand() -> None:
    assert repr(number(torch.tensor(0.765))) == "0.765"
    assert number(torch.tensor(float("inf"))) == float("inf")


def test_a_row_per_epoch_that_reads_back_to_the_last_bit(
    trainer: FakeTrainer, directory: RunDirectory
) -> None:
    for epoch in (1, 2, 3):
        trainer.train_epoch()
        assert len(directory.rows() or ()) == epoch
        history = directory.history()
        assert history is not None
        assert list(history.columns) == COLUMNS
        assert history.to_dict("records") == trainer.recorder.rows
    assert [row["epoch"] for row in trainer.recorder.rows] == [1, 2, 3]
    assert [row["step"] for row in trainer.recorder.rows] == [10, 20, 30]
    last = trainer.recorder.rows[-1]
    for name in METRICS:
        assert torch.equal(torch.tensor(last[name]), trainer.callback_metrics[name])
    assert sorted(path.name for path in directory.path.iterdir()) == ["checkpoint.ckpt", "metrics.csv"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_epoch_with_a_metric_that_is_no_number_fails(
    trainer: FakeTrainer, directory: RunDirectory, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    """A row with it would be read as damaged, and the run would be trained again at every request."""
    trainer.train_epoch()
    before = directory.history_path.read_bytes()
    monkeypatch.setattr(torch, "rand", lambda *_, **__: torch.full((len(METRICS),), value))
    with pytest.raises(ValueError, match="train_loss"):
        trainer.train_epoch()
    assert directory.history_path.read_bytes() == before


def test_a_full_disk_is_told_with_the_checkpoint_and_leaves_no_part_of_it(
    trainer: FakeTrainer, directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer.train_epoch()
    before = directory.checkpoint_path.read_bytes()

    def fill(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")  # Lightning's names no file

    monkeypatch.setattr(trainer, "save_checkpoint", fill)
    with pytest.raises(OSError, match=r"No space left on device: '.*/checkpoint\.ckpt'"):
        trainer.train_epoch()
    assert directory.checkpoint_path.read_bytes() == before
    assert len(directory.rows() or ()) == 1
    assert sorted(path.name for path in directory.path.iterdir()) == ["checkpoint.ckpt", "metrics.csv"]


def test_steps_and_time(trainer: FakeTrainer) -> None:
    recorder = trainer.recorder
    assert (recorder.steps, recorder.steps_per_second) == (0, None)
    trainer.train_epoch()
    recorder.rows = [{"step": 10, "seconds": 4.0}, {"step": 20, "seconds": 1.0}]
    assert (recorder.steps, recorder.steps_per_second) == (20, 4.0)
    assert recorder.wall_time > 0


def test_a_checkpoint_has_the_rows_of_its_epochs(trainer: FakeTrainer, directory: RunDirectory) -> None:
    trainer.train_epoch()
    trainer.train_epoch()
    place = directory.checkpoint()
    assert place is not None
    state = torch.load(place, weights_only=False)
    assert state["rows"] == trainer.recorder.rows
    assert [len(saved["rows"]) for saved in trainer.saved] == [1, 2]


def test_rows_survive_an_interruption(trainer: FakeTrainer, directory: RunDirectory) -> None:
    trainer.train_epoch()
    trainer.train_epoch()
    state = torch.load(directory.checkpoint_path, weights_only=False)
    directory.history_path.unlink()  # the process ended between checkpoint and rows

    other = FakeTrainer(Recorder(directory))
    other.recorder.load_state_dict(state)
    assert other.recorder.rows == trainer.recorder.rows
    assert other.recorder.wall_time > state["wall_time"] > 0
    fake: Any = other
    module: Any = SimpleNamespace()
    other.recorder.on_fit_end(fake, module)
    assert len(directory.rows() or ()) == 2

    other.current_epoch, other.global_step = 2, 20
    other.train_epoch()
    assert [row["epoch"] for row in other.recorder.rows] == [1, 2, 3]
    assert other.recorder.rows[:2] == trainer.recorder.rows
    assert len(state["rows"]) == 2  # what was loaded is not changed


def test_an_end_while_saving_leaves_the_checkpoint_before(
    trainer: FakeTrainer, directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer.train_epoch()
    before = directory.checkpoint_path.read_bytes(), directory.history_path.read_bytes()

    def half(path: Path) -> None:
        Path(path).write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "save_checkpoint", half)
    with pytest.raises(KeyboardInterrupt):
        trainer.train_epoch()
    assert (directory.checkpoint_path.read_bytes(), directory.history_path.read_bytes()) == before
    assert directory.checkpoint() == directory.checkpoint_path


def test_a_metric_that_is_not_there_is_a_bug(trainer: FakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer.train_epoch()
    monkeypatch.setitem(globals(), "METRICS", METRICS[:-2] + METRICS[-1:])
    with pytest.raises(AssertionError, match="every epoch measures the same"):
        trainer.train_epoch()


@pytest.mark.parametrize(
    ("metrics", "columns"),
    [
        (("train_loss", "val_map100", "val_loss", "learning_rate"), ["train_loss", "val_loss", "val_map100"]),
        (
            ("val_b", "val_a", "val_loss", "train_loss", "train_b", "learning_rate"),
            ["train_loss", "train_b", "val_loss", "val_b", "val_a"],
        ),
    ],
)
def test_a_task_has_its_own_columns_the_main_metric_first(
    trainer: FakeTrainer, directory: RunDirectory, monkeypatch: pytest.MonkeyPatch, metrics, columns
) -> None:
    monkeypatch.setitem(globals(), "METRICS", metrics)
    trainer.train_epoch()
    history = directory.history()
    assert history is not None
    assert list(history.columns) == ["epoch", "step", *columns, "learning_rate", "seconds"]


@pytest.mark.parametrize("missing", ["train_loss", "val_loss", "learning_rate"])
def test_what_every_run_has_is_not_missing(
    trainer: FakeTrainer, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(globals(), "METRICS", [name for name in METRICS if name != missing])
    with pytest.raises(KeyError, match=missing):
        trainer.train_epoch()


def test_undecodable_images_are_counted_and_kept_in_the_checkpoint(
    trainer: FakeTrainer, directory: RunDirectory
) -> None:
    trainer.train_epoch()
    assert trainer.recorder.undecodable_images == 0  # images in memory
    trainer.datamodule.count_undecodable = lambda: 6
    trainer.train_epoch()
    assert trainer.recorder.undecodable_images == 6
    resumed = Recorder(directory)
    resumed.load_state_dict(trainer.saved[-1])
    assert resumed.undecodable_images == 6

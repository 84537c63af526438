"""Epochs of a data module: their batches, what Lightning sees of them, and shares of several processes."""

from types import SimpleNamespace

import torch
from lightning.pytorch import LightningModule, Trainer

from lightning_modules.data.images import scaled


def batches_of(data, epoch):
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    batches = list(loader)
    assert len(batches) == len(loader)
    return batches


def labels_of(batches):
    return torch.cat([labels for _, labels in batches]).tolist()


def equal(left, right):
    return len(left) == len(right) and all(
        torch.equal(a, b)
        for one, other in zip(left, right, strict=True)
        for a, b in zip(one, other, strict=True)
    )


def as_process(data, rank, processes):
    """The data as one of several processes has them."""
    data.trainer = SimpleNamespace(global_rank=rank, world_size=processes)
    data.setup()
    return data


class Mean(LightningModule):
    """Learns something from the images' mean; keeps the training batches and the labels evaluated."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen, self.evaluated = {}, []

    def training_step(self, batch, batch_idx):
        self.seen.setdefault(self.current_epoch, []).append(batch)
        return self.layer(scaled(batch[0]).mean(dim=(1, 2, 3))[:, None]).square().mean()

    def validation_step(self, batch, batch_idx):
        torch.rand(3)  # moves the global generator
        self.evaluated += batch[1].tolist()

    def configure_optimizers(self):
        self.planned = self.trainer.estimated_stepping_batches
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(data, epochs, checkpoint=None):
    """Fit up to some epoch, maybe from a checkpoint on; returns the trainer and the module."""
    module = Mean()
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=1,
        logger=False,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data, ckpt_path=checkpoint)
    return trainer, module


def assert_epochs_are_the_same_resumed_or_not(make, folder):
    """Lightning sees the epochs that the data module has, also where it goes on from a checkpoint."""
    first, module = fit(make(), 1)
    steps = len(module.seen[0])
    assert equal(module.seen[0], batches_of(make(), 0))
    first.save_checkpoint(folder / "epoch.ckpt")
    _, resumed = fit(make(), 2, folder / "epoch.ckpt")
    assert list(resumed.seen) == [1]
    assert equal(resumed.seen[1], batches_of(make(), 1))
    assert resumed.planned == 2 * steps
    assert sorted(resumed.evaluated) == sorted(labels_of(make().val_dataloader()))

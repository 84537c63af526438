"""A training step on a GPU reads nothing back, so that the CPU never waits for it.

There is no GPU in a test: torch's fake tensors say that they are on one and hold no numbers, so that
whatever looks at one fails. A copy to or from the GPU that one has to wait for is noticed.
"""

from functools import partial

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    FakeTensor,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchmetrics import Metric
from torchvision.transforms.v2 import MixUp

from lightning_modules.averaging import PolyakAveraging

aten = torch.ops.aten

GPU = torch.device("cuda", 0)


class Strategy(SingleDeviceStrategy):
    """Trains on the pretended GPU."""

    def __init__(self):
        super().__init__(GPU)

    def setup_environment(self):
        """Nothing, where Lightning would ask the driver."""

    def reduce(self, tensor, *_, **__):
        """What Lightning asks before the first step: whether there are batches."""
        return 1

    def backward(self, closure_loss, *_, **__):
        """Gradients for the optimizer; autograd itself cannot run without a driver."""
        for parameter in self.lightning_module.parameters():
            parameter.grad = torch.zeros_like(parameter)
        return closure_loss

    def teardown(self):
        """Nothing: fake tensors stay where they are."""

    def model_to_device(self):
        """Put parameters, buffers and the metrics' sums there one by one: `to` cannot exchange fake ones."""
        for module in self.lightning_module.modules():
            for name, value in module._parameters.items():
                module._parameters[name] = None if value is None else nn.Parameter(value.to(GPU))
            for name, value in module._buffers.items():
                module._buffers[name] = None if value is None else value.to(GPU)
            if isinstance(module, Metric):
                module.to(GPU)


class PretendedGPU(TorchDispatchMode):
    """Leaves to torch's fake tensors what is on the GPU alone; notices copies that one has to wait for."""

    def __init__(self):
        super().__init__()
        self.waited_for = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        options = options or {}
        if function in (aten.is_pinned.default, aten._pin_memory.default):  # which only a driver can
            return function is not aten.is_pinned.default and arguments[0]
        device = options.get("device")
        on_gpu = device is not None and torch.device(device).type == "cuda"
        if not on_gpu and not any(isinstance(value, FakeTensor) for value in tree_leaves(arguments)):
            with unset_fake_temporarily():
                return function(*arguments, **options)
        made = function(*arguments, **options)
        if function in (aten._to_copy.default, aten.copy_.default):
            source = arguments[function is aten.copy_.default]
            if made.device != source.device and not options.get("non_blocking"):
                self.waited_for.append(source)
        return made


class EndOfSteps(Exception):
    """The steps of the epoch are over."""


class Watch(Callback):
    """Looks at an epoch's steps after the first, and ends training where the epoch is summed up."""

    def __init__(self, gpu):
        self.gpu, self.batches = gpu, []

    def on_train_batch_start(self, trainer, module, batch, batch_index):
        if not self.batches:
            self.gpu.waited_for.clear()  # before the first step there is nothing that could wait
        self.batches.append(batch)

    def on_validation_start(self, *_):
        raise EndOfSteps


@pytest.fixture
def train_pretended(make_trainer, tiny_data, monkeypatch):
    """Trains an epoch on a GPU that is none; its free memory, in bytes, can be chosen."""

    def train(module, *callbacks, data=None, memory=2**30, **settings):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (memory, memory))
        watch = Watch(PretendedGPU())
        trainer = make_trainer(1, callbacks=[watch, *callbacks], strategy=Strategy(), **settings)
        with FakeTensorMode(allow_non_fake_inputs=True), watch.gpu, pytest.raises(EndOfSteps):
            trainer.fit(module, data or tiny_data())
        return watch

    return train


def assert_nothing_waited(watch):
    assert len(watch.batches) == 3
    assert {tensor.device for batch in watch.batches for tensor in batch} == {GPU}
    assert watch.gpu.waited_for == []


def test_a_training_step_waits_for_nothing(train_pretended, make_classifier):
    assert_nothing_waited(train_pretended(make_classifier(), precision="bf16-mixed"))


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")  # to copy one
def test_other_optimizers_averages_clipping_and_mixing_wait_for_nothing(train_pretended, make_classifier):
    module = make_classifier(optimizer=partial(torch.optim.AdamW, lr=0.1), mix=MixUp(num_classes=6))
    assert_nothing_waited(train_pretended(module, PolyakAveraging(decay=0.9), gradient_clip_val=1.0))


@pytest.mark.parametrize(("memory", "device"), [(2**30, GPU), (2**10, torch.device("cpu"))])
def test_images_move_to_the_gpu_once_where_they_fit(
    train_pretended, make_classifier, tiny_data, memory, device
):
    data = tiny_data()
    watch = train_pretended(make_classifier(), data=data, memory=memory)
    assert data.parts["train"].images.device == device
    assert_nothing_waited(watch)


class ReadWeight(Callback):
    """Reads a number from the device in every step."""

    def __init__(self, read):
        self.read = read

    def on_train_batch_end(self, trainer, module, *_):
        self.read(module.network.head.logits.weight)


def test_a_step_that_reads_a_number_is_found(train_pretended, make_classifier):
    with pytest.raises(DataDependentOutputException):
        train_pretended(make_classifier(), ReadWeight(lambda weight: weight[0, 0].item()))


def test_a_step_that_waits_for_a_copy_is_found(train_pretended, make_classifier):
    assert len(train_pretended(make_classifier(), ReadWeight(torch.Tensor.cpu)).gpu.waited_for) == 3

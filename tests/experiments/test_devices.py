"""Which devices there are, as the driver and the system tell it."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from experiments import devices
from experiments.devices import Device, can_enter, enter, environment_before, visible


class NoAnswerError(Exception):
    """What NVIDIA's library raises."""


SLICES = ("MIG-0", None, "MIG-2")


class Driver:
    """NVIDIA's library, of two GPUs; the second is cut into two slices."""

    def __init__(self) -> None:
        self.gone: set[str] = set()
        self.module = SimpleNamespace(
            NVMLError=NoAnswerError,
            NVML_DEVICE_MIG_ENABLE=1,
            nvmlInit=lambda: self.answer("driver"),
            nvmlDeviceGetCount=lambda: 2,
            nvmlDeviceGetHandleByIndex=lambda index: self.answer(("GPU-a", "GPU-b")[index]),
            nvmlDeviceGetMigMode=lambda gpu: self.answer((1, 1) if gpu == "GPU-b" else None),
            nvmlDeviceGetMaxMigDeviceCount=lambda gpu: 3,
            nvmlDeviceGetMigDeviceHandleByIndex=lambda gpu, place: self.answer(
                ("MIG-0", None, "MIG-2")[place]
            ),
            nvmlDeviceGetName=lambda handle: b"Some GPU",
            nvmlDeviceGetUUID=lambda handle: handle,
            nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(total=80 * 2**30, used=2**30),
        )

    def answer(self, found: Any) -> Any:
        """Refuses what there is not: a GPU that fell off the bus or cannot be cut, a slice."""
        if found is None or found in self.gone:
            raise NoAnswerError
        return found


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    monkeypatch.delenv(devices.CUDA, raising=False)
    monkeypatch.setattr(devices, "DRIVERS", ())
    found = Driver()
    monkeypatch.setitem(sys.modules, "pynvml", found.module)
    return found


@pytest.mark.parametrize("accelerator", ["auto", "gpu", "cuda"])
def test_gpus_and_slices_with_what_names_them_to_cuda(driver: Driver, accelerator: str) -> None:
    found = visible(accelerator)
    assert [(device.index, device.id) for device in found] == [(0, "GPU-a"), (1, "MIG-0"), (1, "MIG-2")]
    assert found[0] == Device("cuda", 0, "Some GPU", "GPU-a", devices.CUDA, 80 * 2**30, 2**30)


@pytest.mark.parametrize(
    ("shown", "ids"),
    [
        ("1", ["MIG-0", "MIG-2"]),
        ("1,0", ["MIG-0", "MIG-2", "GPU-a"]),
        ("GPU-a", ["GPU-a"]),
        ("MIG-2,GPU", ["MIG-2", "GPU-a"]),
        ("0,7,1", ["GPU-a"]),  # what follows one that is not there is not shown
    ],
)
def test_what_is_shown_to_cuda_is_all_there_is(
    driver: Driver, shown: str, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(devices.CUDA, shown)
    assert [device.id for device in visible()] == ids


@pytest.mark.parametrize("shown", ["", "-1", "NoDevFiles"])
def test_without_a_gpu_that_is_shown_the_cores_are_the_devices(
    driver: Driver, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(devices.CUDA, shown)
    assert {device.kind for device in visible()} == {"cpu"}
    assert visible("cuda") == []


def test_a_gpu_that_is_gone_is_none_and_the_others_keep_their_index(driver: Driver) -> None:
    driver.gone.add("GPU-a")
    assert [device.index for device in visible()] == [1, 1]
    driver.gone.add("driver")
    assert {device.kind for device in visible()} == {"cpu"}


TORCH = """
from types import SimpleNamespace
cuda = SimpleNamespace(
    device_count=lambda: 2,
    get_device_properties=lambda index: SimpleNamespace(name=f"AMD {index}", total_memory=2**34),
)
"""


@pytest.mark.parametrize(("shown", "ids"), [(None, ["0", "1"]), ("2,3", ["2", "3"])])
def test_gpus_that_only_torch_finds(
    driver: Driver, shown: str | None, ids: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.gone.add("driver")
    (tmp_path / "torch.py").write_text(TORCH)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(devices, "DRIVERS", (str(tmp_path),))
    if shown is not None:
        monkeypatch.setenv(devices.CUDA, shown)
    found = visible()
    assert [(one.id, one.name, one.memory) for one in found] == [
        (ids[0], "AMD 0", 2**34),
        (ids[1], "AMD 1", 2**34),
    ]
    assert visible("cuda") == found


def test_only_cores_of_this_process_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 7, 12}, raising=False)
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "2")  # as a control group's quota
    assert [device.index for device in visible("cpu")] == [3, 7]


def test_a_process_stays_with_what_it_entered(pretend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRETENDED_VISIBLE", "all")
    pretend(2)
    monkeypatch.setenv("PRETENDED_VISIBLE", "all")
    first, second = visible()
    assert can_enter([first])
    enter([first])
    assert os.environ["PRETENDED_VISIBLE"] == first.id
    assert can_enter([first])
    assert not can_enter([second])
    assert not can_enter([first, second])
    assert not can_enter([Device("cpu", 0, "")])
    assert environment_before()["PRETENDED_VISIBLE"] == "all"
    assert visible() == [first, second]

"""Which devices this process may use: kind, index, name and memory of each.

`visible` is the one function that knows what there is; who takes what (`experiments.slots`) knows a table of
devices alone. The chosen device is passed to the libraries by a variable of the environment, before they
look for it: `enter`.
"""

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_modules.cores import usable_cores

PRETENDED = "ABLATIONS_DEVICES"
"""Variable that names a JSON file: a list of devices, each with the attributes of `Device`, in place of those
that there are. For tests of placement, and for devices that nothing here can list."""

CUDA = "CUDA_VISIBLE_DEVICES"

CPU = "cpu"


@dataclass(frozen=True)
class Device:
    """One device, or one core.

    Attributes:
        kind: "cuda", "mps", "cpu", or what else Lightning calls it.
        index: Counts the devices of a kind on this machine; of a core the system's number of it, of a slice
            that of its GPU.
        name: As its driver calls it.
        id: Names it to its libraries, in `variable`, and is the same for every process of this machine.
        variable: Of the environment, which says what libraries see; None where they see no choice.
        memory: Bytes that it has; None where it has none of its own.
        used: Bytes of it that are taken, by whomever; None where nobody knows.
    """

    kind: str
    index: int
    name: str
    id: str = ""
    variable: str | None = None
    memory: int | None = None
    used: int | None = None

    @property
    def key(self) -> str:
        """Names it among all of this machine."""
        return f"{self.kind}-{self.id or self.index}"

    def __str__(self) -> str:
        return f"{self.kind} {self.index}" + (f" ({self.name})" if self.name else "")


def visible(accelerator: str = "auto") -> list[Device]:
    """The devices that this process may use, as its environment was before `enter`.

    Args:
        accelerator: `trainer.accelerator`: auto takes GPUs, where there is none Apple's, else the cores.

    Returns:
        In the order in which libraries see them; empty where there is none of the kind.
    """
    environ = {**os.environ, **_before}
    environ = {name: value for name, value in environ.items() if value is not None}
    if accelerator != CPU and (file := environ.get(PRETENDED)):
        return [Device(**entry) for entry in json.loads(Path(file).read_text())]
    if accelerator == CPU:
        return _cores()
    if accelerator in ("auto", "gpu", "cuda") and (gpus := _gpus(environ.get(CUDA))):
        return gpus
    if accelerator == "cuda":
        return []
    if sys.platform == "darwin" and platform.machine() == "arm64" and accelerator in ("auto", "gpu", "mps"):
        return [Device("mps", 0, platform.processor())]
    if accelerator in ("gpu", "mps"):
        return []
    return _cores() if accelerator == "auto" else [Device(accelerator, 0, "")]


def _cores() -> list[Device]:
    """The cores that affinity and control groups leave this process; they share the machine's memory."""
    count = usable_cores()
    own = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(count)
    return [Device(CPU, core, "") for core in list(own)[:count]]


def _gpus(shown: str | None) -> list[Device]:
    """NVIDIA's GPUs, in the order of `nvidia-smi`; one that is cut into slices (MIG) is these.

    The driver is asked, and not CUDA, which would make this process a user of the first GPU.

    Args:
        shown: `CUDA_VISIBLE_DEVICES`: indices or UUIDs; None: all.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
        whole = [_parts_of(pynvml, number) for number in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:  # no driver, or one that is gone
        return []
    return [part for parts in whole for part in parts] if shown is None else _shown(whole, shown)


def _parts_of(nvml: Any, number: int) -> list[Device]:
    """The GPU of an index, or its slices; none where it does not answer (fallen off the bus)."""

    def device(handle: Any) -> Device:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        name, uuid = (_text(ask(handle)) for ask in (nvml.nvmlDeviceGetName, nvml.nvmlDeviceGetUUID))
        return Device("cuda", number, name, uuid, CUDA, int(memory.total), int(memory.used))

    try:
        gpu = nvml.nvmlDeviceGetHandleByIndex(number)
        try:
            cut = nvml.nvmlDeviceGetMigMode(gpu)[0] == nvml.NVML_DEVICE_MIG_ENABLE
        except nvml.NVMLError:  # of a GPU that cannot be cut
            cut = False
        if not cut:
            return [device(gpu)]
        slices = []
        for place in range(nvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
            try:
                slices.append(device(nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, place)))
            except nvml.NVMLError:  # no slice there
                continue
        return slices
    except nvml.NVMLError:
        return []


def _text(found: str | bytes) -> str:
    return found.decode() if isinstance(found, bytes) else found


def _shown(whole: Sequence[Sequence[Device]], shown: str) -> list[Device]:
    """The devices that a value of `CUDA_VISIBLE_DEVICES` shows: as in CUDA up to the first that is none.

    Args:
        whole: The GPU of each index, or its slices.
        shown: The value: indices, or UUIDs, which may be cut short.
    """
    chosen: list[Device] = []
    for word in map(str.strip, shown.split(",")):
        if word.isdigit():
            named = whole[int(word)] if int(word) < len(whole) else ()
        else:
            named = [device for gpu in whole for device in gpu if word and device.id.startswith(word)]
        if not named:
            break
        chosen += [device for device in named if device not in chosen]
    return chosen


_before: dict[str, str | None] = {}
"""Variables as they were before `enter`."""


def enter(devices: Sequence[Device]) -> None:
    """Show the libraries of this process, and of those that it starts, these devices alone.

    Libraries read the variable once, when they start, so a process stays with the devices that it entered
    first: see `can_enter`.
    """
    for name, value in _variables(devices).items():
        _before.setdefault(name, os.environ.get(name))
        os.environ[name] = value


def can_enter(devices: Sequence[Device]) -> bool:
    """Whether this process has entered no others."""
    wanted = _variables(devices)
    return all(name in wanted and os.environ.get(name) == wanted[name] for name in _before)


def environment_before() -> dict[str, str]:
    """The environment as it was before `enter`, for a process that takes devices of its own."""
    found = {**os.environ, **_before}
    return {name: value for name, value in found.items() if value is not None}


def _variables(devices: Sequence[Device]) -> Mapping[str, str]:
    names = {device.variable for device in devices if device.variable is not None}
    return {name: ",".join(d.id for d in devices if d.variable == name) for name in sorted(names)}

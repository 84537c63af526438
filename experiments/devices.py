"""Devices that this process may use: kind, index, name and memory.

Only `visible` detects devices; `experiments.slots` works on its table. `enter` shows the libraries the chosen
devices through an environment variable, before they start.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lightning_modules.cores import usable_cores

PRETENDED = "ABLATIONS_DEVICES"
"""Variable with the path of a JSON file: a list of `Device` attributes that replaces the detected devices,
for tests and for devices that cannot be detected."""

CUDA = "CUDA_VISIBLE_DEVICES"

CPU = "cpu"

DRIVERS = ("/dev/kfd", "/dev/dxg", "/dev/nvidiactl")
"""Files of the drivers of AMD, WSL and NVIDIA; without one, torch finds no GPU."""

ASKS_TORCH = """
import json, torch
found = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
print(json.dumps([(one.name, one.total_memory) for one in found]))
"""


@dataclass(frozen=True)
class Device:
    """A device, or a core.

    Attributes:
        kind: "cuda", "mps", "cpu", or another name of Lightning's.
        index: On this machine, within the kind; a core has the system's number, a slice its GPU's.
        name: The driver's.
        id: The value for `variable`, equal in all processes of this machine.
        variable: Environment variable that libraries read; None if they offer no choice.
        memory: Bytes; None without memory of its own.
        used: Bytes in use by any process; None if unknown.
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
        """Unique on this machine."""
        return f"{self.kind}-{self.id or self.index}"

    @property
    def is_slice(self) -> bool:
        """Whether it is a part of a GPU (MIG); CUDA shows a process one."""
        return self.id.startswith("MIG-")

    def __str__(self) -> str:
        return f"{self.kind} {self.index}" + (f" ({self.name})" if self.name else "")


def visible(accelerator: str = "auto") -> list[Device]:
    """The devices that this process may use, ignoring `enter`.

    Args:
        accelerator: `trainer.accelerator`; auto: GPUs, else Apple's, else the cores.

    Returns:
        In the libraries' order; empty if there is none of the kind.
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
    """The cores that affinity and control groups leave this process."""
    count = usable_cores()
    own = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(count)
    return [Device(CPU, core, "") for core in list(own)[:count]]


def _gpus(shown: str | None) -> list[Device]:
    """NVIDIA's GPUs in the order of `nvidia-smi`, or their slices (MIG).

    It asks the driver: CUDA would open the first GPU.

    Args:
        shown: `CUDA_VISIBLE_DEVICES`: indices or UUIDs; None: all.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
        whole = [_parts_of(pynvml, number) for number in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return _gpus_of_torch(shown) if any(map(os.path.exists, DRIVERS)) else []
    return [part for parts in whole for part in parts] if shown is None else _shown(whole, shown)


@cache
def _gpus_of_torch(shown: str | None) -> list[Device]:
    """The GPUs that torch finds without NVML: AMD's, in WSL, in some containers.

    A process of its own is asked, because torch opens the first GPU.
    """
    command, environ = [sys.executable, "-c", ASKS_TORCH], environment_before()
    answer = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
    found = json.loads(answer.stdout) if answer.returncode == 0 else []
    ids = list(map(str, range(len(found)))) if shown is None else [word.strip() for word in shown.split(",")]
    return [
        Device("cuda", int(word) if word.isdigit() else number, name, word, CUDA, memory)
        for number, (word, (name, memory)) in enumerate(zip(ids, found, strict=False))
    ]


def _parts_of(nvml: Any, number: int) -> list[Device]:
    """A GPU or its slices; empty if it does not answer (fallen off the bus)."""

    def device(handle: Any) -> Device:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        name, uuid = (_text(ask(handle)) for ask in (nvml.nvmlDeviceGetName, nvml.nvmlDeviceGetUUID))
        return Device("cuda", number, name, uuid, CUDA, int(memory.total), int(memory.used))

    try:
        gpu = nvml.nvmlDeviceGetHandleByIndex(number)
        try:
            cut = nvml.nvmlDeviceGetMigMode(gpu)[0] == nvml.NVML_DEVICE_MIG_ENABLE
        except nvml.NVMLError:  # it has no slices
            cut = False
        if not cut:
            return [device(gpu)]
        slices = []
        for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
            try:
                slices.append(device(nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index)))
            except nvml.NVMLError:  # empty
                continue
        return slices
    except nvml.NVMLError:
        return []


def _text(found: str | bytes) -> str:
    return found.decode() if isinstance(found, bytes) else found


def _shown(whole: Sequence[Sequence[Device]], shown: str) -> list[Device]:
    """Devices shown by `CUDA_VISIBLE_DEVICES`; as in CUDA, up to the first invalid one.

    Args:
        whole: Each GPU, or its slices.
        shown: Indices or (shortened) UUIDs.
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
"""Variables before `enter`."""


def enter(devices: Sequence[Device]) -> None:
    """Show only these devices to the libraries of this process and its children.

    Libraries read the variable once, so a process keeps the devices that it entered first: see `can_enter`.
    """
    for name, value in _variables(devices).items():
        _before.setdefault(name, os.environ.get(name))
        os.environ[name] = value


def can_enter(devices: Sequence[Device]) -> bool:
    """Whether this process has entered no other devices."""
    wanted = _variables(devices)
    return all(name in wanted and os.environ.get(name) == wanted[name] for name in _before)


def environment_before() -> dict[str, str]:
    """The environment before `enter`, for a process that takes its own devices."""
    found = {**os.environ, **_before}
    return {name: value for name, value in found.items() if value is not None}


def _variables(devices: Sequence[Device]) -> Mapping[str, str]:
    names = {device.variable for device in devices if device.variable is not None}
    return {name: ",".join(d.id for d in devices if d.variable == name) for name in sorted(names)}

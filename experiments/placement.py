"""Which devices runs use, and how many runs of a local sweep train at once.

A sweep sets how many processes train at once and how many of an arm's runs share a device. Each process takes
its device just before it trains (`place`), so sweeps need not know of each other.
"""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from ablations.errors import UserError, first_cause
from ablations.runs.records import DONE, RunDirectory
from ablations.runs.schema import RUNNING
from ablations.text import memory_size
from experiments import devices, slots
from experiments.configuration import RunConfiguration
from experiments.devices import CPU, Device
from experiments.planned_run import PlannedRun
from lightning_modules.cores import usable_cores

LOCAL = ("BasicLauncher", "JoblibLauncher")
"""Launchers whose runs take devices of this machine; others place runs themselves."""

WAITS = "ABLATIONS_WAITS_FOR_DEVICE"
"""Variable for a command that a sweep starts: it waits for devices as the sweep's runs do."""

AUTO = "auto"

ROOM = Fraction(9, 10)
"""Share of a device's memory that `auto` fills, because a run's peak varies."""

CONTEXT = 600 * 2**20
"""Bytes that a process uses of a GPU without any tensor. Ours: 300 to 600 MB, by driver and GPU."""

FEWEST_PROCESSES = 2
"""With one, joblib starts none, and a run that is killed would end the sweep. The second waits for a device,
before it imports what trains."""

OUT_OF_MEMORY = re.compile(r"OutOfMemoryError|out of memory|CU\w+_STATUS_(ALLOC_FAILED|NOT_INITIALIZED)")
"""In the errors of torch, cuBLAS, cuDNN and Apple's GPUs."""


@dataclass(frozen=True)
class Need:
    """The devices that a run takes.

    Attributes:
        devices: To choose from.
        count: Number to take.
        per_device: Number of such runs that fit on a device.
    """

    devices: Sequence[Device]
    count: int
    per_device: int

    @classmethod
    def of(cls, run: RunConfiguration) -> "Need":
        """A run's current need; UserError if there are too few devices."""
        trainer = run.resolved["trainer"]
        found = devices.visible(trainer["accelerator"])
        per_device = trainer["runs_per_device"]
        if found and found[0].kind == CPU:
            # A core per thread and process, or all if there are fewer.
            count = min(run.devices * trainer["threads"], len(found))
        else:
            count = run.devices
        usable = [device for device in found if count == 1 or not device.is_slice]
        if count > len(usable):
            there = ", ".join(map(str, found)) or "none"
            there += "; a run uses one MIG slice at most" if len(usable) < len(found) else ""
            key = f"trainer.devices={count}" if found else f"trainer.accelerator={trainer['accelerator']}"
            raise UserError(f"{key}: not available; devices found: {there}")
        return cls(usable, count, 1 if per_device == AUTO else per_device)

    @property
    def at_once(self) -> int:
        """Number of such runs that fit on all devices."""
        return len(self.devices) // self.count * self.per_device


@dataclass(frozen=True)
class Place:
    """Where a run trains.

    Attributes:
        devices: Taken by the run; None if others placed it.
        apart: Whether it needs a new process, because this one already uses another device.
    """

    devices: Sequence[Device] | None = None
    apart: bool = False


@contextmanager
def place(run: RunConfiguration, directory: RunDirectory, launcher: str | None) -> Iterator[Place | None]:
    """Take a run's devices while it trains; yields None if another process trains it.

    A local sweep's run waits for room. A single run takes free devices, so that sweeps avoid them; without
    free devices it trains anyway. `launcher` is the class name of a sweep's launcher.
    """
    waits = launcher is not None or WAITS in os.environ
    if launcher not in (*LOCAL, None) or (not waits and _is_placed_by_others()):
        yield Place()
        return

    def take() -> tuple[list[Device], ExitStack] | None:
        need = Need.of(run)
        return slots.take(
            need.devices, need.count, need.per_device, lambda one: devices.can_enter([one]), directory.run_id
        )

    def given_up() -> bool:
        return not waits or directory.status() in (*DONE, RUNNING)

    with slots.wait(take, directory.run_id, given_up) as got:
        if got is None:
            yield None if waits else Place()
            return
        if devices.can_enter(got):
            devices.enter(got)
            yield Place(got)
            return
    yield Place(apart=True)  # that process takes devices itself


def _is_placed_by_others() -> bool:
    """Whether torchrun or srun started this process with others; a shell of srun's has one task."""
    return "TORCHELASTIC_RUN_ID" in os.environ or os.environ.get("SLURM_STEP_NUM_TASKS", "1") != "1"


class Packing:
    """How a sweep's runs share devices."""

    def __init__(self, runs: Sequence[PlannedRun], launcher: Any) -> None:
        self._arms: dict[tuple[str, str], list[PlannedRun]] = {}
        for run in runs:
            self._arms.setdefault((run.group, run.arm), []).append(run)
        self._peaks: dict[tuple[str, str], int] = {}
        self.is_local = type(launcher).__name__ in LOCAL
        # joblib's options: -1, one process per core, unless the user set another number.
        self._joblib = getattr(launcher, "joblib", None) if self.is_local else None
        self._sets_jobs = self._joblib is not None and self._joblib.get("n_jobs") == -1

    def waiting(self) -> Collection[str]:
        """Run ids of runs that wait for a device."""
        return slots.waiting() if self.is_local else ()

    def holders(self) -> list[str]:
        """Who holds the devices of this sweep."""
        accelerators = {_accelerator(runs[0]) for runs in self._arms.values()} if self.is_local else set()
        return slots.holders([device for name in accelerators for device in devices.visible(name)])

    def notices(self) -> list[str]:
        """Lines to show about the devices."""
        if not self.is_local:
            return []
        accelerators = {_accelerator(runs[0]) for runs in self._arms.values()}
        all_visible = [device for name in sorted(accelerators) for device in devices.visible(name)]
        found = {device.key: device for device in all_visible if device.kind != CPU}
        taken = slots.shares()
        lines = []
        kinds = Counter(device.name for device in found.values())
        if len(kinds) > 1:
            told = ", ".join(f"{count} x {name}" for name, count in kinds.items())
            lines.append(
                f"devices differ: {told}; so does rounding, and runs of one seed may land on different ones: "
                "CUDA_VISIBLE_DEVICES chooses"
            )
        for device in found.values():
            if slots.is_full(device, taken):
                told = f"{memory_size(device.used or 0)} of its {memory_size(device.memory or 0)}"
                lines.append(f"{device}: others have {told}; no run goes there until it is free")
        return lines

    def ready(self, queue: Sequence[PlannedRun]) -> list[PlannedRun]:
        """The runs of a queue to launch now: of an arm to be measured first, only one."""
        if not self.is_local:
            return list(queue)
        found, measures = [], {}
        for run in queue:
            arm = (run.group, run.arm)
            if is_first := arm not in measures:
                measures[arm] = _asked(run) == AUTO and self._peak(arm) is None
            if is_first or not measures[arm]:
                found.append(run)
        return found

    def overrides(self, run: PlannedRun, *, alone: bool, runs: int) -> list[str]:
        """Overrides that place a run, alone on its device or with the `runs` launched together."""
        if not self.is_local:
            return []
        workers = self._workers(run, runs)
        if _asked(run) != AUTO and not (alone and _asked(run) != 1):
            return workers
        return [f"++trainer.runs_per_device={1 if alone else self._need(run).per_device}", *workers]

    def _workers(self, run: PlannedRun, runs: int) -> list[str]:
        """Data-loading workers of a run; runs that train at once share the cores."""
        if self._joblib is None or run.configuration.resolved["dataset"].get("num_workers", 0) is not None:
            return []
        at_once = min(self._need(run).at_once, runs)
        if not self._sets_jobs and self._joblib["n_jobs"] > 0:
            at_once = min(at_once, self._joblib["n_jobs"])
        return [f"++dataset.num_workers={max(1, usable_cores() // (at_once * run.configuration.devices))}"]

    def set_jobs(self, runs: Sequence[PlannedRun]) -> None:
        """Set joblib's processes to the number of these runs that fit on the devices."""
        if self._joblib is not None and self._sets_jobs:
            # Once per arm, because there may be thousands of runs.
            arms = {(run.group, run.arm): run for run in runs}.values()
            wanted = min(max(self._need(run).at_once for run in arms), len(runs))
            self._joblib["n_jobs"] = max(FEWEST_PROCESSES, wanted)

    def _need(self, run: PlannedRun) -> Need:
        """What a run takes; `auto` fills the smallest device, with at most one run per core."""
        need = Need.of(run.configuration)
        peak = self._peak((run.group, run.arm)) if _asked(run) == AUTO else None
        sizes = [device.memory for device in need.devices]
        if not peak or None in sizes:
            return need
        fit = int(ROOM * min(filter(None, sizes)) // (peak + CONTEXT))
        return replace(need, per_device=max(1, min(fit, usable_cores() // len(sizes))))

    def _peak(self, arm: tuple[str, str]) -> int | None:
        """Peak bytes of an arm's runs; None if none has ended on such devices; 0 if not measured."""
        if arm in self._peaks:
            return self._peaks[arm]
        kinds = {device.kind for device in devices.visible(_accelerator(self._arms[arm][0]))}
        for run in self._arms[arm]:
            record = run.directory.read_or_none()
            if record is not None and record["status"] in DONE and record["device"]["type"] in kinds:
                return self._peaks.setdefault(arm, record["device"].get("peak_memory") or 0)
        return None

    def second_try(self, run: PlannedRun) -> str | None:
        """Why to retry a failed run alone on a device, in a line; None if not."""
        record = run.directory.read_or_none()
        if record is None or not record["error"]:
            return None
        cause, device = first_cause(record["error"]), record["device"] or {}
        indices = device.get("indices")
        where = f"{device.get('type', 'its device')} {', '.join(map(str, indices or ()))}".strip()
        if OUT_OF_MEMORY.search(record["error"]):
            peak = device.get("peak_memory")
            took = f", of which it had {memory_size(peak)}," if peak else ""
            return f"the memory of {where}{took} was too small ({cause}); tried again alone on a device"
        accelerator = _accelerator(run)
        if indices and not set(indices) <= {device.index for device in devices.visible(accelerator)}:
            return f"{where} is gone ({cause}); tried again on another device"
        return None


def _accelerator(run: PlannedRun) -> str:
    return run.configuration.resolved["trainer"]["accelerator"]


def _asked(run: PlannedRun) -> Any:
    return run.configuration.resolved["trainer"]["runs_per_device"]

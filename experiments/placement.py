"""Where runs go: what a run needs of the devices, and how a sweep on this machine packs its runs on them.

A sweep decides how many processes train at once, and how many of an arm's runs share a device. Which device a
run gets is decided by its own process just before it trains (`place`), so sweeps need not know of each other.
"""

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ablations.errors import UserError, first_cause
from ablations.runs.records import DONE, RunDirectory, UnreadableRecord
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
"""Variable of a command that a sweep starts for one run: it waits for devices as the sweep's own runs do."""

AUTO = "auto"

ROOM = Fraction(9, 10)
"""Share of a device's memory that `auto` fills: a run's peak is not the same every time."""

CONTEXT = 600 * 2**20
"""Bytes that a process takes of a GPU before it has a tensor. Ours: 300 to 600 MB, by driver and GPU."""

FEWEST_PROCESSES = 2
"""Of one alone joblib makes none: a run that is killed, for its memory say, would take the sweep with it. The
second waits for a device, before it has loaded what trains."""

OUT_OF_MEMORY = "OutOfMemoryError"
"""How torch calls it on every device."""


@dataclass(frozen=True)
class Need:
    """What a run takes.

    Attributes:
        devices: Those that it may use.
        count: How many of them it takes.
        per_device: Runs like it that a device has room for.
    """

    devices: Sequence[Device]
    count: int
    per_device: int

    @classmethod
    def of(cls, run: RunConfiguration) -> "Need":
        """What a run takes now.

        Raises:
            UserError: There are fewer devices than it needs.
        """
        trainer = run.resolved["trainer"]
        found = devices.visible(trainer["accelerator"])
        per_device = trainer.get("runs_per_device", 1)
        if found and found[0].kind == CPU:
            # A process per device, a core per thread; where there are fewer cores it takes all there are.
            count = min(run.devices * trainer["threads"], len(found))
        else:
            count = run.devices
        if count > len(found):
            there = ", ".join(map(str, found)) or "none"
            key = f"trainer.devices={count}" if found else f"trainer.accelerator={trainer['accelerator']}"
            raise UserError(f"{key}: not available; devices found: {there}")
        return cls(found, count, 1 if per_device == AUTO else per_device)

    @property
    def at_once(self) -> int:
        """Runs like it that all devices together have room for."""
        return len(self.devices) // self.count * self.per_device


@dataclass(frozen=True)
class Place:
    """Where a run trains.

    Attributes:
        devices: That it has taken; None where somebody else has placed it.
        apart: Whether it needs a process of its own, because this one has begun to use another device.
    """

    devices: Sequence[Device] | None = None
    apart: bool = False


@contextmanager
def place(run: RunConfiguration, directory: RunDirectory, launcher: str | None) -> Iterator[Place | None]:
    """Take what a run needs while it trains; yields None where another process trains it meanwhile.

    A run of a local sweep waits until there is room. One that was started by itself takes what is free, so
    that sweeps keep off it, and where nothing is it trains all the same.

    Args:
        run: The run.
        directory: Its directory.
        launcher: Hydra's, by its class's name; None where there is no sweep.
    """
    if launcher not in (*LOCAL, None) or _is_placed_by_others():
        yield Place()
        return
    waits = launcher is not None or WAITS in os.environ

    def look() -> tuple[list[Device], ExitStack] | None:
        need = Need.of(run)
        return slots.take(need.devices, need.count, need.per_device, lambda one: devices.can_enter([one]))

    def given_up() -> bool:
        return not waits or directory.status() in (*DONE, RUNNING)

    with slots.wait(look, directory.run_id, given_up) as got:
        if got is None:
            yield None if waits else Place()
            return
        if devices.can_enter(got):
            devices.enter(got)
            yield Place(got)
            return
    yield Place(apart=True)  # that process takes devices itself


def _is_placed_by_others() -> bool:
    """Whether torchrun or srun has started this process, and others with it."""
    return "TORCHELASTIC_RUN_ID" in os.environ or "SLURM_STEP_ID" in os.environ


class Packing:
    """How the runs of a sweep share devices.

    Args:
        runs: All of the sweep.
        launcher: Hydra's.
    """

    def __init__(self, runs: Sequence[PlannedRun], launcher: Any) -> None:
        self._arms: dict[tuple[str, str], list[PlannedRun]] = {}
        for run in runs:
            self._arms.setdefault((run.group, run.arm), []).append(run)
        self.is_local = type(launcher).__name__ in LOCAL
        # joblib's options: -1 is a process per core, and stays whatever else somebody chose.
        self._joblib = getattr(launcher, "joblib", None) if self.is_local else None
        self._sets_jobs = self._joblib is not None and self._joblib.get("n_jobs") == -1

    def waiting(self) -> Collection[str]:
        """Runs, by their run_id, that wait for a device."""
        return slots.waiting() if self.is_local else ()

    def notices(self) -> list[str]:
        """What somebody should know of the devices, a line each."""
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
        """Of the runs to be launched those that can be now: of an arm that is to be measured, the first."""
        if not self.is_local:
            return list(queue)
        found, measured_now = [], set()
        for run in queue:
            arm = (run.group, run.arm)
            if _asked(run) != AUTO or self._peak(arm) is not None:
                found.append(run)
            elif arm not in measured_now:
                measured_now.add(arm)
                found.append(run)
        return found

    def overrides(self, run: PlannedRun, *, alone: bool, runs: int) -> list[str]:
        """What a job gets besides its run.

        Args:
            run: The run.
            alone: Whether it has its device to itself.
            runs: How many are launched with it, itself included.
        """
        if not self.is_local:
            return []
        workers = self._workers(run, runs)
        if _asked(run) != AUTO and not (alone and _asked(run) != 1):
            return workers
        return [f"++trainer.runs_per_device={1 if alone else self._per_device(run)}", *workers]

    def _workers(self, run: PlannedRun, runs: int) -> list[str]:
        """How many workers decode for a run: runs that train at once share the cores."""
        if self._joblib is None or run.configuration.resolved["dataset"].get("num_workers", 0) is not None:
            return []
        at_once = min(self._at_once(run), runs)
        if not self._sets_jobs and self._joblib["n_jobs"] > 0:
            at_once = min(at_once, self._joblib["n_jobs"])
        return [f"++dataset.num_workers={max(1, usable_cores() // (at_once * run.configuration.devices))}"]

    def set_jobs(self, runs: Sequence[PlannedRun]) -> None:
        """Let joblib start as many processes as there is room for of the runs that are launched next."""
        if self._joblib is not None and self._sets_jobs:
            # Runs of an arm are placed alike, and there may be thousands.
            arms = {(run.group, run.arm): run for run in runs}.values()
            wanted = min(max(map(self._at_once, arms)), len(runs))
            self._joblib["n_jobs"] = max(FEWEST_PROCESSES, wanted)

    def _at_once(self, run: PlannedRun) -> int:
        return Need.of(run.configuration).at_once * (self._per_device(run) if _asked(run) == AUTO else 1)

    def _per_device(self, run: PlannedRun) -> int:
        """For `auto`: as many as the memory of the smallest device has room for; a core has one."""
        sizes = [device.memory for device in Need.of(run.configuration).devices]
        peak = self._peak((run.group, run.arm))
        if not peak or not sizes or None in sizes:
            return 1
        return max(1, int(ROOM * min(filter(None, sizes)) // (peak + CONTEXT)))

    def _peak(self, arm: tuple[str, str]) -> int | None:
        """Bytes that a run of an arm took; None where none has ended on such devices; 0 if not measured."""
        for run in self._arms[arm]:
            record = _record_of(run)
            kinds = {device.kind for device in Need.of(run.configuration).devices}
            if record is not None and record["status"] in DONE and record["device"]["type"] in kinds:
                return record["device"].get("peak_memory") or 0
        return None

    def second_try(self, run: PlannedRun) -> str | None:
        """Why a failed run is worth another try, alone on a device, in a line; None where it is not."""
        record = _record_of(run)
        if record is None or not record["error"]:
            return None
        cause, device = first_cause(record["error"]), record["device"] or {}
        indices = device.get("indices")
        where = f"{device.get('type', 'its device')} {', '.join(map(str, indices or ()))}".strip()
        if OUT_OF_MEMORY in cause.partition(":")[0]:
            peak = device.get("peak_memory")
            took = f", of which it had {memory_size(peak)}" if peak else ""
            return f"the memory of {where}{took}, was too small ({cause}); tried again alone on a device"
        accelerator = _accelerator(run)
        if indices and not set(indices) <= {device.index for device in devices.visible(accelerator)}:
            return f"{where} is gone ({cause}); tried again on another device"
        return None


def _accelerator(run: PlannedRun) -> str:
    return run.configuration.resolved["trainer"]["accelerator"]


def _asked(run: PlannedRun) -> Any:
    return run.configuration.resolved["trainer"].get("runs_per_device", 1)


def _record_of(run: PlannedRun) -> Mapping[str, Any] | None:
    try:
        return run.directory.read()
    except UnreadableRecord:
        return None

"""Shares of this machine's devices, among all sweeps of one user.

A run takes a share of one or several devices: all of it, or with `trainer.runs_per_device=4` a quarter. Each
share is a file, locked by its process, so a process that dies frees its shares.
"""

import os
import random
import secrets
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_runtime_path

from ablations.errors import UserError
from experiments.devices import Device

WAIT_S = 0.5
"""Seconds between checks for a free device."""

FULL = 0.5
"""Share of a device's memory in use above which it is left to others, unless our runs use it. Ours: others'
jobs take nearly all or, as a desktop, little."""

SHARE, WAITING = "share", "waiting"


def folder() -> Path:
    """Folder of the user's shares; UserError if it is not writable."""
    try:
        with warnings.catch_warnings(action="ignore"):  # about a temporary folder
            folder = user_runtime_path("ablations") / "devices"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"XDG_RUNTIME_DIR: must be a writable folder: {error}") from error
    return folder


def take(
    devices: Sequence[Device],
    count: int,
    per_device: int,
    first: Callable[[Device], bool] | None = None,
    what: str = "",
) -> tuple[list[Device], ExitStack] | None:
    """Take a share of several devices at once, or none, for a run `what`.

    Prefers devices for which `first` holds, then the emptiest.

    Returns:
        The devices in order, and a stack that frees them when closed; None without room.
    """
    with _alone():
        taken = _shares()
        share = Fraction(1, per_device)
        free = [device for device in devices if taken[device.key] + share <= 1 and not is_full(device, taken)]
        if len(free) < count:
            return None
        position = {device: number for number, device in enumerate(devices)}

        def order(device: Device) -> tuple[bool, Fraction, int]:
            return not (first and first(device)), taken[device.key], position[device]

        chosen = sorted(sorted(free, key=order)[:count], key=position.__getitem__)
        back = ExitStack()
        for device in chosen:
            back.enter_context(_locked(f"{device.key}~{per_device}", SHARE, what))
        return chosen, back


def shares() -> Mapping[str, Fraction]:
    """Shares in use per device key; 0 by default."""
    with _alone():
        return _shares()


def _shares() -> Mapping[str, Fraction]:
    taken: dict[str, Fraction] = defaultdict(Fraction)
    for name in _living(SHARE):
        key, per_device = name.rsplit("~", 2)[:2]
        taken[key] += Fraction(1, int(per_device))
    return taken


def holders(devices: Sequence[Device]) -> list[str]:
    """Who holds shares of these devices, "cpu 0: process 4711, run 0123456789ab"."""
    names = {device.key: f"{device.kind} {device.index}" for device in devices}
    with _alone():
        living = sorted(name.rsplit("~", 2) for name in _living(SHARE))
    found = []
    for key, _, owner in living:
        process, *run = owner.split("-")[:-1] or [""]
        if key in names and process:
            found.append(f"{names[key]}: process {process}" + (f", run {run[0]}" if run else ""))
    return found


def is_full(device: Device, taken: Mapping[str, Fraction]) -> bool:
    """Whether others use so much of a device's memory that it is left to them."""
    if device.memory is None or device.used is None or taken.get(device.key):
        return False
    return device.used > FULL * device.memory


@contextmanager
def wait(
    take: Callable[[], tuple[list[Device], ExitStack] | None], what: str, given_up: Callable[[], bool]
) -> Iterator[list[Device] | None]:
    """Wait under a name until `take` gets devices; free them at the end. Yields None if given up."""
    got = take()
    if got is None:
        with ExitStack() as ticket:
            with _alone():
                ticket.enter_context(_locked(what, WAITING))
            while got is None and not given_up():
                time.sleep(WAIT_S * random.uniform(0.5, 1.5))  # so that waiting processes do not try in step
                got = take()
    if got is None:
        yield None
        return
    devices, back = got
    with back:
        yield devices


def waiting() -> Collection[str]:
    """Names that living processes wait under."""
    with _alone():
        return {name.rsplit("~", 1)[0] for name in _living(WAITING)}


@contextmanager
def _alone() -> Iterator[None]:
    with FileLock(folder() / "guard"):
        yield


@contextmanager
def _locked(name: str, kind: str, what: str = "") -> Iterator[None]:
    """Hold a file of a kind. Create it `_alone`, because others remove unlocked files."""
    owner = "-".join(filter(None, (str(os.getpid()), what, secrets.token_hex(4))))
    path = folder() / f"{name}~{owner}.{kind}"
    with FileLock(path):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _living(kind: str) -> list[str]:
    """Names of files that living processes hold; removes the others, so call it `_alone`."""
    found = []
    for path in folder().glob(f"*.{kind}"):
        try:
            with FileLock(path, timeout=0):
                path.unlink(missing_ok=True)
        except Timeout:
            found.append(path.name.removesuffix(f".{kind}"))
    return found

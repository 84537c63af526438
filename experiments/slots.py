"""What runs take of this machine's devices, shared by all sweeps of one user.

A run takes a share of one device, or of several at once: all of it, or with `trainer.runs_per_device=4` a
quarter. Each share is a file in a folder of the user's, locked by the process that has it, so a process that
dies loses its shares. Nothing here knows what a device is.
"""

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
"""Seconds between two looks for a free device."""

FULL = 0.5
"""Share of a device's memory from which it is left to others, where none of our runs is on it. Ours: other
people's jobs take nearly all or, as a desktop does, little."""

SHARE, WAITING = "share", "waiting"


def folder() -> Path:
    """Where the shares of this user are kept.

    Raises:
        UserError: It cannot be written.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # that it is in the folder of temporary files
            place = user_runtime_path("ablations") / "devices"
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"XDG_RUNTIME_DIR: must be a folder that can be written: {error}") from error
    return place


def take(
    devices: Sequence[Device], count: int, per_device: int, first: Callable[[Device], bool] | None = None
) -> tuple[list[Device], ExitStack] | None:
    """Take a share of each of several devices, all at once or none.

    Args:
        devices: To choose from.
        count: How many.
        per_device: Runs of this kind that a device has room for: it takes one share of so many.
        first: Whether a device is to be chosen before the others; else those with most room are.

    Returns:
        The devices in their order, and what gives them back when it is closed; None where there is no room.
    """
    with _alone():
        taken = _shares()
        share = Fraction(1, per_device)
        free = [device for device in devices if taken[device.key] + share <= 1 and not is_full(device, taken)]
        if len(free) < count:
            return None
        place = {device: number for number, device in enumerate(devices)}

        def order(device: Device) -> tuple[bool, Fraction, int]:
            return not (first and first(device)), taken[device.key], place[device]

        chosen = sorted(sorted(free, key=order)[:count], key=place.__getitem__)
        back = ExitStack()
        for device in chosen:
            back.enter_context(_locked(f"{device.key}~{per_device}", SHARE))
        return chosen, back


def shares() -> Mapping[str, Fraction]:
    """What living processes have taken of each device, by its key; 0 of any other."""
    with _alone():
        return _shares()


def _shares() -> Mapping[str, Fraction]:
    taken: dict[str, Fraction] = defaultdict(Fraction)
    for name in _living(SHARE):
        key, per_device = name.rsplit("~", 2)[:2]
        taken[key] += Fraction(1, int(per_device))
    return taken


def is_full(device: Device, taken: Mapping[str, Fraction]) -> bool:
    """Whether others than ours have so much of a device's memory that it is left to them."""
    if device.memory is None or device.used is None or taken.get(device.key):
        return False
    return device.used > FULL * device.memory


@contextmanager
def wait(
    look: Callable[[], tuple[list[Device], ExitStack] | None], what: str, given_up: Callable[[], bool]
) -> Iterator[list[Device] | None]:
    """Wait for devices and give them back; yields None where it was given up.

    Args:
        look: Takes them where there is room, as `take` does.
        what: What waits; `waiting` names it.
        given_up: Whether there is nothing to wait for any more.
    """
    got = look()
    if got is None:
        with ExitStack() as ticket:
            with _alone():
                ticket.enter_context(_locked(what, WAITING))
            while got is None and not given_up():
                time.sleep(WAIT_S * random.uniform(0.5, 1.5))  # two that wait must not look in step
                got = look()
    if got is None:
        yield None
        return
    devices, back = got
    with back:
        yield devices


def waiting() -> Collection[str]:
    """What living processes wait with for a device."""
    with _alone():
        return {name.rsplit("~", 1)[0] for name in _living(WAITING)}


@contextmanager
def _alone() -> Iterator[None]:
    with FileLock(folder() / "guard"):
        yield


@contextmanager
def _locked(name: str, kind: str) -> Iterator[None]:
    """Hold a file of a kind; its name says for what. Made `_alone`: others remove what nobody holds."""
    path = folder() / f"{name}~{secrets.token_hex(4)}.{kind}"
    with FileLock(path):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _living(kind: str) -> list[str]:
    """Names of the files that living processes hold; those of the dead are removed, so `_alone`."""
    found = []
    for path in folder().glob(f"*.{kind}"):
        try:
            with FileLock(path, timeout=0):
                path.unlink(missing_ok=True)
        except Timeout:
            found.append(path.name.removesuffix(f".{kind}"))
    return found

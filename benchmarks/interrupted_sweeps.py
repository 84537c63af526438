"""Effects of interruptions on sweeps: runs lost, done twice, or with other outcomes.

    python -m benchmarks.interrupted_sweeps [--sweeps 20] [--kills 3]

Every sweep is killed (SIGKILL, all processes at once) at random moments and restarted until it ends. Its
records are compared with those of an uninterrupted sweep.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

REPOSITORY = Path(__file__).resolve().parents[1]

SWEEP = (
    "residual=true,false", "seed=0,1", "model.width=0.05", "model.stem_stride=2", "model.middle_modules=1",
    "recipe.epochs=3", "logger=none",
)  # fmt: skip
"""A small sweep: four runs of three epochs, about a second each."""

TIMES = ("process", "started", "finished", "steps_per_second", "wall_time_s", "checksum", "files")
VARYING = (*TIMES, "config", "device")
"""Values of a record that are not its outcome: times, and checksums of contents with times. `config` names
the results directory, `device` the device."""


class Started(Protocol):
    """A started command, such as `subprocess.Popen`."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...


@dataclass
class SweepOutcome:
    """The outcome of an interrupted sweep.

    Attributes:
        kills: Number of kills while it ran.
        lost: Completed runs whose record was later gone or no longer completed.
        done_twice: Completed runs whose record was written again.
        records: Outcome per run at the end; see `outcomes`.
    """

    kills: int
    lost: int
    done_twice: int
    records: Mapping[str, object]


def start_sweep(results_dir: Path, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a sweep in a new process group."""
    return subprocess.Popen(
        [sys.executable, "run.py", "-m", *arguments, f"results_dir={results_dir}"],
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def interrupt_until_done(
    results_dir: Path,
    arguments: Sequence[str],
    kills: int,
    draw: random.Random,
    start: Callable[[Path, Sequence[str]], Started] = start_sweep,
) -> SweepOutcome:
    """Start a sweep and kill it at a random moment, `kills` times; then let it end.

    A moment is a number of further epochs on disk and some seconds, but at most one more epoch: every start
    makes progress, though most of a short sweep's time is spent on imports, and a fast machine does not end
    before it.
    """
    killed, lost, done_twice = 0, 0, 0
    finished: dict[str, bytes] = {}
    while True:
        process = start(results_dir, arguments)
        if killed < kills:
            wanted = _epochs_on_disk(results_dir) + draw.randint(0, 3)
            _wait_for_epochs(process, results_dir, wanted)
            _wait_for_epochs(process, results_dir, wanted + 1, at_most=draw.uniform(0, 1.5))
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                killed += 1
        code = process.wait()
        now = completed_records(results_dir)
        for run_id, record in finished.items():
            lost += run_id not in now
            done_twice += run_id in now and now[run_id] != record
        finished |= now
        if code == 0:
            return SweepOutcome(killed, lost, done_twice, outcomes(results_dir))


def completed_records(results_dir: Path) -> dict[str, bytes]:
    """The records of completed runs, byte by byte."""
    found = {path.parent.name: path.read_bytes() for path in results_dir.glob("runs/*/record.json")}
    return {run_id: text for run_id, text in found.items() if b'"status": "completed"' in text}


def outcomes(results_dir: Path) -> dict[str, object]:
    """What interruptions must not change: each record's outcome and every epoch's metrics."""
    found: dict[str, object] = {}
    for path in sorted(results_dir.glob("runs/*/record.json")):
        record = {key: value for key, value in json.loads(path.read_text()).items() if key not in VARYING}
        lines = path.with_name("metrics.csv").read_text().splitlines()
        epochs = [line.rpartition(",")[0] for line in lines]  # the last column is seconds
        found[path.parent.name] = (record, epochs)
    return found


def _epochs_on_disk(results_dir: Path) -> int:
    return sum(len(path.read_bytes().splitlines()) - 1 for path in results_dir.glob("runs/*/metrics.csv"))


def _wait_for_epochs(
    process: Started, results_dir: Path, epochs: int, *, at_most: float = float("inf")
) -> None:
    """Wait for a process to end or to have so many epochs on disk, `at_most` for some seconds."""
    end = time.monotonic() + at_most
    while process.poll() is None and _epochs_on_disk(results_dir) < epochs and time.monotonic() < end:
        wait_at_most(process, 0.02)


def wait_at_most(process: Started, seconds: float) -> None:
    """Wait for a process to end, or for some seconds."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=20)
    parser.add_argument("--kills", type=int, default=3, help="of each sweep")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        start_sweep(alone := Path(folder, "alone"), SWEEP).wait()
        expected = outcomes(alone)
        assert len(expected) == 4
        kills = lost = done_twice = different = 0
        for sweep in range(arguments.sweeps):
            found = interrupt_until_done(Path(folder, str(sweep)), SWEEP, arguments.kills, draw)
            kills += found.kills
            lost += found.lost + len(expected.keys() - found.records.keys())
            done_twice += found.done_twice
            different += sum(found.records.get(run_id) != record for run_id, record in expected.items())
            print(
                f"sweep {sweep + 1}: killed {found.kills} times; so far {lost} runs lost, "
                f"{done_twice} done twice, {different} with another outcome",
                flush=True,
            )
    print(
        f"{arguments.sweeps} sweeps of {len(expected)} runs, killed {kills} times: {lost} runs lost, "
        f"{done_twice} done twice, {different} with another outcome"
    )


if __name__ == "__main__":
    main()

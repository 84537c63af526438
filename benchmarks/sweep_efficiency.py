"""Share of a machine's time that a sweep trains: training time of all runs / (cores x wall time).

    python -m benchmarks.sweep_efficiency [--loop 0.98] [study=residual,intermediate_activation] [seed=0,1]

Runs `python run.py -m` with these arguments in an empty folder and reads the records. Wall time is that of
the whole command: start, planning, processes, runs, verdicts. Then it prints where the rest went. Training
time is the records'; a bare loop would take `--loop` of it, the ratio that `benchmarks.training_loop`
measures.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from lightning_modules.cores import usable_cores

REPOSITORY = Path(__file__).resolve().parents[1]

FIGURES_9_AND_10 = "study=residual,intermediate_activation"

Record = Mapping[str, Any]


def seconds_of(moment: str) -> float:
    """A record's time as seconds since 1970."""
    return datetime.fromisoformat(moment).timestamp()


def training(record: Record) -> float:
    """Seconds of a run's training steps."""
    return record["steps"] / record["steps_per_second"]


def spent(records: Sequence[Record], start: float, end: float, cores: int) -> dict[str, float]:
    """Core-seconds of a sweep by use, which add up to `cores * (end - start)`, in seconds since 1970."""
    first = min(seconds_of(record["started"]) for record in records)
    last = max(seconds_of(record["finished"]) for record in records)
    of_process: dict[int, float] = defaultdict(float)
    for record in records:
        pid = record["process"]["pid"]
        of_process[pid] = max(of_process[pid], seconds_of(record["finished"]))
    trained = sum(map(training, records))
    found = {
        "training steps": trained,
        "evaluation, records, logs": sum(record["wall_time_s"] for record in records) - trained,
        "before the first run": cores * (first - start),
        "idle while the last runs end": sum(last - finished for finished in of_process.values()),
        "after the last run": cores * (end - last),
    }
    return found | {"between runs": cores * (end - start) - sum(found.values())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--loop", type=float, default=1.0, help="steps/s of a run over those of a bare loop")
    parser.add_argument("words", nargs="*", default=[FIGURES_9_AND_10], help="as python run.py -m takes them")
    arguments = parser.parse_args()
    cores = usable_cores()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "run.py", "-m", *arguments.words, f"results_dir={folder}"]
        start = time.time()
        subprocess.run(command, cwd=REPOSITORY, check=True)
        end = time.time()
        records = [json.loads(path.read_text()) for path in Path(folder).glob("runs/*/record.json")]
    whole = cores * (end - start)
    print(f"\n{len(records)} runs, {end - start:.0f} s on {cores} cores")
    for name, seconds in spent(records, start, end, cores).items():
        print(f"  {name:30}{seconds:8.1f} s  {seconds / whole:6.1%}")
    bare = arguments.loop * sum(map(training, records))
    print(f"sweep efficiency {bare / whole:.3f}: a bare loop trains the same in {bare:.0f} s of a core")


if __name__ == "__main__":
    main()

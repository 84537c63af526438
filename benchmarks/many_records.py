"""Time and memory of tables, figures and verdicts for many records, and how time grows with their number.

    python -m benchmarks.many_records [--records 10000 100000] [--folder /dev/shm] [--commands tables]

It writes a study of three arms with as many runs as asked, each with a record and 100 epochs. Run ids are
those that `plan_study` plans, files are as run.py writes them; some runs diverged and some are missing. Then
it times commands in new processes, including imports:

    plan       planning the study's runs, as a sweep does
    list       python -m ablations list STUDY seed=...
    verdicts   python -m ablations verdicts STUDY seed=...
    tables     the same command as the next, without figures
    figures    python -m ablations STUDY seed=...

The folder needs 25 KB per run, which are removed afterwards. A last line per command compares the growth of
CPU time from the fewest to the most runs with the growth of their number.
"""

import argparse
import csv
import io
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ablations.runs.histories import HISTORY_COLUMNS
from ablations.runs.schema import COMPLETED, DIVERGED, SCHEMA, SCHEMA_VERSION
from experiments import environment
from experiments.planned_run import PlannedRun
from experiments.planning import hydra_configuration, plan_study

REPOSITORY = Path(__file__).resolve().parents[1]
STUDY = "intermediate_activation"
COMMANDS = ("plan", "list", "verdicts", "tables", "figures")
EPOCHS = 100
STEPS_PER_EPOCH = 71
METRICS = ("top1", "top5")
DIVERGED_SHARE, MISSING_SHARE = 0.01, 0.001


def overrides(seeds: int, results_dir: Path) -> list[str]:
    """Overrides for a study of many runs of 100 epochs."""
    return [f"seed=range({seeds})", f"recipe.epochs={EPOCHS}", f"results_dir={results_dir}"]


def write_results(seeds: int, results_dir: Path) -> None:
    """Write a run per arm and seed."""
    from experiments.sizes.network_cost import count_network  # imports torch, which no command needs

    with hydra_configuration():
        _, runs = plan_study(STUDY, overrides(seeds, results_dir))
    generator = np.random.default_rng(0)
    costs: dict[str, dict[str, int]] = {}
    fixed = {"versions": environment.versions(), "git": environment.git_state()}
    for run in runs:
        if run.arm not in costs:
            costs[run.arm] = vars(count_network(run.configuration.resolved))
        if generator.random() >= MISSING_SHARE:
            _write_run(run, costs[run.arm], fixed, generator)


def _write_run(
    run: PlannedRun, cost: Mapping[str, int], fixed: Mapping[str, object], generator: np.random.Generator
) -> None:
    diverged = generator.random() < DIVERGED_SHARE
    epochs = int(generator.integers(1, EPOCHS)) if diverged else EPOCHS
    curve = 0.88 - 0.5 * np.exp(-np.arange(epochs) / 12) + generator.normal(0, 0.01, epochs)
    losses = generator.gamma(2.0, 0.3, (epochs, 4))
    names = [f"{part}_{name}" for part in ("train", "val") for name in METRICS]
    directory = run.directory
    directory.path.mkdir(parents=True)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow([*HISTORY_COLUMNS, *names])
    for epoch in range(epochs):
        values = [float(curve[epoch])] * len(names)
        rows.writerow([epoch + 1, STEPS_PER_EPOCH * (epoch + 1), *losses[epoch].tolist(), *values])
    directory.history_path.write_text(text.getvalue(), encoding="utf-8")
    final = {f"{part}_loss": float(losses[-1, 0]) for part in ("val", "test")}
    final |= {f"{part}_{name}": float(curve[-1]) for part in ("val", "test") for name in METRICS}
    own = {
        "schema_version": SCHEMA_VERSION,
        "run_id": run.run_id,
        "status": DIVERGED if diverged else COMPLETED,
        "process": environment.process(),
        "started": "2026-01-02T03:04:05+00:00",
        "finished": "2026-01-02T03:05:05+00:00",
        "choices": dict(run.configuration.choices),
        "seed": run.seed,
        "config": dict(run.configuration.resolved),
        "data_fingerprint": run.configuration.data_fingerprint,
        "metrics": None if diverged else final,
        "steps": STEPS_PER_EPOCH * epochs,
        "steps_per_second": 6.5,
        "wall_time_s": 60.5,
        "device": {"type": "cpu", "name": "Some CPU", "threads": 1, "processes": 1},
        "diverged_at_step": STEPS_PER_EPOCH * epochs + 1 if diverged else None,
    }
    directory.write({**dict.fromkeys(SCHEMA), **cost, **fixed, **own})


def command(name: str, words: Sequence[str]) -> list[str]:
    """The command line of a command in the module's docstring."""
    python = [sys.executable]
    if name in ("list", "verdicts"):
        return [*python, "-m", "ablations", name, *words]
    if name == "figures":
        return [*python, "-m", "ablations", *words]
    return [*python, "-m", "benchmarks.many_records", "--only", name, *words]  # write, plan, tables


def write(words: Sequence[str]) -> None:
    """Write results, given their number and folder."""
    write_results(int(words[0]), Path(words[1]))


def plan(words: Sequence[str]) -> None:
    """Plan a sweep over the study."""
    from experiments.plan import plan_sweep

    with hydra_configuration():
        plan_sweep([f"study={words[0]}", *words[1:]])


def tables(words: Sequence[str]) -> None:
    """As `python -m ablations STUDY ...`, without figures."""
    from ablations.cli.reading import load_studies
    from ablations.tables.study import write_and_show
    from experiments.command_line import print_table

    for study, runs, results_dir in load_studies(words[:1], words[1:]):
        _, shown = write_and_show(study, runs, results_dir / "tables")
        print_table(shown)


def measure(name: str, words: Sequence[str]) -> tuple[float, float, float]:
    """Run a command; returns seconds, CPU seconds and peak memory in GB."""
    start = time.perf_counter()
    process = subprocess.Popen(command(name, words), cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{name} ended with {process.returncode}"
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6  # KB on Linux


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--records", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--folder", type=Path, default=None, help="a disk with room; default: the system's")
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=COMMANDS)
    parser.add_argument("--only", nargs="+", help=argparse.SUPPRESS)  # for a command's process
    arguments = parser.parse_args()
    if arguments.only:
        name, *words = arguments.only
        return {"write": write, "plan": plan, "tables": tables}[name](words)
    with hydra_configuration():
        arms = len(plan_study(STUDY, ["seed=0"])[0].arms)
    measured: dict[str, dict[int, float]] = {name: {} for name in arguments.commands}
    for records in arguments.records:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            seeds = math.ceil(records / arms)
            runs = arms * seeds
            seconds, *_ = measure("write", [str(seeds), folder])
            print(f"{runs} runs written in {seconds:.0f} s", flush=True)
            for name in arguments.commands:
                seconds, busy, memory = measure(name, [STUDY, *overrides(seeds, Path(folder))])
                measured[name][runs] = busy
                print(
                    f"{runs} runs, {name}: {seconds:.1f} s, {busy:.1f} s of a core "
                    f"({1e3 * busy / runs:.2f} ms a run), {memory:.2f} GB",
                    flush=True,
                )
    for name, of_runs in measured.items():
        few, many = min(of_runs), max(of_runs)
        if few < many:
            print(
                f"{name}: {many / few:.1f} times the runs, {of_runs[many] / of_runs[few]:.1f} times as long"
            )


if __name__ == "__main__":
    main()

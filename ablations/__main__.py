"""From records to what people look at, without training a run.

    python -m ablations                          tables and figures of every study, but those to be named
    python -m ablations residual                 of one study
    python -m ablations list                     how each study's planned runs stand
    python -m ablations residual recipe.epochs=12 seed=0,1,2
                                                 of a study that was varied on the command line
    python -m ablations residual tuning=learning_rate
                                                 of a study whose arms were tuned, with every trial
    python -m ablations residual seeds=auto      of one that got as many seeds as its verdicts need
    python -m ablations verdicts                 whether the claims of conf/claims hold
    python -m ablations verdicts residual --record FILE, or --check FILE
                                                 of a study; write them down, or exit with 1 where one differs
    python -m ablations benchmark                table 3: size and speed of the networks on this device
    python -m ablations benchmark batch_size=8 image_size=299 steps=5 rounds=3

Overrides are those that run.py takes beside a study. results_dir=FOLDER reads other results.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ablations.command_line import exit_code_of, print_table
from ablations.errors import UserError
from ablations.files import check_results_dir
from ablations.results import Study, StudyRun


def main() -> int:
    """Parse `sys.argv` and do what it says; see the module's docstring.

    Returns:
        0; 1 where a verdict is not the recorded one; 2 where something the user chose cannot be; 130
        where interrupted.
    """
    if "verdicts" in (arguments := sys.argv[1:]):
        arguments.remove("verdicts")
        return exit_code_of(lambda: judge_claims(arguments))
    parser = argparse.ArgumentParser(
        prog="python -m ablations",
        description="Tables and figures from the records; no run is trained.",
        epilog=(__doc__ or "").partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="list | benchmark | verdicts | STUDY | KEY=VALUE")
    words = parser.parse_args().words
    if "benchmark" in words:
        words.remove("benchmark")
        return exit_code_of(lambda: benchmark_networks(words))
    listing = "list" in words
    names = [word for word in words if "=" not in word and word != "list"]
    overrides = [word for word in words if "=" in word]
    command = list_studies if listing else reproduce_studies
    return exit_code_of(lambda: command(names, overrides))


def load_studies(names: Sequence[str], overrides: Sequence[str]) -> list[tuple[Study, list[StudyRun], Path]]:
    """Plan studies and read how their runs stand; unreadable records are named on stderr.

    Returns:
        Study, planned runs and results directory, of every study but those that are to be named where
        no name is given.

    Raises:
        UserError: A study does not exist.
    """
    from ablations.auto_seeds import follow_study
    from ablations.studies import hydra_configuration, plan_study, seed_budget, standing, study_names

    known = study_names()
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"study={unknown[0]}: no such study; there are: {', '.join(known)}")
    loaded = []
    with hydra_configuration():
        for name in names or study_names(unasked=True):
            if seed_budget(overrides) is None:
                study, planned = plan_study(name, overrides)
                runs, problems = standing(planned)
            else:
                study, planned, runs, problems = follow_study(name, overrides)
            for problem in problems:
                print(problem, file=sys.stderr)
            loaded.append((study, runs, planned[0].configuration.results_dir))
    return loaded


def reproduce_studies(names: Sequence[str], overrides: Sequence[str]) -> None:
    """Write tables and figures, print the tables and the paths."""
    from ablations.figures import write_figures
    from ablations.figures_factorial import write_factorial_figure
    from ablations.figures_tuning import write_tuning_figure
    from ablations.tables import console_table, write_tables
    from ablations.tuning_tables import write_trials

    loaded = load_studies(names, overrides)
    for _, _, results_dir in loaded:
        check_results_dir(results_dir)
    paths = []
    for study, runs, results_dir in loaded:
        paths += write_tables(study, runs, results_dir / "tables")
        write = write_factorial_figure if study.design else write_figures
        paths += write(study, runs, results_dir / "figures")
        if study.tuning is not None:
            paths += write_trials(study, results_dir / "tables")
            paths += write_tuning_figure(study, results_dir / "figures")
        print_table(console_table(study, runs))
    for path in paths:
        print(path)


def list_studies(names: Sequence[str], overrides: Sequence[str]) -> None:
    """Print every planned run and how it stands."""
    from rich.table import Table

    from ablations.records import COMPLETED, metric_label, metric_names

    for study, runs, _ in load_studies(names, overrides):
        completed = sum(run.status == COMPLETED for run in runs)
        table = Table(title=f"{study.name}: {completed} of {len(runs)} completed", title_justify="left")
        for header in ("arm", "seed", "status", "epochs", "validation", "directory"):
            number = header in ("seed", "epochs")
            table.add_column(header, justify="right" if number else "left", overflow="fold")
        for run in runs:
            metrics = (run.record or {}).get("metrics") or {}
            main = metric_names(metrics)[:1]
            table.add_row(
                run.arm,
                str(run.seed),
                run.status,
                str(0 if run.history is None else len(run.history)),
                f"{metric_label(main[0])} {metrics[f'val_{main[0]}']:.1%}" if main else "–",
                str(run.directory),
            )
        print_table(table)


def judge_claims(arguments: Sequence[str]) -> None:
    """Judge claims, write and print the table and the paths; compare with recorded verdicts where asked.

    Raises:
        UserError: Something that the user chose cannot be.
        VerdictsDiffer: A verdict is not the recorded one.
    """
    from ablations import verdict_tables
    from ablations.auto_seeds import judge_by_looks
    from ablations.benchmark_verdicts import judge_benchmark
    from ablations.claims import BENCHMARK, load_claims
    from ablations.studies import compose_runs, hydra_configuration, output_suffix, seed_budget, study_names
    from ablations.verdicts import judge_study, untestable

    options = verdict_tables.parse_options(arguments)
    names, changes = options.names, output_suffix(options.overrides)
    if changes and BENCHMARK in names:
        raise UserError(f"{BENCHMARK}: its claims are about the networks as they are, so only results_dir=")
    if unknown := [name for name in names if name not in (*study_names(), BENCHMARK)]:
        known = ", ".join((*study_names(), BENCHMARK))
        raise UserError(f"study={unknown[0]}: no such study; there are: {known}")
    claims = load_claims()
    recorded = verdict_tables.read_recorded(options.check) if options.check else {}
    asked = [
        claim
        for claim in claims
        if (claim.study in names if names else not (changes and claim.study == BENCHMARK))
    ]
    of_studies = {claim.study for claim in asked} - {None, BENCHMARK}
    with hydra_configuration():
        places = [word for word in options.overrides if word.partition("=")[0] == "results_dir"]
        results_dir = compose_runs(places)[0].results_dir
    check_results_dir(results_dir)
    chosen = [name for name in study_names() if name in of_studies]
    studies = [(study, runs) for study, runs, _ in load_studies(chosen, options.overrides)] if chosen else []
    budget = seed_budget(options.overrides)
    found = []
    for study, runs in studies:
        found += (
            judge_study(asked, study, runs)
            if budget is None
            else judge_by_looks(asked, study, runs, budget).verdicts
        )
    found += judge_benchmark(asked, results_dir)
    found += [untestable(claim) for claim in asked if claim.study is None]
    by_id = {verdict.claim.id: verdict for verdict in found}
    verdicts = [by_id[claim.id] for claim in asked]
    part = "__study=" + ",".join(dict.fromkeys(names)) if names else ""
    paths = verdict_tables.write_verdicts(verdicts, studies, results_dir / "tables", part + changes)
    print_table(verdict_tables.console_table(verdicts))
    for path in paths:
        print(path)
    if options.record:
        verdict_tables.record_verdicts(verdicts, options.record)
    if options.check:
        others = {claim.id for claim in claims} - set(by_id)
        verdict_tables.compare_with_recorded(verdicts, recorded, sorted(others))


def benchmark_networks(words: Sequence[str]) -> None:
    """Measure size and speed of the networks, print the table and the paths."""
    from ablations.benchmark import benchmark

    table, paths = benchmark(words)
    print_table(table)
    for path in paths:
        print(path)


if __name__ == "__main__":
    sys.exit(main())

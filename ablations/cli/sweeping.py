"""`python run.py -m`: runs, then the verdicts on their studies."""

from collections.abc import Sequence

from hydra.plugins.launcher import Launcher

from ablations.cli import commands
from ablations.errors import RunsFailed
from ablations.lazily import lazily
from experiments.overrides import seed_budget, split_studies, variations

with lazily():
    from experiments import auto_seeds, plan, study_file, sweep, tuning


def run_sweep(arguments: Sequence[str], launcher: Launcher) -> None:
    """Train a sweep's missing runs; print the verdicts on its studies.

    Raises:
        UserError: A choice is invalid; nothing was written.
        RunsFailed: Runs failed; verdicts are printed anyway.
    """
    studies, others = split_studies(arguments)
    if studies:
        study_file.project_claims()  # a wrong claim is named before training, not after
    try:
        _train(arguments, launcher)
    except RunsFailed:
        _print_verdicts(studies, others)
        raise
    _print_verdicts(studies, others)


def _train(arguments: Sequence[str], launcher: Launcher) -> None:
    studies, others = split_studies(arguments)
    each = [[f"study={','.join(studies)}", *one] for one in variations(others)] if studies else [arguments]
    if seed_budget(arguments) is None:
        for words in each:
            tuning.tune_studies(words, launcher)
        sweep.sweep(plan.plan_sweep(arguments), launcher)
    else:
        for words in each:
            auto_seeds.sweep_auto_seeds(words, launcher)


def _print_verdicts(studies: Sequence[str], others: Sequence[str]) -> None:
    for of_one in variations(others) if studies else ():
        commands.print_verdicts(studies, of_one)

"""The tuning of a study: notes under its tables, and a table of every trial, `<output>_trials`."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ablations.metrics import Metric
from ablations.studies.results import Arm, Study, Trial, Tuning, tuned_arms
from ablations.table_files import latex_page, markdown_page, write_table_files
from ablations.text import in_words, shown_settings, shown_value


def tuning_notes(study: Study) -> list[str]:
    """How the arms were tuned, and what was chosen for each."""
    if study.tuning is None:
        return []
    tuning = study.tuning
    deciding, metric = study.deciding, study.deciding.label
    best_is = "highest" if deciding.sign > 0 else "lowest"
    space = [f"{in_words(name)} ({tuning.keys[name]}), {text}" for name, text in tuning.space.items()]
    notes = [
        f"Equal tuning ({tuning.option}): {tuning.budget}. Each arm's first trial is the configured "
        f"settings; the others are drawn by {tuning.sampler}"
        + (", the same for every arm." if tuning.independent else ", which follows each arm's own results."),
        f"Space: {'; '.join(space)}.",
        f"Chosen for each arm: its trial with the {best_is} final validation {metric}"
        + (", the mean over its seeds" if len(tuning.seeds) > 1 else "")
        + "; test results were not used. The study's runs have these settings and seeds that no trial had. "
        "On the same seeds each arm also ran with the configured settings.",
    ]
    for arm in tuned_arms(study):
        trials, best = tuning.trials[arm.name], tuning.best(arm.name)
        chosen = (
            f"{shown_settings(trials[best].settings)} (validation {metric} {_value(deciding, trials[best])})"
        )
        configured = (
            "the configured settings"
            if best == 0
            else f"as configured, {shown_settings(trials[0].settings)}, {_value(deciding, trials[0])}"
        )
        notes.append(
            f"Best of “{tuning.labels[arm.name]}”: {chosen}; {configured}."
            + (f" It has {edge}: a better one may lie beyond." if (edge := edge_of(trials, best)) else "")
        )
    return notes


def _value(metric: Metric, trial: Trial) -> str:
    return f"{metric.number(trial.value)} {metric.shown_unit}".strip()


def trials_table(study: Study) -> pd.DataFrame:
    """Every trial, arm by arm in the order of drawing.

    Columns: arm, label; trial (from 1); configured and chosen (true or false); one per parameter of the
    space; val_METRIC, the mean over seeds; n_seeds, n_diverged; runs, the names of their directories.

    Raises:
        ValueError: The study's arms were not tuned.
    """
    tuning = _tuning(study)
    return pd.DataFrame(
        [
            {"arm": arm.name, "label": tuning.labels[arm.name], "trial": index + 1}
            | {"configured": index == 0, "chosen": index == tuning.best(arm.name)}
            | {parameter: trial.settings[parameter] for parameter in tuning.space}
            | {f"val_{study.metric}": trial.value}
            | {"n_seeds": len(tuning.seeds), "n_diverged": trial.diverged, "runs": " ".join(trial.runs)}
            for arm, index, trial in _numbered(study)
        ]
    )


def write_trials(study: Study, folder: Path) -> list[Path]:
    """Write the table of trials as CSV, Markdown and LaTeX, `<output>_trials`, each atomically.

    Raises:
        ValueError: The study's arms were not tuned.
        OSError: The folder cannot be written.
    """
    tuning = _tuning(study)
    deciding, metric = study.deciding, study.deciding.label
    readable = pd.DataFrame(
        [
            {"arm": tuning.labels[arm.name], "trial": str(index + 1)}
            | {in_words(name): shown_value(trial.settings[name]) for name in tuning.space}
            | {deciding.with_unit(f"validation {metric}"): deciding.number(trial.value)}
            | {"diverged": f"{trial.diverged} / {len(tuning.seeds)}"}
            | {"": _remark(index, tuning.best(arm.name))}
            for arm, index, trial in _numbered(study)
        ]
    )
    title, subtitle = f"{study.title}: every trial", study.subtitle
    notes = tuning_notes(study)
    return write_table_files(
        folder,
        f"{study.output}_trials",
        csv=trials_table(study),
        markdown=markdown_page(title, subtitle, [readable], notes),
        latex=latex_page(title, subtitle, f"{study.output}_trials", [readable], notes),
    )


def _tuning(study: Study) -> Tuning:
    if study.tuning is None:
        raise ValueError(f"study {study.name}: its arms were not tuned")
    return study.tuning


def _numbered(study: Study) -> list[tuple[Arm, int, Trial]]:
    trials = _tuning(study).trials
    return [(arm, index, trial) for arm in tuned_arms(study) for index, trial in enumerate(trials[arm.name])]


def _remark(index: int, best: int) -> str:
    remarks = ["configured"] * (index == 0) + ["chosen"] * (index == best)
    return ", ".join(remarks)


def edge_of(trials: Sequence[Trial], best: int) -> str:
    """Parameters chosen at the edge of what was tried, "the lowest learning rate tried", or ""."""
    edges = []
    for parameter, value in trials[best].settings.items():
        tried = [trial.settings[parameter] for trial in trials]
        if not all(isinstance(other, int | float) and not isinstance(other, bool) for other in tried):
            continue
        if value in (min(tried), max(tried)) and min(tried) < max(tried):
            which = "lowest" if value == min(tried) else "highest"
            edges.append(f"the {which} {in_words(parameter)} tried")
    return " and ".join(edges)

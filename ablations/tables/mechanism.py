"""Tables of the measured mechanism: every arm and layer as CSV, the modules' means as Markdown."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ablations.evidence.mechanism import BETWEEN, MAIN, Measured, Moment
from ablations.files import write_forms
from ablations.studies.results import Study, baseline_first
from ablations.table_files import csv_text, markdown_page
from ablations.text import NO_VALUE


def write_mechanism_tables(study: Study, found: Sequence[Measured], folder: Path) -> list[Path]:
    """Write every arm and layer as CSV, and the modules' means as Markdown.

    Returns:
        The two paths, `folder/<output>_mechanism.csv` and `.md`; none without measurements.

    Raises:
        OSError: The folder cannot be written.
    """
    if not found:
        return []
    contents = {".csv": csv_text(mechanism_table(study, found)), ".md": _page(study, found)}
    return write_forms(folder, f"{study.output}_mechanism", contents)


def mechanism_table(study: Study, found: Sequence[Measured]) -> pd.DataFrame:
    """A row per measurement, moment, arm and layer: mean over seeds, 95 % interval, n; four digits."""
    rows = []
    for measured in found:
        for moment in measured.moments:
            for arm in baseline_first(study):
                if (moment.name, arm.name) not in measured.of_seeds:
                    continue
                values = measured.of_seeds[moment.name, arm.name]
                for layer, of_seeds in zip(measured.layers, values.T, strict=True):
                    if (estimate := measured.estimate(of_seeds)) is None:
                        continue
                    numbers = {"mean": estimate.mean, "ci_low": estimate.low, "ci_high": estimate.high}
                    rows.append(
                        {
                            "quantity": measured.measurement.name,
                            "moment": moment.name,
                            "arm": arm.name,
                            "module": layer.shown_module,
                            "layer": layer.name,
                            **{key: float(f"{number:.4g}") for key, number in numbers.items()},
                            "n": estimate.n,
                        }
                    )
    return pd.DataFrame(rows)


def _page(study: Study, found: Sequence[Measured]) -> str:
    tables, notes = [], []
    for measured in found:
        notes.append(measured.measurement.note)
        for moment in measured.moments:
            kinds = [kind for kind in (MAIN, BETWEEN) if measured.indices(kind)]
            tables += [_of_modules(study, measured, moment, kind) for kind in kinds]
    notes.append(
        "A cell: mean over the module's measured layers, then over seeds; shortcuts are left out. Every "
        f"layer, with its interval: {study.output}_mechanism.csv."
    )
    subtitle = f"{study.subtitle} Columns: modules in order of execution, and the head."
    return markdown_page(f"{study.title}: measured mechanism", subtitle, tables, notes)


def _of_modules(study: Study, measured: Measured, moment: Moment, kind: str) -> pd.DataFrame:
    measurement = measured.measurement
    indices = measured.indices(kind)
    modules = dict.fromkeys(measured.layers[index].shown_module for index in indices)
    what = f"{measurement.title}{' of intermediate activations' if kind == BETWEEN else ''}, {moment.label}"
    rows = []
    for arm in baseline_first(study):
        values = measured.of_seeds.get((moment.name, arm.name))
        if values is None or not np.isfinite(values[:, indices]).any():
            continue
        cells = {
            f"{what}{f', {measurement.unit}' if measurement.unit else ''}": arm.label,
            "n": str(len(values)),
        }
        for module in modules:
            of_module = values[
                :, [index for index in indices if measured.layers[index].shown_module == module]
            ]
            # First over layers, so that all seeds weigh the same.
            numbers = np.log10(of_module) if measurement.logarithmic else of_module
            of_seeds = [seed[np.isfinite(seed)].mean() for seed in numbers if np.isfinite(seed).any()]
            cells[module] = NO_VALUE
            if of_seeds:
                mean = float(np.mean(of_seeds))
                cells[module] = f"{10**mean:.3g}" if measurement.logarithmic else f"{mean:.1f}"
        rows.append(cells)
    return pd.DataFrame(rows)

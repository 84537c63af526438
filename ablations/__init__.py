"""The analysis: studies and their records become statistics, verdicts, tables, figures and the report.

Only the command line, `ablations.cli` and `ablations.__main__`, imports torch, Lightning or Hydra. These
names work for any table with a column per factor, a seed and a number::

    runs = ablations.load_runs("results")
    table = ablations.compare(runs, factor="residual", baseline="true", metric="test_top1")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ablations.evidence.quantities import quantity
    from ablations.figures.curves import plot_curves
    from ablations.frames import compare, judge, load_histories, load_runs
    from ablations.runs.writing import write_run
    from ablations.statistics.effects import (
        needed_seeds,
        power_of,
        probability_of_improvement,
        standardized_effect,
    )

__all__ = [
    "compare",
    "judge",
    "load_histories",
    "load_runs",
    "needed_seeds",
    "plot_curves",
    "power_of",
    "probability_of_improvement",
    "quantity",
    "standardized_effect",
    "write_run",
]

_MODULES = {
    **dict.fromkeys(("compare", "judge", "load_histories", "load_runs"), "ablations.frames"),
    **dict.fromkeys(
        ("needed_seeds", "power_of", "probability_of_improvement", "standardized_effect"),
        "ablations.statistics.effects",
    ),
    "plot_curves": "ablations.figures.curves",
    "quantity": "ablations.evidence.quantities",
    "write_run": "ablations.runs.writing",
}


def __getattr__(name: str) -> Any:
    """Load a name at first use, so that no command waits for what it does not use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)

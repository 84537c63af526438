"""Studies, the status of their runs, and what each run counts as.

A diverged run is a result: its network gives one answer for every image, so it counts as chance from where it
diverged. Failed, running and missing runs are not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, Field, ValidationInfo
from pydantic.dataclasses import dataclass as written

from ablations.errors import UserError
from ablations.metrics import BEFORE_DECLARATIONS, Metric, metric_of
from ablations.runs.histories import History, metric_names
from ablations.runs.records import DONE
from ablations.runs.schema import COMPLETED, DIVERGED
from ablations.text import amount, core_time
from ablations.validation import WRITTEN, imported


def _known_metric(name: str, info: ValidationInfo) -> str:
    """Require a declared metric; without declarations, a valid name."""
    declared = (info.context or {}).get("declared")
    if declared is not None and name not in declared:
        raise ValueError(f"must be one of {', '.join(declared)}")
    if not name.isidentifier():
        raise ValueError("must be the name of a file in conf/metric, of letters, digits and _")
    return name


def _function(path: str) -> str:
    if not callable(imported(path)):
        raise ValueError("must name a function")
    return path


Text = Annotated[str, Field(min_length=1)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
MetricName = Annotated[str, AfterValidator(_known_metric)]


@written(frozen=True, config=WRITTEN)
class Arm:
    """One variant that a study compares."""

    name: Text
    """Used in commands and claims, e.g. non_residual."""
    label: str
    """Shown to readers, e.g. without residual connections."""
    choose: Mapping[str, Any]
    """Option per config group and value per other key, e.g. {residual: "false"}. match_parameters: baseline
    solves the width for the parameters of the arm that it is compared with."""
    paper: str = ""
    """The paper's statement about this arm, in a short phrase; empty if none."""
    paper_values: Mapping[MetricName, Number] = field(default_factory=dict)
    """The paper's value per metric, as printed."""
    baseline: str | None = None
    """Arm to compare with instead of the study's baseline."""


@written(frozen=True, config=WRITTEN)
class PaperRow:
    """A row of the paper's table that has no arm here."""

    label: str
    """As the paper names it, e.g. VGG-16."""
    paper_values: Mapping[MetricName, Number]
    """The paper's value per metric, as printed."""


@written(frozen=True, config=WRITTEN)
class StudyFigure:
    """One figure of a study."""

    output: str
    """Stem of its files, e.g. figure07_jft."""
    title: str
    """Its heading."""
    source: str = ""
    """Its place in the paper; left out: the study's."""
    arms: tuple[str, ...] = ()
    """Names of the arms that it shows; left out: all."""
    baseline: str = ""
    """The arm that the others are compared with; left out: the study's."""
    draw: Annotated[str, AfterValidator(_function)] | None = None
    """A function of yours, module.NAME, from the study and its runs to a matplotlib figure; null: curves and
    differences. Title, notes and size are set for you."""


CONFIGURED = "_configured"
"""Ending of an arm's name in a tuned study: that arm with the configured settings and the same seeds."""


@dataclass(frozen=True)
class Trial:
    """One trial of an arm's settings.

    Attributes:
        settings: Value per parameter of the space, `{"learning_rate": 0.22}`.
        value: Final validation value of the study's first metric, mean over seeds; diverged runs count as
            chance.
        runs: Names of its runs' directories, one per seed.
    """

    settings: Mapping[str, Any]
    value: float
    runs: tuple[str, ...]
    diverged: int


@dataclass(frozen=True)
class Tuning:
    """How the arms of a study were tuned: all with the same space, number of trials and seeds.

    Attributes:
        option: Name of the file in conf/tuning, "learning_rate".
        keys: The key that each parameter sets, `{"learning_rate": "recipe.optimizer.lr"}`.
        space: What each parameter is drawn from, `{"learning_rate": "log-uniform from 0.01 to 1"}`.
        logarithmic: Parameters drawn on a logarithmic scale.
        sampler: "RandomSampler".
        independent: Whether draws ignore results, so that all arms have the same draws.
        trials: Per arm, in the order of drawing; the first has the configured settings.
        core_hours: Of the trials' runs that have a record.
        journal: Name of the file of the trials in `results/tuning`.
        sign: 1 if higher values are better, -1 if lower.
    """

    option: str
    keys: Mapping[str, str]
    space: Mapping[str, str]
    logarithmic: tuple[str, ...]
    sampler: str
    independent: bool
    seeds: tuple[int, ...]
    epochs: int
    labels: Mapping[str, str]
    trials: Mapping[str, tuple[Trial, ...]]
    core_hours: float
    recorded_runs: int
    journal: str
    sign: int = 1

    def best(self, arm: str) -> int:
        """Index of the arm's best trial; the first of equal ones."""
        values = [self.sign * trial.value for trial in self.trials[arm]]
        return values.index(max(values))

    @property
    def budget(self) -> str:
        """E.g. "8 trials × 1 seed × 6 epochs for each of 2 arms, 16 runs, 12 min 05 s on one core"."""
        arms = len(self.trials)
        trials = len(next(iter(self.trials.values())))
        runs = len({run for of_arm in self.trials.values() for trial in of_arm for run in trial.runs})
        lost = "" if self.recorded_runs == runs else f" ({self.recorded_runs} of them with a record)"
        of_arm = [amount(trials, "trial"), amount(len(self.seeds), "seed"), amount(self.epochs, "epoch")]
        of_all = [amount(runs, "run") + lost, f"{core_time(self.core_hours)} on one core"]
        return f"{' × '.join(of_arm)} for each of {amount(arms, 'arm')}, {', '.join(of_all)}"


@dataclass(frozen=True)
class Factor:
    """One factor of a factorial study.

    Attributes:
        levels: Label per level, in order, `{"channels_1": "1 channel per segment"}`.
        ticks: Text below the axis, for the levels that have one.
    """

    name: str
    label: str
    levels: Mapping[str, str]
    ticks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Design:
    """A study whose arms are all combinations of the levels of its factors.

    Attributes:
        factors: In the order in which the arms' names join their levels.
        x: Name of the factor on the horizontal axis.
        lines: Name of the factor with one line per level; further factors divide the arms into sets.
        axis: Label of the horizontal axis, with unit.
        levels: Level per factor of each arm.
        positions: On the horizontal axis, per arm.
        paper: Position of the paper's own setting.
    """

    factors: tuple[Factor, ...]
    x: str
    lines: str
    axis: str
    levels: Mapping[str, Mapping[str, str]]
    positions: Mapping[str, float]
    paper: float | None = None

    def factor(self, name: str) -> Factor:
        return next(factor for factor in self.factors if factor.name == name)

    def others(self) -> list[Factor]:
        """The factors that divide the arms into sets."""
        return [factor for factor in self.factors if factor.name not in (self.x, self.lines)]

    def parts(self) -> list[dict[str, str]]:
        """The sets: a level per factor of `others`; one empty mapping if there are none."""
        names = [factor.name for factor in self.others()]
        levels = product(*(factor.levels for factor in self.others()))
        return [dict(zip(names, of_part, strict=True)) for of_part in levels]

    def arm(self, levels: Mapping[str, str]) -> str:
        """Name of the arm with these levels."""
        return next(name for name, of_arm in self.levels.items() if of_arm == levels)


@dataclass(frozen=True)
class Swept:
    """The listed values that make the arms of a study without a file, in the order of the command."""

    keys: tuple[str, ...]
    values: Mapping[str, tuple[Any, ...]]

    @property
    def two_numbers(self) -> bool:
        """Whether the arms are the cells of a plane."""
        numbers = (value for of_arm in self.values.values() for value in of_arm)
        return len(self.keys) == 2 and all(
            isinstance(value, int | float) and not isinstance(value, bool) for value in numbers
        )


@dataclass(frozen=True)
class Study:
    """Arms, seeds and what they are measured by.

    Attributes:
        output: Stem of its tables and figures, "figure09_residual".
        source: "Chollet 2016, section 4.6, figure 9"; "" for none.
        baseline: Name of the arm that the others are compared with.
        metrics: Names; the first decides.
        target: Validation value of the first metric for "steps to target".
        scale: One line on the size of the runs: network, width, dataset, epochs.
        figures: Its figures. Without one of ours, there is one of all arms, named as its table.
        paper_only: Rows of the paper's table without an arm.
        tuning: None: its arms have the configured settings.
        design: None: its arms are listed.
        swept: None: it has a file.
        declared: Its metrics, by name.
    """

    name: str
    title: str
    output: str
    source: str
    arms: tuple[Arm, ...]
    baseline: str
    seeds: tuple[int, ...]
    metrics: tuple[str, ...]
    target: float | None
    scale: str
    figures: tuple[StudyFigure, ...] = ()
    paper_only: tuple[PaperRow, ...] = ()
    tuning: Tuning | None = None
    notes: tuple[str, ...] = ()
    design: Design | None = None
    swept: Swept | None = None
    declared: Mapping[str, Metric] = field(default_factory=lambda: BEFORE_DECLARATIONS)

    @property
    def metric(self) -> str:
        return self.metrics[0]

    @property
    def factorial(self) -> Design:
        """The design of a study that has one."""
        assert self.design is not None
        return self.design

    @property
    def deciding(self) -> Metric:
        return self.declaration(self.metric)

    def declaration(self, metric: str) -> Metric:
        return metric_of(metric, self.declared)

    @property
    def subtitle(self) -> str:
        """Scale and source as sentences."""
        return " ".join(f"{text}." for text in (self.scale, self.source) if text)

    def compared_with(self, arm: Arm) -> str | None:
        """Name of the arm that `arm` is compared with; None for the baseline."""
        if arm.baseline is not None:
            return arm.baseline
        return None if arm.name == self.baseline else self.baseline


@dataclass(frozen=True)
class StudyRun:
    """One planned run; `history` has epoch, step and the requested validation metrics."""

    arm: str
    seed: int
    run_id: str
    directory: Path
    status: str
    record: Mapping[str, Any] | None
    history: History | None

    def measured(self, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps and validation values of the measured epochs, each `(E,)`.

        Raises:
            ValueError: A completed run without a finite curve.
        """
        if metric not in self._measured:  # tables, figures and verdicts all ask
            self._measured[metric] = _measured(self, metric)
        return self._measured[metric]

    @cached_property
    def _measured(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        return {}


@dataclass(frozen=True)
class Outcome:
    """What a completed or diverged run counts as.

    Attributes:
        final: Value per metric of the study, `{"val_top1": ..., "test_top1": ...}`.
        steps: Training steps done at the end of each epoch, `(E,)`.
        curve: Validation value of the study's first metric there, `(E,)`; chance from where the run diverged.
        measured: Measured epochs of `curve`: E, or fewer if the run diverged.
        failed_to_learn: Whether it diverged, or ended near chance in validation (`Metric.near_chance`). Test
            values are compared, so they do not select their own seeds.
    """

    run: StudyRun
    final: Mapping[str, float]
    steps: np.ndarray
    curve: np.ndarray
    measured: int
    failed_to_learn: bool = False

    @property
    def diverged(self) -> bool:
        return self.run.status == DIVERGED


def baseline_first(study: Study) -> list[Arm]:
    """The study's arms in their order, but the baseline first.

    Raises:
        ValueError: No arm has the baseline's name.
    """
    if study.baseline not in [arm.name for arm in study.arms]:
        allowed = ", ".join(arm.name for arm in study.arms)
        raise ValueError(f"study {study.name}: baseline={study.baseline} is not an arm; arms: {allowed}")
    return sorted(study.arms, key=lambda arm: arm.name != study.baseline)


def tuned_arms(study: Study) -> list[Arm]:
    """In the study's order."""
    return [arm for arm in study.arms if study.tuning is not None and arm.name in study.tuning.trials]


def outcomes(study: Study, runs: Sequence[StudyRun]) -> dict[str, list[Outcome]]:
    """Completed and diverged runs of each arm, by seed; baseline first.

    The curve of a diverged run is continued to the length of its arm's completed runs; without one, of the
    study's; without one, of the longest curve.

    Raises:
        ValueError: A run of an unknown arm, two runs of one arm and seed, a completed run without a finite
            validation curve, or curves of one arm with different steps.
    """
    by_arm: dict[str, list[Outcome]] = {arm.name: [] for arm in baseline_first(study)}
    if unknown := {run.arm for run in runs} - set(by_arm):
        raise ValueError(f"study {study.name}: arm={min(unknown)} is unknown; arms: {', '.join(by_arm)}")
    if len({(run.arm, run.seed) for run in runs}) < len(runs):
        raise ValueError(f"study {study.name}: an arm has two runs of one seed")

    results = [run for run in sorted(runs, key=lambda run: run.seed) if run.status in DONE]
    nothing = np.empty(0), np.empty(0)  # the study compares only size and speed
    measured: dict[str, tuple[np.ndarray, np.ndarray]] = {
        run.run_id: run.measured(study.metric) if study.metrics else nothing for run in results
    }

    def longest(of: Sequence[StudyRun]) -> np.ndarray:
        return max((measured[run.run_id][0] for run in of), key=len, default=np.empty(0))

    completed = [run for run in results if run.status == COMPLETED]
    otherwise = longest(completed or results)
    for name, of_arm in by_arm.items():
        runs_of_arm = [run for run in results if run.arm == name]
        completed_of_arm = [run for run in runs_of_arm if run.status == COMPLETED]
        steps = longest(completed_of_arm) if completed_of_arm else otherwise
        of_arm += [_outcome(study, run, *measured[run.run_id], steps) for run in runs_of_arm]
    return by_arm


def pair_by_seed(of_arm: Sequence[Outcome], baseline: Sequence[Outcome]) -> list[tuple[Outcome, Outcome]]:
    """The outcomes (arm, baseline) of every seed that has both."""
    of_seed = {outcome.run.seed: outcome for outcome in baseline}
    return [(outcome, of_seed[outcome.run.seed]) for outcome in of_arm if outcome.run.seed in of_seed]


def final_value(study: Study, record: Mapping[str, Any], part: str, metric: str) -> float:
    """A metric of the final epoch, `part` "val" or "test"; chance if the run diverged.

    Raises:
        UserError: It completed without that metric.
    """
    if record["status"] == COMPLETED:
        measured = record["metrics"]
        if f"{part}_{metric}" not in measured:
            names = ", ".join(metric_names(measured))
            raise UserError(f"metric={metric}: run {record['run_id']} did not measure it; it has {names}")
        return float(measured[f"{part}_{metric}"])
    return chance(study, record, metric)


def chance(study: Study, record: Mapping[str, Any], metric: str) -> float:
    """A metric's value at chance, on the data of a run."""
    return study.declaration(metric).of_nothing(record["config"]["dataset"]["num_classes"])


def _measured(run: StudyRun, metric: str) -> tuple[np.ndarray, np.ndarray]:
    if run.history is None or f"val_{metric}" not in run.history:
        steps, curve = np.empty(0), np.empty(0)
    else:
        steps, curve = run.history["step"], run.history[f"val_{metric}"]
    if run.status == DIVERGED:  # its last row may lack a validation
        return steps[np.isfinite(curve)], curve[np.isfinite(curve)]
    if curve.size == 0 or not np.isfinite(curve).all():
        raise UserError(f"{run.directory}: completed, but its curve of val_{metric} is missing or not finite")
    return steps, curve


def _outcome(
    study: Study, run: StudyRun, measured_at: np.ndarray, measured: np.ndarray, steps: np.ndarray
) -> Outcome:
    assert run.record is not None, "completed and diverged runs have a record"
    epochs = len(measured)
    cut_short = epochs < len(steps) and run.status == COMPLETED
    if cut_short or not np.array_equal(measured_at, steps[:epochs]):
        raise UserError(f"{run.directory}: its validation steps differ from those of the other runs")
    final = {}
    for name in study.metrics:
        for part in ("val", "test"):
            final[f"{part}_{name}"] = final_value(study, run.record, part, name)
    curve = measured
    if epochs < len(steps):
        curve = np.concatenate([measured, np.full(len(steps) - epochs, final[f"val_{study.metric}"])])
    return Outcome(
        run, final, steps, curve, measured=epochs, failed_to_learn=_failed_to_learn(study, run, final)
    )


def _failed_to_learn(study: Study, run: StudyRun, final: Mapping[str, float]) -> bool:
    if run.status == DIVERGED or not study.metrics:
        return run.status == DIVERGED
    assert run.record is not None, "completed runs have a record"
    classes = run.record["config"]["dataset"]["num_classes"]
    return study.deciding.failed_to_learn(final[f"val_{study.metric}"], classes)

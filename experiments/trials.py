"""The trials of a tuning, stored by Optuna: each is drawn once and gets one result.

::

    results/tuning/<study><suffix>.log    Optuna's journal, one study of Optuna per arm
    results/tuning/<study><suffix>.lock   held while trials are written, released when the process dies

A trial's settings depend on its index (from 0), the sampler's seed and, if the sampler learns, earlier
results; not on the process that draws it. So an interrupted tuning continues with the same trials.

Needs Optuna: import this module only for tuning.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import optuna
from filelock import FileLock
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, RandomSampler
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from ablations.errors import UserError

SIGNIFICANT_DIGITS = 3
"""Of a drawn number, so that a person can type the trained value."""


@dataclass(frozen=True)
class DrawnTrial:
    """A trial: value per parameter, result (None if unfinished) and run ids."""

    settings: Mapping[str, Any]
    value: float | None
    runs: tuple[str, ...]


class TrialStorage:
    """The trials of a study's arms, in a journal that need not exist."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    def read(self, name: str) -> list[DrawnTrial]:
        """The trials of one arm in order; writes nothing. UserError if the journal is damaged."""
        if not self.path.exists():
            return []
        with _quiet():
            return _trials(self._open(), name)

    def draw(
        self,
        names: Sequence[str],
        count: int,
        space: Mapping[str, BaseDistribution],
        first: Mapping[str, Mapping[str, Any]],
        sampler_of: Callable[[int], BaseSampler],
        direction: Literal["maximize", "minimize"] = "maximize",
    ) -> dict[str, list[DrawnTrial]]:
        """Draw missing trials, so that each arm has its first `count`.

        `names` are Optuna's studies, `first` the settings of their first trials, `sampler_of` the sampler for
        a trial's index.

        Raises:
            UserError: The journal is damaged, or the sampler refuses the space.
        """
        with self._writing() as storage:
            for name in names:
                if name not in optuna.get_all_study_names(storage):
                    optuna.create_study(storage=storage, study_name=name, direction=direction)
                study = _load(storage, name)
                for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                    if trial.params.keys() != space.keys():  # killed while it was drawn
                        study.tell(trial.number, state=TrialState.FAIL)
                for index in range(len(_whole(study)), count):
                    if index == 0 and not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                        study.enqueue_trial(dict(first[name]))
                    study.sampler = _RoundedSampler(sampler_of(index))
                    try:
                        study.ask(dict(space))
                    except ValueError as error:
                        raise UserError(f"tuning.sampler: {' '.join(str(error).split())}") from error
            return {name: _trials(storage, name)[:count] for name in names}

    def tell(self, name: str, index: int, value: float, runs: Sequence[str]) -> None:
        """Store the result of the trial with an index, the mean over its runs, unless it has one."""
        with self._writing() as storage:
            study = _load(storage, name)
            trial = _whole(study)[index]
            if not trial.state.is_finished():
                study.set_user_attr(_runs_key(trial), list(runs))
                study.tell(trial.number, value)

    @contextmanager
    def _writing(self) -> Iterator[JournalStorage]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Optuna's own lock would outlive a killed process.
        lock = FileLock(self.path.with_name(f"{self.path.stem}.lock"))
        with lock, _quiet():
            _drop_half_line(self.path)
            yield self._open(lock)

    def _open(self, lock: FileLock | None = None) -> JournalStorage:
        """Read the journal; Optuna does not handle a damaged one."""
        try:
            return JournalStorage(JournalFileBackend(str(self.path), lock_obj=cast(Any, lock)))
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, AssertionError) as error:
            reason = " ".join(f"{type(error).__name__} {error}".split())
            raise UserError(
                f"{self.path}: damaged ({reason}); delete the file and rerun the command, which trains only "
                "what is not recorded"
            ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)


class _RoundedSampler(BaseSampler):
    """Rounds another sampler's numbers to `SIGNIFICANT_DIGITS`."""

    def __init__(self, sampler: BaseSampler) -> None:
        self._sampler = sampler

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        drawn = self._sampler.sample_relative(study, trial, search_space)
        return {name: rounded(value, search_space[name]) for name, value in drawn.items()}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        drawn = self._sampler.sample_independent(study, trial, param_name, param_distribution)
        return rounded(drawn, param_distribution)


def rounded(value: Any, distribution: BaseDistribution) -> Any:
    """Round a continuous value, within its range."""
    if not isinstance(distribution, FloatDistribution):
        return value
    digits = SIGNIFICANT_DIGITS if distribution.step is None else 12  # steps: 0.3, not 0.30000000000000004
    return min(max(float(f"{value:.{digits}g}"), distribution.low), distribution.high)


def contains(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, FloatDistribution | IntDistribution):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and distribution.low <= value <= distribution.high
    assert isinstance(distribution, CategoricalDistribution), "Optuna has no other"
    return any(value == choice and type(value) is type(choice) for choice in distribution.choices)


def extremes(distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, FloatDistribution | IntDistribution):
        return [distribution.low, distribution.high]
    assert isinstance(distribution, CategoricalDistribution), "Optuna has no other"
    return list(distribution.choices)


def described(distribution: BaseDistribution) -> str:
    """A distribution in words: "log-uniform from 0.01 to 1"."""
    if isinstance(distribution, FloatDistribution | IntDistribution):
        kind = "log-uniform" if distribution.log else "uniform"
        step = distribution.step
        steps = f" in steps of {step:g}" if step is not None and not distribution.log else ""
        return f"{kind} from {distribution.low:g} to {distribution.high:g}{steps}"
    return "one of " + ", ".join(str(choice) for choice in extremes(distribution))


def is_independent(sampler: BaseSampler) -> bool:
    """Whether draws do not depend on results or other draws."""
    return isinstance(sampler, RandomSampler)


def _load(storage: JournalStorage, name: str) -> Study:
    # Otherwise Optuna would make a sampler with a random seed.
    return optuna.load_study(storage=storage, study_name=name, sampler=RandomSampler(seed=0))


def _whole(study: Study) -> list[FrozenTrial]:
    """The trials that were fully drawn."""
    states = (TrialState.RUNNING, TrialState.COMPLETE)
    return study.get_trials(deepcopy=False, states=states)


def _trials(storage: JournalStorage, name: str) -> list[DrawnTrial]:
    if name not in optuna.get_all_study_names(storage):
        return []
    study = _load(storage, name)
    runs = study.user_attrs
    trials = []
    for trial in _whole(study):
        value = trial.value if trial.state == TrialState.COMPLETE else None
        named = tuple(runs.get(_runs_key(trial), ())) if value is not None else ()
        trials.append(DrawnTrial(dict(trial.params), value, named))
    return trials


def _runs_key(trial: FrozenTrial) -> str:
    return f"runs of trial {trial.number}"


def _drop_half_line(path: Path) -> None:
    """Remove an incomplete last line, to which the next would be appended."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        content = file.read()
        if content and not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)

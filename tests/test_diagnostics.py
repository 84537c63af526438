"""Diagnostics of a run: asked for afterwards they are measured from the start, and the outcome stays."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ablations.runs.records import RunDirectory, measured_diagnostics
from experiments import run
from experiments.check import check_run
from experiments.configuration import RunConfiguration
from experiments.planned_run import PlannedRun
from experiments.planning import compose_runs, hydra_configuration
from experiments.standing import standing
from tests.few_images import as_words

pytestmark = pytest.mark.slow

TINY = ("model.width=0.02", "model.stem_stride=2", "model.middle_modules=0", "recipe.epochs=1", "logger=none")


@pytest.fixture(scope="module")
def results_dir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def configure(results_dir: Path, few_images: Mapping[str, Any]) -> Callable[..., RunConfiguration]:
    tiny = [*TINY, *as_words(few_images), f"results_dir='{results_dir}'"]

    def make(*overrides: str) -> RunConfiguration:
        with hydra_configuration():
            (configuration,) = compose_runs([*tiny, *overrides])
        return configuration

    return make


def directory_of(configuration: RunConfiguration) -> RunDirectory:
    return PlannedRun("arm", (), configuration, "sweep").directory


def carried_out(configuration: RunConfiguration) -> dict[str, Any]:
    check_run(configuration)
    directory = directory_of(configuration)
    assert directory.status() == "missing"
    with directory.lock():
        run.train(configuration, directory)
    assert directory.status() == "completed"
    record = directory.read()
    assert record is not None
    return record


def names(directory: RunDirectory) -> set[str]:
    return {row["diagnostic"] for row in directory.diagnostic_rows() or []}


def test_what_is_asked_for_later_is_measured_from_the_start_with_the_same_outcome(configure) -> None:
    plain = configure()
    before = carried_out(plain)
    directory = directory_of(plain)
    rows = directory.rows()
    assert directory.diagnostic_rows() is None

    measured = configure("diagnostics=gradient_norm")
    assert directory_of(measured).path == directory.path
    ((entry,), (problem,)) = standing([PlannedRun("arm", (), measured, "sweep")])
    assert entry.status == "missing"
    assert problem.startswith("not measured as requested (gradient_norm)")
    # Its checkpoint has no rows of the first steps.
    beginning = run.begin_record(measured, directory) | {"device": before["device"]}
    assert directory.checkpoint() is not None
    assert run.checkpoint_of_same_kind(directory, beginning) is None
    assert run.checkpoint_of_same_kind(directory, beginning | {"config": before["config"]}) is not None

    after = carried_out(measured)
    assert after["metrics"] == before["metrics"]
    without_times = [{**row, "seconds": 0} for row in directory.rows() or []]
    assert without_times == [{**row, "seconds": 0} for row in rows or []]
    assert directory.status() == "completed"  # for who asks for nothing
    assert names(directory) == {"gradient_norm"}

    # Nobody's are lost to another command's.
    both = carried_out(configure("diagnostics=dead_units"))
    assert both["metrics"] == before["metrics"]
    assert set(measured_diagnostics(both)) == names(directory) == {"gradient_norm", "dead_units"}
    assert directory_of(measured).status() == "completed"


def test_a_diverged_run_keeps_what_led_to_it(configure) -> None:
    diverging = configure("diagnostics=all", "recipe.optimizer.lr=1e30", "seed=1")
    directory = directory_of(diverging)
    with directory.lock():
        record = run.train(diverging, directory)
    assert record["status"] == directory.status() == "diverged"
    steps = {row["step"] for row in directory.diagnostic_rows() or [] if row["diagnostic"] == "gradient_norm"}
    assert steps == set(range(1, record["diverged_at_step"] + 1))


def test_weights_that_are_only_evaluated_are_measured_as_they_are(configure) -> None:
    trained = configure("diagnostics=dead_units", "seed=2")
    carried_out(trained)
    weights = f"weights='{directory_of(trained).checkpoint_path}'"
    evaluated = configure("diagnostics=dead_units", "seed=2", "train=false", weights)
    carried_out(evaluated)

    def values(configuration: RunConfiguration, epoch: int) -> list[float]:
        rows = directory_of(configuration).diagnostic_rows() or []
        return [row["value"] for row in rows if row["epoch"] == epoch]

    assert values(evaluated, 0) == values(trained, 1)
    assert values(evaluated, 0)
    with pytest.raises(ValueError, match=r"^diagnostics\.gradient_norm: needs training steps"):
        check_run(configure("diagnostics=gradient_norm", "train=false", weights))

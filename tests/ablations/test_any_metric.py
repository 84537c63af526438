"""A study by a metric that is better where it is lower and that is no share: tables, verdicts, figures."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.text import Text

from ablations.evidence.claims import Claim, Comparison
from ablations.evidence.contrasts import arm_values
from ablations.evidence.verdicts import judge_study
from ablations.figures.study import draw_study
from ablations.figures.tuning import expected_best
from ablations.metrics import Metric
from ablations.report.charts import difference_chart
from ablations.runs.histories import History
from ablations.studies.results import Study, StudyRun, Trial, outcomes
from ablations.tables.study import markdown_table, study_contents
from ablations.tables.verdicts import claimed, difference

MEMORY = Metric(label="memory", unit="MiB", direction="lower", chance="10 * num_classes")


@pytest.fixture
def memory_study(residual_study: Study) -> Study:
    return replace(residual_study, metrics=("memory",), target=40.0, declared={"memory": MEMORY})


@pytest.fixture
def memory_runs(memory_study: Study, make_run) -> list[StudyRun]:
    """Memory falls from 60 to 30 + seed with shortcuts, and to 45 + seed without; seed 5 without diverged."""
    runs = []
    for arm, last in (("with", 30.0), ("without", 45.0)):
        for seed in memory_study.seeds:
            noise = 0.1 * (seed % 3) * (arm == "with")
            curve = np.array([60.0, 50.0, 40.0, last + seed + noise])
            if (arm, seed) == ("without", 5):
                run = make_run(arm, seed, curve[:2], status="diverged", steps_per_second=None)
                curve = curve[:2]
            else:
                final = {"val_memory": curve[-1], "test_memory": curve[-1] + 1}
                speed = 8.0 if arm == "with" else 10.0 + seed / 100
                run = make_run(arm, seed, curve, metrics=final, steps_per_second=speed)
            assert run.history is not None
            columns = {"epoch": run.history["epoch"], "step": run.history["step"], "val_memory": curve}
            runs.append(replace(run, history=History(columns)))
    return runs


def test_the_table_has_the_metrics_unit_and_its_direction(memory_study: Study, memory_runs) -> None:
    table = study_contents(memory_study, memory_runs)[0].set_index("arm")
    assert table.loc["without", "test_memory_mean"] == pytest.approx((46 + 47 + 48 + 49 + 50 + 100) / 6)
    assert table.loc["with", "steps_to_target_mean"] == pytest.approx(3 / 4)  # at or below 40
    assert table.loc["with", "n_reached_target"] == 6
    assert table.loc["without", "n_reached_target"] == 5
    assert table.loc["without", "val_difference_mean"] == pytest.approx((5 * 15 - 0.4 + 100 - 35.2) / 6)
    assert not [column for column in table if "pp" in column.split("_")]
    text = markdown_table(memory_study, memory_runs)
    assert "validation memory, MiB" in text
    assert "steps to 40.0 MiB" in text
    assert "is chance (100 MiB)" in text


def test_claims_about_it_and_about_speed(memory_study: Study, memory_runs) -> None:
    pair = {"with": 1.0, "without": -1.0}
    compared = [
        Comparison(pair, "test_memory", "lower", 5.0),
        Comparison(pair, "steps_to_target", "lower", 0.01),
        Comparison(pair, "steps_per_second", "lower", 0.05),
    ]
    claim = Claim("m", "It needs less memory.", "Me", "residual", tuple(compared))
    (verdict,) = judge_study([claim], memory_study, memory_runs)
    memory, _, speed = verdict.comparisons
    assert memory.estimate == pytest.approx(-(5 * 15 - 0.4) / 5)  # without the seed that diverged
    assert (claimed(memory), memory.quantity.label) == ("lower by at least 5 MiB", "test memory")
    assert difference(memory).endswith(" MiB")
    assert speed.n == 5  # the diverged run has no speed
    assert speed.estimate == pytest.approx(np.mean([8 / (10 + seed / 100) - 1 for seed in range(5)]))
    assert claimed(speed) == "lower by at least 5 %"


def test_the_target_is_reached_from_above(memory_study: Study, memory_runs) -> None:
    found = arm_values(memory_study, outcomes(memory_study, memory_runs), ["steps_to_target"])
    assert found["with"].values["steps_to_target"].tolist() == [0.75] * 6
    assert found["without"].values["steps_to_target"][-1] == 1.0
    easy = replace(memory_study, target=80.0)  # between chance, 100, and the first epoch's 60
    assert arm_values(easy, outcomes(easy, memory_runs), ["steps_to_target"])["with"].values[
        "steps_to_target"
    ][0] == pytest.approx(0.125)


def test_figure_and_chart_have_its_unit(memory_study: Study, memory_runs) -> None:
    figure = draw_study(memory_study, memory_runs)
    texts = [text.get_text() for text in figure.findobj(Text)]
    assert "validation memory (MiB)" in texts
    assert "target 40.0 MiB" in texts
    assert not [text for text in texts if "%" in text and "95" not in text]
    left = figure.axes[0]
    assert left.get_ylim()[0] < 31 < 59 < left.get_ylim()[1]
    chart = difference_chart(memory_study, memory_runs)
    assert chart is not None
    assert chart.figure["layout"]["xaxis"]["title"]["text"] == "difference, MiB"


def trials(values: Sequence[float]) -> list[Trial]:
    return [Trial({"x": place}, value, (), 0) for place, value in enumerate(values)]


def test_the_expected_best_of_trials_falls_where_lower_is_better() -> None:
    assert expected_best(trials([3.0, 4.0, 1.0]), sign=-1).tolist() == pytest.approx([3.0, 2.0, 1.0])
    assert expected_best(trials([3.0, 4.0, 1.0])).tolist() == pytest.approx([3.0, 3.5, 4.0])


def test_loss_is_a_metric_of_records_without_declarations(residual_study: Study, make_run) -> None:
    study = replace(residual_study, metrics=("loss",), target=0.5)
    runs = []
    for arm, final in (("with", 0.4), ("without", 0.7)):
        run = make_run(arm, 0, [0.9, final], metrics={"val_loss": final, "test_loss": final + 0.1})
        columns = {"epoch": [1, 2], "step": [94, 188], "val_loss": [0.9, final]}
        history = History({name: np.array(column, float) for name, column in columns.items()})
        runs.append(replace(run, history=history))
    diverged = make_run("with", 1, [], status="diverged")
    table = study_contents(study, [*runs, diverged])[0].set_index("arm")
    assert table.loc["with", "test_loss_mean"] == pytest.approx((0.5 + math.log(10)) / 2)
    assert table.loc["without", "val_difference_mean"] == pytest.approx(0.3)
    assert table.loc["without", "steps_to_target_mean"] == 1  # never


def test_the_best_trial_is_the_lowest_where_lower_is_better(tuned_study: Study) -> None:
    assert tuned_study.tuning is not None
    tuning = replace(tuned_study.tuning, trials={"with": tuple(trials([3.0, 4.0, 1.0, 1.0]))})
    assert tuning.best("with") == 1
    assert replace(tuning, sign=-1).best("with") == 2

"""Per-seed values of quantities and contrasts, against numbers worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from ablations.evidence.contrasts import (
    ArmValues,
    arm_values,
    contrast_values,
    contrast_words,
    quantities,
)
from ablations.runs.histories import History
from ablations.statistics.paired import area_under_curve
from ablations.studies.results import Study, outcomes

ALL = ("val_top1", "test_top1", "area", "steps_to_target")


def test_quantities_of_a_study() -> None:
    names = ["val_top1", "test_top1", "val_top5", "test_top5", "area", "steps_to_target"]
    names += ["failed_to_learn", "steps_per_second", "parameters"]
    assert quantities(("top1", "top5")) == names


def test_a_contrast_is_written_in_labels(factorial_study: Study) -> None:
    difference = {"all_relu": 1.0, "all_none": -1.0}
    assert contrast_words(difference, factorial_study) == "all, ReLU − all, none"
    assert contrast_words(difference) == "all_relu − all_none"
    interaction = difference | {"one_relu": -1.0, "one_none": 1.0}
    assert contrast_words(interaction, factorial_study) == "ReLU − none: all − one"
    negative = {arm: -weight for arm, weight in interaction.items()}
    assert contrast_words(negative, factorial_study) == "none − ReLU: all − one"
    no_interaction = {"all_relu": 1.0, "all_none": 1.0, "one_relu": -1.0, "one_none": -1.0}
    assert ":" not in contrast_words(no_interaction, factorial_study)


def test_quantities_by_hand(residual_study: Study, make_run) -> None:
    # The target is 0.8, chance 0.1; validations after 1/4, 2/4, 3/4 and all of the steps.
    runs = [
        make_run("with", 3, [0.2, 0.7, 0.9, 0.95], 0.93),  # halfway between 2/4 and 3/4
        make_run("with", 1, [0.85, 0.9, 0.9, 0.9], 0.88),  # before the first validation
        make_run("with", 2, [0.2, 0.3, 0.4, 0.5], 0.48),  # never
    ]
    found = arm_values(residual_study, outcomes(residual_study, runs), ALL)
    assert list(found) == ["with", "without"]
    assert found["with"].seeds.tolist() == [1, 2, 3]
    values = found["with"].values
    np.testing.assert_allclose(values["val_top1"], [0.9, 0.5, 0.95])
    np.testing.assert_allclose(values["test_top1"], [0.88, 0.48, 0.93])
    np.testing.assert_allclose(values["steps_to_target"], [(0.7 / 0.75) / 4, 1, 2.5 / 4])
    np.testing.assert_allclose(values["area"], [(0.425 + 0.9 + 0.9 + 0.45) / 3, 1.05 / 3, 2.175 / 3])
    assert found["without"].seeds.tolist() == []
    assert found["without"].values["area"].shape == (0,)


def test_a_diverged_run_is_the_worst(residual_study: Study, make_run) -> None:
    runs = [
        make_run("with", 0, [0.3, 0.6, 0.7, 0.8]),
        make_run("with", 1, [0.9, 0.9], status="diverged"),  # had reached the target
        make_run("without", 0, [], status="diverged"),
    ]
    found = arm_values(residual_study, outcomes(residual_study, runs), ALL)
    for name in ("val_top1", "test_top1"):
        assert found["with"].values[name][1] == found["without"].values[name][0] == 0.1
    assert found["with"].values["steps_to_target"][1] == found["without"].values["steps_to_target"][0] == 1
    area = area_under_curve([94, 188, 282, 376], [0.9, 0.9, 0.1, 0.1])
    assert found["with"].values["area"][1] == pytest.approx(area)
    assert found["without"].values["area"][0] == pytest.approx(0.1)


def test_every_run_diverged_in_its_first_epoch(residual_study: Study, make_run) -> None:
    runs = [make_run(arm, 0, [], status="diverged") for arm in ("with", "without")]
    found = arm_values(residual_study, outcomes(residual_study, runs), ALL)
    assert {name: values.tolist() for name, values in found["with"].values.items()} == {
        "val_top1": [0.1],
        "test_top1": [0.1],
        "area": [0.1],
        "steps_to_target": [1.0],
    }


def test_chance_is_that_of_the_metric(residual_study: Study, make_run) -> None:
    study = replace(residual_study, metrics=("map100",), target=0.4)
    run = make_run("with", 0, [0.8, 0.9])
    assert run.record is not None
    assert run.history is not None
    run = replace(
        run,
        record={**run.record, "metrics": {"val_map100": 0.9, "test_map100": 0.8}},
        history=History({**run.history.columns, "val_map100": run.history["val_top1"]}),
    )
    found = arm_values(study, outcomes(study, [run]), ["steps_to_target"])
    assert found["with"].values["steps_to_target"].tolist() == [0.25]  # from (0, 0): half of the first half


def values_of(seeds: list[int], values: list[float]) -> ArmValues:
    return ArmValues(np.array(seeds), {"test_top1": np.array(values)})


def test_only_seeds_that_all_arms_of_the_contrast_have() -> None:
    arms = {
        "a": values_of([0, 1, 2, 5], [0.1, 0.2, 0.3, 0.6]),
        "b": values_of([1, 2, 3, 5], [0.5, 0.7, 0.9, 0.9]),
        "c": values_of([2], [0.5]),
    }
    pair = contrast_values(arms, {"b": 1, "a": -1}, "test_top1")
    assert pair.seeds.tolist() == [1, 2, 5]
    np.testing.assert_allclose(pair.values, [0.3, 0.4, 0.3])
    three = contrast_values(arms, {"a": 0.5, "b": 0.5, "c": -1}, "test_top1")
    assert three.seeds.tolist() == [2]
    np.testing.assert_allclose(three.values, [0.0], atol=1e-15)
    assert contrast_values(arms | {"d": values_of([], [])}, {"a": 1, "d": -1}, "test_top1").seeds.size == 0


def test_what_there_is_not_is_refused(residual_study: Study) -> None:
    by_arm = outcomes(residual_study, [])
    with pytest.raises(ValueError, match="metric=val_top5: study residual has val_top1, test_top1, area, "):
        arm_values(residual_study, by_arm, ["val_top5"])
    arms = arm_values(residual_study, by_arm, ["area"])
    with pytest.raises(ValueError, match="arm=other: must be one of with, without"):
        contrast_values(arms, {"with": 1, "other": -1}, "area")
    with pytest.raises(ValueError, match="must name an arm"):
        contrast_values(arms, {}, "area")

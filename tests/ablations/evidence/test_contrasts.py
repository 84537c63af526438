"""Per-seed values of quantities and contrasts, against numbers worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from ablations.evidence.claims import Claim, Comparison
from ablations.evidence.contrasts import (
    ArmValues,
    arm_values,
    claims_about,
    comparison_words,
    contrast_values,
    contrast_words,
    quantities,
    short_words,
)
from ablations.evidence.interaction import interactions
from ablations.evidence.verdicts import judge_study
from ablations.runs.histories import History
from ablations.statistics.paired import area_under_curve
from ablations.studies.results import Factor, Study, StudyRun, outcomes

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


def test_a_narrow_column_has_names_unless_words_are_shorter(
    factorial_study: Study,
) -> None:
    def short(*arms: str) -> str:
        weights = dict(zip(arms, (1.0, -1.0, -1.0, 1.0), strict=False))
        comparison = Comparison(weights, "test_top1", "higher", 0.01)
        return short_words(comparison, comparison_words(comparison, factorial_study))

    assert short("all_relu", "all_none") == "all_relu − all_none"
    assert short("all_relu", "all_none", "one_relu", "one_none") == "ReLU − none: all − one"


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
    with pytest.raises(ValueError, match=r"metric=val_top5: .*; available: val_top1, test_top1, area, "):
        arm_values(residual_study, by_arm, ["val_top5"])
    arms = arm_values(residual_study, by_arm, ["area"])
    with pytest.raises(ValueError, match="arm=other: must be one of with, without"):
        contrast_values(arms, {"with": 1, "other": -1}, "area")
    with pytest.raises(ValueError, match="must name an arm"):
        contrast_values(arms, {}, "area")


# Trends


def trend_claim(direction: str = "higher", margin: float = 0.005) -> Claim:
    comparison = Comparison({}, "test_top1", direction, margin, {"relu": 1, "none": -1})
    return Claim("trend", "It grows.", "Me", "some_spectrum", (comparison,))


def test_a_slope_is_a_weight_per_arm(factorial_study: Study) -> None:
    (claim,) = claims_about(factorial_study, [trend_claim(), replace(trend_claim(), study="another")])
    # x = 0, 2, 4: (x - 2) / 8. The arms in the middle weigh nothing and still have to learn.
    assert claim.comparisons[0].contrast == pytest.approx(
        {
            "one_relu": -0.25,
            "four_relu": 0,
            "all_relu": 0.25,
            "one_none": 0.25,
            "four_none": 0,
            "all_none": -0.25,
        }
    )
    assert comparison_words(claim.comparisons[0], factorial_study) == (
        "ReLU − none, per doubling of channels per segment"
    )
    assert claim.comparisons[0].label == "relu - none, per doubling"


def in_two_sizes(factorial_study: Study) -> Study:
    """The study with a small and a large network, at positions eight times as large."""
    design = factorial_study.design
    assert design is not None
    levels = {
        f"{size}_{arm}": {"size": size, **of} for size in ("s", "l") for arm, of in design.levels.items()
    }
    positions = {arm: design.positions[arm[2:]] * (1 if arm.startswith("s") else 8) for arm in levels}
    both = replace(
        design,
        factors=(Factor("size", "size", {"s": "small", "l": "large"}), *design.factors),
        levels=levels,
        positions=positions,
    )
    return replace(factorial_study, design=both)


def test_of_several_sets_of_arms_the_slope_is_their_mean(factorial_study: Study) -> None:
    (claim,) = claims_about(in_two_sizes(factorial_study), [trend_claim()])
    assert claim.comparisons[0].contrast["s_one_relu"] == pytest.approx(-0.125)
    assert claim.comparisons[0].contrast["l_all_none"] == pytest.approx(-0.125)


def test_a_trend_is_judged_by_the_slopes_of_the_seeds(
    factorial_study: Study, trending: list[StudyRun], make_run
) -> None:
    failed = make_run("four_none", 6, [0.1, 0.1], 0.1)
    runs = [run for run in trending if (run.arm, run.seed) != ("four_none", 6)] + [failed]
    (verdict,) = judge_study([trend_claim()], factorial_study, runs)
    (one,) = verdict.comparisons
    assert (verdict.verdict, one.n, one.left_out) == ("holds", 6, 1)
    _, test = interactions(factorial_study, outcomes(factorial_study, runs))
    assert 100 * one.differences == pytest.approx(test.fit.slopes)
    assert one.estimate == pytest.approx(0.01025)  # a quarter of 0.04 and of the mean of 0, 0.001 and 0.002
    assert judge_study([trend_claim("no_difference")], factorial_study, runs)[0].verdict == "contradicted"


def test_a_trend_without_a_slope_is_not_testable(factorial_study: Study, trending: list[StudyRun]) -> None:
    assert factorial_study.design is not None
    flat = replace(factorial_study.design, positions=dict.fromkeys(factorial_study.design.positions, 2.0))
    for design in (flat, None):
        study = replace(factorial_study, design=design)
        assert judge_study([trend_claim()], study, trending)[0].verdict == "not testable"


def test_a_difference_along_three_factors_is_written_as_such(factorial_study: Study) -> None:
    signs = {"l": 1, "s": -1, "all": 1, "one": -1, "relu": 1, "none": -1}
    contrast = {
        f"{size}_{depth}_{act}": float(signs[size] * signs[depth] * signs[act])
        for size in ("l", "s")
        for depth in ("all", "one")
        for act in ("relu", "none")
    }
    study = in_two_sizes(factorial_study)
    assert contrast_words(contrast, study) == "ReLU − none: large − small: all − one"
    assert ":" not in contrast_words(contrast | {"l_all_relu": -1.0}, study)

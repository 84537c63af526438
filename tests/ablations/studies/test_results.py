"""What a run counts as."""

from dataclasses import replace

import numpy as np
import pytest

from ablations.studies.results import Study, baseline_first, outcomes, pair_by_seed


def test_baseline_first_and_only_results(residual_study: Study, make_run) -> None:
    assert [arm.name for arm in baseline_first(residual_study)] == ["with", "without"]
    runs = [
        make_run("without", 1, [0.3, 0.5]),
        make_run("without", 0, [0.3, 0.6], 0.55),
        make_run("with", 0, status="missing"),
        make_run("with", 1, status="failed"),
        make_run("with", 2, status="running"),
    ]
    by_arm = outcomes(residual_study, runs)
    assert list(by_arm) == ["with", "without"]
    assert by_arm["with"] == []
    assert [outcome.run.seed for outcome in by_arm["without"]] == [0, 1]
    assert by_arm["without"][0].final == {"val_top1": 0.6, "test_top1": 0.55}
    np.testing.assert_array_equal(by_arm["without"][0].steps, [94, 188])


def test_a_diverged_run_is_chance_from_where_it_ended(residual_study: Study, make_run) -> None:
    runs = [
        make_run("with", 0, [0.3, 0.6, 0.7, 0.8]),
        make_run("with", 1, [0.4, 0.5], status="diverged"),
        make_run("without", 0, [0.4, np.nan], status="diverged"),  # its last row not validated
        make_run("without", 1, [], status="diverged"),
    ]
    by_arm = outcomes(residual_study, runs)
    curves = [outcome.curve.tolist() for of_arm in by_arm.values() for outcome in of_arm]
    assert curves == [
        [0.3, 0.6, 0.7, 0.8],
        [0.4, 0.5, 0.1, 0.1],
        [0.4, 0.1, 0.1, 0.1],  # as long as the completed runs of the other arm
        [0.1, 0.1, 0.1, 0.1],
    ]
    assert [outcome.measured for outcome in by_arm["without"]] == [1, 0]
    assert all(o.final == {"val_top1": 0.1, "test_top1": 0.1} for o in by_arm["without"])


def test_a_diverged_run_is_as_long_as_the_runs_of_its_own_arm(residual_study: Study, make_run) -> None:
    """Where the arms were trained for different numbers of epochs, whichever is the longer one."""
    runs = [make_run("with", 0, [0.3, 0.6, 0.7, 0.8]), make_run("without", 0, [0.4, 0.5])]
    runs += [make_run(arm, 1, [0.2], status="diverged") for arm in ("with", "without")]
    by_arm = outcomes(residual_study, runs)
    assert by_arm["with"][1].curve.tolist() == [0.2, 0.1, 0.1, 0.1]
    assert by_arm["without"][1].curve.tolist() == [0.2, 0.1]


def test_pairs_are_of_the_seeds_that_both_have(residual_study: Study, make_run) -> None:
    runs = [make_run("with", seed, [0.5]) for seed in (3, 0, 1)]
    runs += [make_run("without", seed, [0.5]) for seed in (2, 3)]
    runs += [make_run("without", 1, status="diverged"), make_run("without", 0, status="failed")]
    by_arm = outcomes(residual_study, runs)
    pairs = pair_by_seed(by_arm["with"], by_arm["without"])
    names = [(treated.run.run_id, control.run.run_id) for treated, control in pairs]
    assert names == [("with-1", "without-1"), ("with-3", "without-3")]


def test_only_diverged_runs(residual_study: Study, make_run) -> None:
    runs = [make_run("with", 0, [0.4], status="diverged"), make_run("with", 1, status="diverged")]
    assert [outcome.curve.tolist() for outcome in outcomes(residual_study, runs)["with"]] == [
        [0.4],
        [0.1],
    ]


def test_what_does_not_fit_is_refused(residual_study: Study, make_run) -> None:
    run = make_run("with", 0, [0.3, 0.6])
    with pytest.raises(ValueError, match="arm=other is unknown; arms: with, without"):
        outcomes(residual_study, [make_run("other", 0, [0.3])])
    with pytest.raises(ValueError, match="two runs of one seed"):
        outcomes(residual_study, [run, run])
    with pytest.raises(ValueError, match="curve of val_top1 is missing or not finite"):
        outcomes(residual_study, [replace(run, history=None)])
    with pytest.raises(ValueError, match="curve of val_top1 is missing or not finite"):
        outcomes(residual_study, [make_run("with", 0, [np.nan, 0.6])])
    with pytest.raises(ValueError, match="with-1: its validation steps differ"):
        outcomes(residual_study, [run, make_run("with", 1, [0.3])])
    with pytest.raises(ValueError, match="baseline=b is not an arm; arms: without, with"):
        outcomes(replace(residual_study, baseline="b"), [run])

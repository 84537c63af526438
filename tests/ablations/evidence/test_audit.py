"""What differs between two arms, on records that were made up by hand."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ablations.evidence.audit import Audit, audit_study
from ablations.notes import NOTHING, RULE, audit_columns, audit_lines
from ablations.studies.results import Arm, Study, StudyRun, outcomes
from ablations.tables.study import markdown_table, study_contents, write_and_show
from experiments.planning import compose_runs

TRUE = {"_target_": "lightning_modules.networks.blocks.LinearShortcut", "_partial_": True}
FALSE = {"_target_": "lightning_modules.networks.blocks.no_shortcut", "_partial_": True}
PER_CHANNEL = {"_target_": "lightning_modules.networks.separable.segments_by_size", "channels_per_segment": 1}
ONE = {"_target_": "lightning_modules.networks.separable.segments_by_number", "number": 1}

Changes = dict[str, dict[str, Any]]


def configuration(**changes: Any) -> dict[str, Any]:
    """A resolved configuration that hands on what the real one hands on; `a__b=1` sets `a.b` before that."""
    config: dict[str, Any] = {
        "outcome_version": 2,
        "results_dir": "results",
        "weights": None,
        "residual": TRUE,
        "segments": PER_CHANNEL,
        "recipe": {"batch_size": 64, "dropout": 0.0, "optimizer": {"lr": 0.1, "weight_decay": 1e-5}},
        "dataset": {"num_classes": 10, "checksums": {"images": "sha256:0"}},
        "model": {"_target_": "lightning_modules.networks.xception.Xception", "width": 0.125},
        "trainer": {"threads": 1},
    }
    config = copy.deepcopy(config)
    for path, value in changes.items():
        *above, last = path.split("__")
        node = config
        for key in above:
            node = node[key]
        node[last] = value
    model, recipe = config["model"], config["recipe"]
    recipe["scheduler"] = {"max_lr": recipe["optimizer"]["lr"]}
    config["dataset"]["batch_size"] = recipe["batch_size"]
    model["residual"], model["separable"] = config["residual"], {"segments": config["segments"]}
    model["dropout"] = recipe["dropout"]
    return copy.deepcopy(config)


@pytest.fixture
def audit(residual_study: Study, make_run) -> Callable[..., Audit]:
    """Audits one arm against another; `changes` is what the arm's records have in place of the other's.

    `audit(choose, choose_of_other, config=configuration(), other=configuration(), **changes)`.
    """

    def make(
        choose: dict[str, Any], of_other: dict[str, Any], other: dict[str, Any] | None = None, **changes: Any
    ) -> Audit:
        study = replace(
            residual_study,
            arms=(Arm("with", "the other", of_other, ""), Arm("without", "the arm", choose, "")),
        )
        runs = [make_run("with", seed, [0.8], config=other or configuration()) for seed in (0, 1)]
        runs += [
            make_run("without", seed, [0.7], **({"config": configuration()} | changes)) for seed in (0, 1)
        ]
        (found,) = audit_study(study, outcomes(study, runs))
        return found

    return make


RESIDUAL = ({"residual": "false"}, {"residual": "true"})


def test_what_is_declared_and_what_repeats_it_is_all_that_differs(audit) -> None:
    found = audit(*RESIDUAL, config=configuration(residual=FALSE))
    assert found.declared == ("residual false instead of true",)
    assert found.undeclared == ()
    assert found.changes == {"parameters": 0, "multiply_adds": 0, "steps_per_second": 0}
    assert (found.depth, found.n_pairs) == (0, 2)


@pytest.mark.parametrize(
    ("changes", "undeclared"),
    [
        # What one setting hands on (max_lr, batch_size of the dataset, dropout of the model) is shown once.
        ({"recipe__optimizer__lr": 0.05}, "recipe.optimizer.lr 0.05 instead of 0.1"),
        ({"recipe__batch_size": 32}, "recipe.batch_size 32 instead of 64"),
        ({"recipe__dropout": 0.5}, "recipe.dropout 0.5 instead of 0.0"),
        ({"recipe__optimizer__weight_decay": 4e-5}, "recipe.optimizer.weight_decay 4e-05 instead of 1e-05"),
        ({"recipe__averaging": None}, "recipe.averaging null instead of not set"),
        ({"outcome_version": 3}, "outcome_version 3 instead of 2"),
        ({"model__width": 0.25}, None),  # of equal parameters: it makes them so
        ({"model__stem_stride": 2}, "model.stem_stride 2 instead of not set"),
        ({"segments": ONE}, "segments._target_ segments_by_number instead of segments_by_size"),
        # What cannot change an outcome, or what something else stands for.
        ({"results_dir": "elsewhere"}, None),
        ({"trainer__threads": 2}, None),  # the device has them
        ({"trainer__compile": False}, None),
        ({"trainer__compile": True}, "trainer.compile true instead of false"),
        ({"weights": "a.h5"}, None),
        ({"dataset__checksums": {"images": "sha256:1"}}, None),
    ],
)
def test_a_setting_that_is_not_declared(audit, changes: dict[str, Any], undeclared: str | None) -> None:
    found = audit(*RESIDUAL, config=configuration(residual=FALSE, **changes))
    assert found.undeclared[:1] == (() if undeclared is None else (undeclared,))
    assert len(found.undeclared) <= (3 if "segments" in changes else 1)  # a part has its own arguments


@pytest.mark.parametrize(
    ("changes", "undeclared"),
    [
        ({"parameters": 325_000}, ["4.4 % fewer parameters"]),
        ({"parameters": 343_401}, ["1.0 % more parameters"]),
        ({"parameters": 343_400}, []),
        ({"multiply_adds": 10_500_000}, ["50.0 % more multiply-adds"]),
        ({"depth": 73}, ["depth 73 instead of 71"]),
        ({"versions": {"python": "3.11.2", "torch": "2.8.0"}}, ["torch 2.8.0 instead of 2.9.0"]),
        ({"versions": {"python": "3.11.2"}}, ["torch not set instead of 2.9.0"]),
        (
            {"device": {"name": "Some GPU", "type": "cuda", "threads": 1}},
            ["device name Some GPU instead of Some CPU", "device type cuda instead of cpu"],
        ),
        (
            {"device": {"name": "Some CPU", "type": "cpu", "threads": 1, "indices": [1], "peak_memory": 9}},
            [],  # another of the same kind
        ),
        ({"git": {"commit": "f" * 40, "changes": {}}}, []),  # outcome_version would tell
        (
            {"git": {"commit": "0123456789abcdef", "changes": {"a/b.py": "diff"}}},
            ["commit 0123456789 with uncommitted changes of a/b.py instead of 0123456789"],
        ),
        (
            {"git": {"commit": "0123456789abcdef", "changes": None}},  # of an older record
            ["commit 0123456789 with uncommitted changes instead of 0123456789"],
        ),
        ({"edited": "2026-01-02T03:04:05+00:00"}, ["a record that was changed by hand"]),
        ({"git": None}, ["commit unknown instead of 0123456789"]),
        ({"data_fingerprint": "sha256:1"}, ["other data, by their checksums"]),
        ({"steps_per_second": 1.0}, []),  # shown, and no confound by itself
    ],
)
def test_what_differs_besides_the_configuration(
    audit, changes: dict[str, Any], undeclared: list[str]
) -> None:
    assert list(audit(*RESIDUAL, config=configuration(residual=FALSE), **changes).undeclared) == undeclared


def test_steps_per_second_are_those_of_the_median_pair(audit) -> None:
    found = audit(*RESIDUAL, steps_per_second=3.0)  # the other has 6 and 7
    assert found.changes["steps_per_second"] == pytest.approx((3 / 6 + 3 / 7) / 2 - 1)


def test_one_slow_pair_does_not_move_the_steps_per_second(residual_study: Study, make_run) -> None:
    runs = [make_run("with", seed, [0.8], config=configuration(), steps_per_second=10.0) for seed in range(3)]
    speeds = (9.0, 5.0, 30.0)
    runs += [
        make_run("without", seed, [0.7], config=configuration(), steps_per_second=speed)
        for seed, speed in enumerate(speeds)
    ]
    (found,) = audit_study(residual_study, outcomes(residual_study, runs))
    assert found.changes["steps_per_second"] == pytest.approx(-0.1)  # of the median pair


def test_another_network_comes_with_its_scaling_weight_decay_and_depth_but_not_with_its_size(audit) -> None:
    chosen = ({"model": "inception_v3"}, {"model": "xception"})
    network = {"model": {"_target_": "lightning_modules.networks.inception_v3.InceptionV3", "padding": 1}}
    other = configuration(**network, recipe__optimizer__weight_decay=4e-5)
    found = audit(*chosen, config=other, depth=48, multiply_adds=8_000_000)
    assert found.declared == (
        "model inception_v3 instead of xception",
        "recipe.optimizer.weight_decay 4e-05 instead of 1e-05",
    )
    assert found.undeclared == ("14.3 % more multiply-adds",)
    # A setting that is handed to the network does not hide behind it.
    other = configuration(**network, recipe__dropout=0.5, residual=FALSE)
    assert audit(*chosen, config=other).undeclared == (
        "residual._target_ no_shortcut instead of LinearShortcut",
        "recipe.dropout 0.5 instead of 0.0",
    )


def test_a_recipe_is_declared_with_what_it_hands_on(audit) -> None:
    other = configuration(recipe__dropout=0.5, recipe__batch_size=32)
    chosen = ({"recipe": "long"}, {"recipe": "short"})
    assert audit(*chosen, config=other).undeclared == ()
    assert audit(*RESIDUAL, config=other).undeclared == (
        "recipe.batch_size 32 instead of 64",
        "recipe.dropout 0.5 instead of 0.0",
    )


def test_an_option_below_the_recipe_is_declared_with_what_it_hands_on(audit) -> None:
    rate = configuration(recipe__optimizer__lr=0.001)
    found = audit({"optimizer": "adamw"}, {"optimizer": "sgd"}, config=rate)
    assert found.declared == ("optimizer adamw instead of sgd",)
    assert found.undeclared == ()
    mirrored = configuration(dataset__horizontal_flip=True, recipe__batch_size=32)
    found = audit({"augmentation": "flip"}, {"augmentation": "none"}, config=mirrored)
    assert found.undeclared == ("recipe.batch_size 32 instead of 64",)


def test_a_key_that_older_records_have_not_is_no_difference_at_its_neutral_value(audit) -> None:
    newer = configuration(recipe__gradient_clipping=None, initialize="seed", residual=FALSE)
    assert audit(*RESIDUAL, config=newer).undeclared == ()
    clipped = configuration(recipe__gradient_clipping=1.0, residual=FALSE)
    found = audit(*RESIDUAL, config=clipped)
    assert found.undeclared == ("recipe.gradient_clipping 1.0 instead of null",)


def test_a_single_setting_is_declared_with_what_repeats_it(audit) -> None:
    chosen = ({"+recipe.optimizer.lr": 0.05}, {"+recipe.optimizer.lr": 0.1})
    found = audit(*chosen, config=configuration(recipe__optimizer__lr=0.05))
    assert (found.declared, found.undeclared) == (("recipe.optimizer.lr 0.05 instead of 0.1",), ())


def test_a_number_does_not_hide_behind_the_same_number_of_another_setting(audit) -> None:
    """4 instead of 16: epochs next to declared segments, and next to a batch that is not declared either."""
    chosen = {"segments": "channels_4"}, {"segments": "channels_16"}
    sixteen = configuration(segments=PER_CHANNEL | {"channels_per_segment": 16}, recipe__epochs=16)
    four = copy.deepcopy(sixteen)
    for segments in (four["segments"], four["model"]["separable"]["segments"]):
        segments["channels_per_segment"] = 4
    assert audit(*chosen, sixteen, config=four).undeclared == ()
    four["recipe"]["epochs"] = 4
    assert audit(*chosen, sixteen, config=four).undeclared == ("recipe.epochs 4 instead of 16",)
    sixteen["recipe"]["batch_size"], four["recipe"]["batch_size"] = 16, 4
    sixteen["dataset"]["batch_size"], four["dataset"]["batch_size"] = 16, 4  # handed on
    assert audit(*chosen, sixteen, config=four).undeclared == (
        "recipe.batch_size 4 instead of 16",
        "recipe.epochs 4 instead of 16",
    )


def test_a_width_that_matches_the_parameters_is_declared_and_multiply_adds_are_not(audit) -> None:
    """As along a spectrum: both arms choose a number of segments and the same number of parameters."""
    chosen = (
        {"segments": "one", "match_parameters": 340_000},
        {"segments": "per_channel", "match_parameters": 340_000},
    )
    other = configuration(segments=ONE, model__width=0.04)
    found = audit(*chosen, config=other, parameters=340_900, multiply_adds=3_500_000)
    assert found.declared == ("segments one instead of per_channel", "model.width 0.04 instead of 0.125")
    assert found.undeclared == ("50.0 % fewer multiply-adds",)
    # Unmatched, the width is one more difference, and the size too.
    found = audit({"segments": "one"}, {"segments": "per_channel"}, config=other, parameters=400_000)
    assert found.undeclared == ("17.6 % more parameters", "model.width 0.04 instead of 0.125")


def test_an_arm_that_is_matched_to_its_baseline(audit) -> None:
    chosen = ({"residual": "false", "match_parameters": "baseline"}, {"residual": "true"})
    other = configuration(residual=FALSE, model__width=0.128)
    found = audit(*chosen, config=other, parameters=339_000, multiply_adds=7_050_000)
    assert found.undeclared == ()
    assert found.declared == (
        "match_parameters baseline instead of not set",
        "residual false instead of true",
        "model.width 0.128 instead of 0.125",
    )


@pytest.mark.parametrize(
    ("chosen", "undeclared"),
    [
        (({"model.width": 0.25}, {"model.width": 0.125}), ()),
        (({"match_parameters": 10}, {"match_parameters": 20}), ("300.0 % more multiply-adds",)),
        (({"match_multiply_adds": 10}, {"match_multiply_adds": 20}), ("300.0 % more parameters",)),
    ],
)
def test_a_size_that_is_the_factor(audit, chosen, undeclared: tuple[str, ...]) -> None:
    larger = {"parameters": 1_360_000, "multiply_adds": 28_000_000}
    assert audit(*chosen, config=configuration(model__width=0.25), **larger).undeclared == undeclared


def test_what_is_not_true_of_all_seeds_names_them(residual_study: Study, make_run) -> None:
    runs = [make_run(arm, seed, [0.8]) for arm in ("with", "without") for seed in (0, 1)]
    runs += [make_run("without", 2, [0.8], versions={"python": "3.11.2", "torch": "2.8.0"})]
    runs += [make_run("with", 2, [0.8]), make_run("with", 3, [0.8]), make_run("without", 4, [0.8])]
    runs += [make_run("without", 5, [0.8]), make_run("without", 3, status="failed")]
    (found,) = audit_study(residual_study, outcomes(residual_study, runs))
    assert found.undeclared == (
        "torch 2.8.0 instead of 2.9.0 (seed 2)",
        "no result of seed 3",
        "seeds 4, 5 alone",
    )


def test_each_arm_is_audited_against_its_own_baseline(jft_study: Study, jft_runs: list[StudyRun]) -> None:
    runs = [
        replace(run, record={**run.record, "parameters": 680_000}) if run.arm.endswith("_fc") else run
        for run in jft_runs
        if run.record is not None
    ]
    audits = audit_study(jft_study, outcomes(jft_study, runs))
    assert [(found.arm.name, found.other.name) for found in audits] == [
        ("xception", "inception"), ("inception_fc", "inception"), ("xception_fc", "inception_fc"),
    ]  # fmt: skip
    assert [found.undeclared for found in audits] == [(), ("100.0 % more parameters",), ()]
    assert audit_lines(jft_study, audits) == [
        "Differences beyond the declared factor: “Inception V3, FC” has 100.0 % more parameters."
    ]
    deeper = replace(audits[2], undeclared=("depth 3 instead of 2",))
    assert "“Xception, FC” compared with “Inception V3, FC” has depth" in audit_lines(jft_study, [deeper])[0]


def test_a_figure_names_a_few_and_arms_of_one_difference_together(activation_study: Study, make_runs) -> None:
    by_arm = outcomes(activation_study, make_runs(activation_study))
    relu, elu = audit_study(activation_study, by_arm)
    relu, elu = (replace(found, undeclared=("a 1 instead of 2",)) for found in (relu, elu))
    assert audit_lines(activation_study, [relu, elu]) == [
        "Differences beyond the declared factor: “intermediate ReLU”, “intermediate ELU” have "
        "a 1 instead of 2."
    ]
    many = replace(elu, undeclared=tuple("bcdef"))
    assert audit_lines(activation_study, [relu, many]) == [
        "Differences beyond the declared factor: “intermediate ReLU” has a 1 instead of 2; "
        "“intermediate ELU” has b, c, d, 2 more in the table."
    ]


# In the table


@pytest.fixture
def confounded(residual_study: Study, make_run) -> list[StudyRun]:
    """Two seeds; without residual connections 5 % of the parameters are gone."""
    runs = [make_run("with", seed, [0.8]) for seed in (0, 1)]
    return runs + [make_run("without", seed, [0.7], parameters=323_000) for seed in (0, 1)]


def test_the_tables_show_what_is_not_declared(
    residual_study: Study, confounded: list[StudyRun], tmp_path: Path
) -> None:
    page = markdown_table(residual_study, confounded)
    assert "beyond the declared factor" in page
    assert "| 5.0 % fewer parameters" in page
    assert RULE in page
    assert NOTHING not in page
    source = write_and_show(residual_study, confounded, tmp_path)[0][2].read_text()
    assert r"5.0 \% fewer parameters" in source
    assert source.count(r"\begin{tabular}") == 3
    base, arm = (row for _, row in study_contents(residual_study, confounded)[0].iterrows())
    assert arm["parameters_change_percent"] == pytest.approx(-5)
    assert (
        arm[["multiply_adds_change_percent", "steps_per_second_change_percent", "depth_change"]].eq(0).all()
    )
    assert (arm["declared"], arm["undeclared"]) == (
        "residual false instead of true",
        "5.0 % fewer parameters",
    )
    assert base[list(audit_columns(None))].isna().all()


def test_where_nothing_is_undeclared_one_line_says_so(
    residual_study: Study, make_runs, tmp_path: Path
) -> None:
    runs = make_runs(residual_study)
    for path in write_and_show(residual_study, runs, tmp_path)[0][1:3]:
        page = path.read_text()
        assert NOTHING in page
        assert RULE not in page
        assert "beyond the declared factor" not in page
    audits = audit_study(residual_study, outcomes(residual_study, runs))
    assert not any(audit.undeclared for audit in audits)
    assert audit_lines(residual_study, audits) == [NOTHING]
    assert study_contents(residual_study, runs)[0]["undeclared"].isna().all()


def test_without_a_pair_there_is_nothing_to_say(residual_study: Study, make_run) -> None:
    runs = [make_run("with", 0, [0.8]), make_run("without", 0, status="missing")]
    (found,) = audits = audit_study(residual_study, outcomes(residual_study, runs))
    assert (found.n_pairs, found.changes, found.depth) == (0, {}, None)
    assert (found.declared, found.undeclared) == ((), ())
    assert audit_lines(residual_study, audits) == []
    assert NOTHING not in markdown_table(residual_study, runs)


# The studies there are


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize(
    ("overrides", "of_other", "choose", "choose_of_other"),
    [
        (["residual=false"], ["residual=true"], *RESIDUAL),
        (["operation_order=pointwise_first"], [], {"operation_order": "pointwise_first"}, {}),
        (["spatial_kernel=spatially_separable"], [], {"spatial_kernel": "spatially_separable"}, {}),
        (["intermediate_activation=elu"], [], {"intermediate_activation": "elu"}, {}),
        (["segments=three"], [], {"segments": "three"}, {}),
        (["model=inception_v3"], [], {"model": "inception_v3"}, {"model": "xception"}),
        (["fully_connected=two"], [], {"fully_connected": "two"}, {"fully_connected": "none"}),
        (["recipe=embedded_polyak"], [], {"recipe": "embedded_polyak"}, {}),
        (["segments=one", "match_parameters=356353"], [], {"segments": "one"}, {}),
    ],
)
def test_of_real_configurations_nothing_is_undeclared(
    audit, residual_study: Study, make_run, overrides, of_other, choose, choose_of_other
) -> None:
    arms = (Arm("with", "", choose_of_other, ""), Arm("without", "", choose, ""))
    study = replace(residual_study, arms=arms)
    runs = []
    for arm, chosen in (("with", of_other), ("without", overrides)):
        (run,) = compose_runs(chosen)
        runs.append(make_run(arm, 0, [0.8], config=copy.deepcopy(dict(run.resolved))))
    (found,) = audit_study(study, outcomes(study, runs))
    assert found.undeclared == ()

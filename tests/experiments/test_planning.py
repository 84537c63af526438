"""From a study to its planned runs: all arms, all seeds, and no difference but the declared one."""

import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from ablations.errors import UserError
from ablations.studies.results import Study
from ablations.studies.schema import StudyFile
from experiments import planning
from experiments.configuration import RunConfiguration
from experiments.planned_run import PlannedRun
from experiments.planning import compose_runs, plan_study
from experiments.project import FRAMEWORK_CONF, current
from experiments.sizes.network_cost import count_network, count_parameters
from tests import ours

pytestmark = pytest.mark.slow  # plans whole studies or builds many networks

XCEPTION = 356_353
"""Parameters of Xception as the default configuration has it."""

VARIED = ["seed=1", "recipe.epochs=2"]

UNLIKE = ("residual", "spectrum", "jft_comparison", "residual_by_data")
"""Studies that differ in kind: one factor, two with solved widths, two networks, one at several scales."""


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from leaves(value, f"{path}.{key}".lstrip("."))
    else:
        yield path, node


def differing(a: RunConfiguration, b: RunConfiguration) -> set[str]:
    one, other = dict(leaves(dict(a.resolved))), dict(leaves(dict(b.resolved)))
    return {
        path for path in one.keys() | other.keys() if one.get(path, "absent") != other.get(path, "absent")
    }


@cache
def planned(name: str) -> tuple[Study, list[PlannedRun]]:
    """Once for all tests: it takes a while."""
    return plan_study(name)


@cache
def recorded() -> set[str]:
    """The run_ids of the committed records."""
    with tarfile.open(FRAMEWORK_CONF.parent / "results" / "reference" / "records.tar.xz") as archive:
        return {Path(file.name).parent.name for file in archive}


def first_seed(name: str) -> tuple[Study, dict[str, RunConfiguration]]:
    """A study and, per arm, its run with seed 0."""
    study, runs = planned(name)
    return study, {run.arm: run.configuration for run in runs if run.seed == 0}


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize("name", ours.STUDIES)
def test_a_study_plans_every_arm_with_every_seed(name: str) -> None:
    study, runs = planned(name)
    of_arms = [(run.arm, run.seed) for run in runs]
    assert of_arms == [(arm.name, seed) for arm in study.arms for seed in study.seeds]
    assert len({run.run_id for run in runs}) == len(runs)
    assert {run.group for run in runs} == {name}
    assert study.baseline in [arm.name for arm in study.arms]
    assert all(arm.label for arm in study.arms)
    assert str(runs[0].epochs) in study.scale
    assert "Fashion " in study.scale
    assert {run.run_id for run in runs} <= recorded()


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize("name", UNLIKE)
def test_the_overrides_of_a_planned_run_compose_to_it(name: str) -> None:
    _, runs = plan_study(name, VARIED) if name == "residual" else planned(name)
    for run in runs[5::12]:
        (composed,) = compose_runs(run.overrides)
        assert composed.resolved == run.configuration.resolved
        assert composed.choices == run.configuration.choices


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize("name", UNLIKE)
def test_arms_differ_from_the_baseline_in_what_they_declare_and_in_nothing_else(name: str) -> None:
    study, runs = planned(name)
    by_arm = {(run.arm, run.seed): run.configuration for run in runs}
    choices = {arm.name: arm.choose for arm in study.arms}
    for arm in study.arms:
        other = study.compared_with(arm)
        if other is None:
            continue
        keys = {key for key in arm.choose if arm.choose[key] != choices[other].get(key)}
        sizes = {"match_parameters", "match_multiply_adds", "model.width"}
        sizes |= {"recipe.epochs", "dataset.train_images"}
        assert choices[other].keys() - sizes <= arm.choose.keys()
        declared = {key for key in keys if current().is_group(key)}
        assert keys - declared <= sizes
        assert declared <= choices[other].keys()
        for seed in study.seeds:
            baseline, run = by_arm[other, seed], by_arm[arm.name, seed]
            chosen = {group for group in run.choices if run.choices[group] != baseline.choices[group]}
            assert chosen == declared
            paths = differing(baseline, run)
            assert paths or keys & sizes
            # The network, or its separable convolution, interpolates from them.
            nodes = ("", "model.", "model.separable.")
            allowed = {f"{node}{group}" for node in nodes for group in declared}
            # Another network comes with its weight decay; else a width is solved.
            of_network = {"weight_decay", "recipe.optimizer.weight_decay"}
            allowed |= of_network if "model" in declared else {"model.width"}
            allowed |= keys - declared
            assert {
                path for path in paths if not any(f"{path}.".startswith(f"{a}.") for a in allowed)
            } == set()
            for group in declared - {"model"}:  # and what the network gets is what was chosen
                model = run.resolved["model"]
                assert {**model.get("separable", {}), **model}[group] == run.resolved[group]


@pytest.mark.usefixtures("hydra")
def test_seeds_of_an_arm_differ_in_the_seed_alone() -> None:
    _, runs = planned("residual")
    assert differing(runs[0].configuration, runs[1].configuration) == {"seed", "dataset.seed"}


@pytest.mark.usefixtures("hydra")
def test_two_studies_share_the_runs_of_their_baseline() -> None:
    ids = {}
    for name in ("residual", "intermediate_activation"):
        study, runs = planned(name)
        ids[name] = {run.run_id for run in runs if run.arm == study.baseline}
        ids[f"{name} others"] = {run.run_id for run in runs if run.arm != study.baseline}
    assert len(ids["residual"]) == 6
    assert ids["residual"] <= ids["intermediate_activation"]  # which has more seeds
    assert not ids["residual others"] & ids["intermediate_activation others"]


@pytest.mark.usefixtures("hydra")
def test_a_study_is_the_default_run_with_its_choices(configure) -> None:
    _, runs = first_seed("residual")
    assert {arm: run.run_id for arm, run in runs.items()} == {
        "residual": configure("residual=true").run_id,
        "non_residual": configure("residual=false").run_id,
        "projections": configure("residual=projections").run_id,
        "non_residual_matched": configure("residual=false", f"match_parameters={XCEPTION}").run_id,
    }


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize(
    "overrides", [[], ["model.width=0.05"], ["dataset=imagenet", "recipe=imagenet", "++model.width=2"]]
)
def test_an_arm_is_matched_to_the_arm_that_it_is_compared_with_at_any_scale(overrides: list[str]) -> None:
    _, runs = plan_study("residual", ["seed=0", *overrides])
    counts = {run.arm: count_parameters(run.configuration.resolved["model"]) for run in runs}
    assert counts["projections"] == counts["residual"]
    assert counts["non_residual"] < 0.98 * counts["residual"]
    assert counts["non_residual_matched"] == pytest.approx(counts["residual"], rel=0.01)


@pytest.mark.usefixtures("hydra")
def test_a_network_that_cannot_be_counted_is_told_in_a_line() -> None:
    with pytest.raises(UserError, match=r"^model\.width=0: must be a number above 0\b"):
        plan_study("residual", ["model.width=0"])


# Overrides beside a study


@pytest.mark.usefixtures("hydra")
def test_overrides_reach_every_run(results_dir) -> None:
    study, runs = plan_study(
        "residual", [f"results_dir={results_dir}", "seed=5,4", "recipe.epochs=2", "dataset=fashion_mnist"]
    )
    assert study.seeds == (5, 4)
    assert study.output == "figure09_residual__dataset=fashion_mnist__recipe.epochs=2__seed=5,4"
    assert [run.seed for run in runs] == [5, 4] * 4
    for run in runs:
        assert run.epochs == 2
        assert run.configuration.choices["dataset"] == "fashion_mnist"  # the user's goes before the base's
        assert run.directory.path == results_dir / "runs" / run.run_id
    assert "Fashion MNIST (28×28 pixels, 10 classes), 2 epochs" in study.scale
    assert runs[0].configuration.resolved["residual"] != runs[2].configuration.resolved["residual"]


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize("override", ["dataset='fashion_mnist'", "model=xception", "seed=range(0,3)"])
def test_a_varied_study_has_every_arm_with_every_seed(override: str) -> None:
    study, runs = plan_study("residual", [override])
    assert len(runs) == 4 * len(study.seeds)


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("residual=true", "residual: the arms of study=residual differ in it"),
        ("residual='true'", "residual: the arms of study=residual differ in it"),
        ("~residual", "residual: the arms of study=residual differ in it"),
        ("residual._target_=torch.nn.Identity", "residual._target_: the arms of study=residual differ in it"),
        ("recipe.epochs=1,2", "recipe.epochs=1,2: with a study only the seed"),
        ("seed=0,a", "seed=0,a: seeds must be whole numbers"),
    ],
)
def test_what_cannot_be_set_beside_a_study(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        plan_study("residual", [override])
    assert "\n" not in str(raised.value)


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize("override", ["recipe.epoch=1", "model=resnet", "{"])
def test_what_does_not_exist_beside_a_study(override: str) -> None:
    with pytest.raises(HydraException):
        plan_study("residual", [override])


@pytest.mark.usefixtures("hydra")
def test_a_study_that_does_not_exist() -> None:
    with pytest.raises(UserError, match=r"^study=residul: no such study; .* did you mean residual"):
        plan_study("residul")


# The spectrum


@pytest.mark.usefixtures("hydra")
def test_the_arms_of_the_spectrum_have_the_parameters_of_the_default(configure) -> None:
    wanted = count_parameters(configure().resolved["model"])
    node = OmegaConf.load(FRAMEWORK_CONF / "study" / "spectrum.yaml")
    assert node.base.match_parameters == wanted == 356_353
    _, runs = first_seed("spectrum")
    counts = {arm: count_parameters(run.resolved["model"]) for arm, run in runs.items()}
    assert len(counts) == 12
    assert all(abs(count - wanted) <= 0.01 * wanted for count in counts.values()), counts
    middle = {arm: round(728 * run.resolved["model"]["width"]) for arm, run in runs.items()}
    by_segments = {arm.removesuffix("_none"): n for arm, n in middle.items() if arm.endswith("_none")}
    assert by_segments == {"channels_1": 91, "channels_4": 80, "channels_16": 52, "channels_all": 29}


@pytest.mark.usefixtures("hydra")
def test_the_axis_of_the_spectrum_is_what_the_network_has() -> None:
    study, runs = first_seed("spectrum")
    assert study.design is not None
    for arm, run in runs.items():
        with torch.device("meta"):
            middle = instantiate(run.resolved["model"]).middle_flow
        convolutions = [module for module in middle.modules() if isinstance(module, nn.Conv2d)]
        seen = {conv.in_channels // conv.groups for conv in convolutions if conv.kernel_size == (3, 3)}
        assert max(seen) == study.design.positions[arm]


@pytest.mark.usefixtures("hydra")
def test_the_other_spectrums_are_matched_in_size_and_share_the_runs_of_the_spectrum() -> None:
    of_spectrum = {run.run_id for run in planned("spectrum")[1]}
    for name, shared in (("spectrum_order", 36), ("spectrum_multiply_adds", 6)):
        _, runs = planned(name)
        assert len(of_spectrum & {run.run_id for run in runs}) == shared
    for run in first_seed("spectrum_order")[1].values():
        assert count_network(run.resolved).parameters == pytest.approx(XCEPTION, rel=0.01)
    for run in first_seed("spectrum_multiply_adds")[1].values():
        assert count_network(run.resolved).multiply_adds == pytest.approx(3_910_000, rel=0.01)
    study, deep = first_seed("spectrum_deep")
    assert study.design is not None
    assert study.design.positions["channels_all_none"] == 200
    for run in deep.values():
        cost = count_network(run.resolved)
        assert cost.parameters == pytest.approx(8_160_000, rel=0.01)
        assert cost.multiply_adds < 30_000_000


@pytest.mark.usefixtures("hydra")
def test_a_size_that_the_user_sets_stands_in_place_of_the_arms_own(monkeypatch) -> None:
    check = planning.check_study

    def with_sizes(name: str, node: Any) -> StudyFile:
        """Each order at an equal size of its own."""
        if name == "spectrum_order":
            levels = node["factors"]["order"]["levels"]
            levels["pointwise"]["choose"]["match_parameters"] = node["base"].pop("match_parameters")
            levels["depthwise"]["choose"]["match_multiply_adds"] = 3_910_000
        return check(name, node)

    monkeypatch.setattr(planning, "check_study", with_sizes)
    study, runs = plan_study("spectrum_order", ["seed=0", "match_parameters=22855952"])
    by_arm = {run.arm: run.configuration.resolved for run in runs}
    pointwise, depthwise = (by_arm[f"{order}_channels_all_none"] for order in ("pointwise", "depthwise"))
    assert count_parameters(pointwise["model"]) == pytest.approx(22_855_952, rel=0.01)
    assert count_network(depthwise).multiply_adds == pytest.approx(3_910_000, rel=0.01)
    assert study.output.endswith("__match_parameters=22855952__seed=0")
    with pytest.raises(UserError, match=r"^match_parameters: the arms of study=residual differ in it"):
        plan_study("residual", ["match_parameters=100000"])


@pytest.mark.usefixtures("hydra")
def test_the_control_has_the_widths_of_the_spectrums_ends_and_nothing_else() -> None:
    _, widths = first_seed("spectrum")
    study, runs = first_seed("spectrum_width")
    assert study.design is not None
    assert {study.design.positions[arm] for arm in runs} == {91, 29}
    for arm, run in runs.items():
        level, _, activation = arm.partition("_")
        wide = widths[f"channels_1_{activation}"]
        of_level = widths[f"channels_{'1' if level == 'wide' else 'all'}_{activation}"]
        model = run.resolved["model"]
        assert model["width"] == of_level.resolved["model"]["width"]
        other = wide.resolved
        assert {**run.resolved, "model": {**model, "width": None}} == {
            **other,
            "model": {**other["model"], "width": None},
        }
        if level == "wide":
            assert run.run_id == wide.run_id


@pytest.mark.usefixtures("hydra")
def test_a_width_that_arms_differ_in_cannot_be_set() -> None:
    with pytest.raises(UserError, match=r"^model\.width: the arms of study=spectrum_width differ in it"):
        plan_study("spectrum_width", ["model.width=0.1"])


@pytest.mark.usefixtures("hydra")
def test_both_sizes_at_once_are_refused_beside_a_study() -> None:
    with pytest.raises(UserError, match=r"^match_parameters=356353, match_multiply_adds=4000000: one width"):
        plan_study("spectrum", ["match_multiply_adds=4000000"])


# The scale of a study in a line


@pytest.mark.usefixtures("hydra")
def test_many_sizes_of_one_network_are_told_as_a_range() -> None:
    assert planned("spectrum")[0].scale.startswith(
        "Xception (width 0.04052 to 0.12432, stem stride 1) on Fashion MNIST embedded (28×28 "
    )


@pytest.mark.usefixtures("hydra")
def test_data_are_named_by_their_option_not_by_their_reader() -> None:
    study, _ = plan_study("residual", ["dataset=jft", "recipe=embedded", "seed=0", "dataset.root=/tmp"])
    assert " on jft (" in study.scale


# Many runs


@pytest.fixture
def resolutions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds that are resolved one by one from here on."""
    resolved: list[int] = []
    resolve = RunConfiguration.from_composed.__func__

    def count(cls: type, config: Any, *arguments: Any) -> RunConfiguration:
        resolved.append(config.seed)
        return resolve(cls, config, *arguments)

    monkeypatch.setattr(RunConfiguration, "from_composed", classmethod(count))
    return resolved


def one_by_one(overrides: list[str], seeds: list[int]) -> list[RunConfiguration]:
    return [compose_runs([*overrides, f"++seed={seed}"])[0] for seed in seeds]


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize("dataset", ["fashion_mnist_embedded", "fashion_mosaic", "imagenet"])
def test_runs_of_many_seeds_are_those_of_each_seed(dataset: str, resolutions: list[int]) -> None:
    seeds, overrides = [3, 0, 17, 4_294_967_295], [f"dataset={dataset}", "dataset.root=."]
    together = compose_runs(overrides, seeds)
    assert resolutions == [3]  # however many there are
    (alone,) = one_by_one(overrides, seeds[2:3])
    run = together[2]
    assert (run.resolved, run.choices, run.run_id) == (alone.resolved, alone.choices, alone.run_id)
    assert [run.seed for run in together] == seeds
    assert len({run.run_id for run in together}) == 4


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize(
    "overrides",
    [
        ["results_dir=results-${seed}"],  # text with a seed in it
        ["results_dir='~/results-${seed}'"],  # which is expanded before it is copied
        ["+recipe.selected=${oc.select:seed}"],  # computed
        ["+recipe.selected=${dataset.seed}"],  # by way of another setting
        ["+dataset.fold=${seed}", "+dataset.other=${dataset.fold}"],
        ["+dataset.fold=${seed}", "+recipe.x='${oc.select:dataset.fold}'"],
        ["+recipe.copy=${dataset}"],
        ["+table=[a,a,a,b,b]", "+looked_up='${oc.select:table.${seed}}'"],  # of which the first two are equal
    ],
)
def test_what_else_depends_on_the_seed_is_resolved_for_each(
    overrides: list[str], resolutions: list[int]
) -> None:
    seeds = [3, 4, 2]
    together = compose_runs(overrides, seeds)
    assert resolutions == seeds
    for run, alone in zip(together, one_by_one(overrides, seeds), strict=True):
        assert (run.resolved, run.run_id) == (alone.resolved, alone.run_id)


@pytest.mark.usefixtures("hydra")
def test_a_seed_elsewhere_than_in_the_identity_is_replaced_too() -> None:
    runs = compose_runs(["+logger.seed=${seed}", "+recipe.nested={seed: '${seed}', other: 7}"], [1, 2, 7])
    assert [run.resolved["logger"]["seed"] for run in runs] == [1, 2, 7]
    assert [run.resolved["recipe"]["nested"] for run in runs] == [
        {"seed": seed, "other": 7} for seed in (1, 2, 7)
    ]
    assert runs[2].run_id == RunConfiguration(runs[2].resolved, runs[2].choices).run_id


@pytest.mark.usefixtures("hydra")
def test_the_runs_of_a_study_measure_what_it_compares_beside_what_they_measure_anyway(monkeypatch) -> None:
    check = planning.check_study

    def with_metrics(name: str, node: Any) -> StudyFile:
        return check(name, {**node, "metrics": ["macro_f1", "top1"], "seeds": [0]})

    plain = planned("residual")[1][0]
    assert not [override for override in plain.overrides if override.startswith("metrics")]
    monkeypatch.setattr(planning, "check_study", with_metrics)
    study, runs = plan_study("residual", ["metrics=loss"])
    assert (study.metric, study.deciding.label) == ("macro_f1", "macro F1")
    for run in runs:
        assert list(run.configuration.metrics) == ["macro_f1", "top1", "loss", "top5"]
        assert run.configuration.asked_metrics == ("macro_f1", "top1", "loss")
    (launched,) = compose_runs(runs[0].overrides)
    assert launched.resolved == runs[0].configuration.resolved
    assert launched.run_id == plain.run_id


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize("metrics", ["top2", "[top1,top2]", "3"])
def test_a_metric_that_there_is_not_is_told(metrics: str) -> None:
    with pytest.raises(UserError, match=r"^metrics=.*must be (one of .*top1|a list of files)"):
        compose_runs([f"metrics={metrics}"])

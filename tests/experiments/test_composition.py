"""Whether what is composed once for many arms is what Hydra composes for each."""

import shutil
from pathlib import Path

import pytest
from hydra.errors import HydraException
from omegaconf import OmegaConf

from experiments import composition
from experiments.composition import Composed, Composer, composed_by_hydra, own_nodes
from experiments.configuration import CONFIG_DIR, RunConfiguration
from experiments.planning import compose_runs, plan_study

pytestmark = pytest.mark.usefixtures("hydra")


@pytest.fixture
def compositions(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What Hydra is asked to compose from here on."""
    asked: list[tuple[str, ...]] = []

    def counted(overrides: tuple[str, ...]) -> Composed:
        asked.append(overrides)
        return composed_by_hydra(overrides)

    monkeypatch.setattr(composition, "composed_by_hydra", counted)
    return asked


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of conf/, whose groups are looked at in place of it."""
    copy = tmp_path / "conf"
    shutil.copytree(CONFIG_DIR, copy)
    monkeypatch.setattr(composition, "CONFIG_DIR", copy)
    return copy


def plain(composed: Composed) -> tuple[object, ...]:
    config, choices, task = composed
    values = OmegaConf.to_container(config)
    assert isinstance(values, dict)
    values.pop("hydra", None)
    return list(values.items()), list(choices.items()), list(task)  # in order too: records show it


ALIKE = [
    ["residual=false", "segments=one", "match_parameters=100000"],
    ["residual='true'", "segments=per_channel", "match_parameters=200000"],
    ["match_multiply_adds=3000000", "intermediate_activation=elu", "logger=none", "trainer=ddp"],
    [],
]
"""Hydra composes the same for all of these, because each choice is a node of its own."""


def test_choices_that_are_nodes_of_their_own_share_a_composition(compositions) -> None:
    composer = Composer()
    for overrides in ALIKE:
        assert plain(composer.compose(overrides)) == plain(composed_by_hydra(overrides))
    assert compositions == [()]


@pytest.mark.parametrize(
    "others",
    [
        ["model=inception_v3", "recipe=embedded_polyak"],  # files of a package, and with defaults
        ["diagnostics=all", "dataset=cifar10"],
        ["residual.extra=1"],  # written to beside the choice
        ["+residual.extra.deep=1"],
        ["+dataset@residual.data=cifar10"],
        ["+chosen=${residual}"],
        ["recipe_model=${residual}_of_nothing"],
        ["hydra.job.name=another"],
        ["match_parameters=null"],
        ["+match_parameters=7"],
        ["~intermediate_norm"],
        ["tuning=learning_rate"],
        ["residual=false"],  # twice
    ],
)
def test_every_other_override_is_left_to_hydra(others: list[str]) -> None:
    composer = Composer()
    for chosen in (["residual=projections"], ["residual=projections", "segments=three"]):
        for overrides in ([*chosen, *others], [*others, *chosen]):
            try:
                expected = plain(composed_by_hydra(overrides))
            except HydraException as error:
                with pytest.raises(type(error)):
                    composer.compose(overrides)
            else:
                assert plain(composer.compose(overrides)) == expected


def test_an_option_that_does_not_exist_is_refused() -> None:
    with pytest.raises(HydraException, match="no_such"):
        Composer().compose(["residual=no_such"])


def test_a_composition_is_not_changed_by_the_next(compositions) -> None:
    composer = Composer()
    for seed in (1, 2):
        config, choices, task = composer.compose(["residual=false"])
        assert config.seed == 0
        (run,) = RunConfiguration.for_seeds(config, choices, task, [seed])
        assert run.seed == seed
    assert len(compositions) == 1


@pytest.mark.parametrize("seeds", [2, 40])
def test_hydra_composes_once_for_all_arms_and_seeds_of_a_study_of_factors(seeds, compositions) -> None:
    study, runs = plan_study("spectrum_full", [f"seed=range({seeds})"])
    assert len(runs) == len(study.arms) * seeds
    assert len(compositions) == 1


@pytest.mark.slow
def test_every_arm_of_the_largest_study_is_what_hydra_composes() -> None:
    _, runs = plan_study("spectrum_full", ["seed=0"])
    for run in runs:
        (composed,) = compose_runs(run.overrides)
        assert composed.resolved == run.configuration.resolved
        assert composed.choices == run.configuration.choices
        assert composed.run_id == run.run_id


def test_the_axes_are_nodes_of_their_own() -> None:
    assert {"residual", "segments", "operation_order", "intermediate_activation"} <= own_nodes()
    assert not {"model", "dataset", "recipe", "dataset_model", "recipe_model", "diagnostics"} & own_nodes()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("experiment/one.yaml", "# @package _global_\nresidual: {extra: 1}\n"),
        ("recipe_model/new.yaml", "# @package residual\nextra: 1\n"),
        ("residual/new.yaml", "# @package model.shortcut\n_target_: torch.nn.Identity\n"),
        ("residual/new.yaml", "defaults: [/segments@extra: one]\n"),
        ("recipe/new.yaml", "defaults:\n  - override /residual: false\n"),
        ("config.yaml", "\nresidual:\n  extra: 1\n"),
    ],
)
def test_a_group_that_another_file_may_write_to_is_none(conf: Path, file: str, text: str) -> None:
    assert "residual" in own_nodes()
    path = conf / file
    path.parent.mkdir(exist_ok=True)
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    path.write_text(before + text, encoding="utf-8")
    assert "residual" not in own_nodes()
    assert "intermediate_norm" in own_nodes()


def test_a_group_that_others_are_chosen_by_is_none(conf: Path) -> None:
    path = conf / "config.yaml"
    text = path.read_text(encoding="utf-8")
    assert "${recipe}_${model}" in text
    path.write_text(text.replace("${recipe}_${model}", "${recipe}_${residual}"), encoding="utf-8")
    assert "residual" not in own_nodes()


def test_nothing_is_where_hydra_looks_elsewhere(conf: Path) -> None:
    path = conf / "config.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("\nhydra:\n", "\nhydra:\n  searchpath: [other]\n"), encoding="utf-8")
    assert own_nodes() == frozenset()

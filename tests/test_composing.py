"""A configuration that the tests remember is the one that Hydra composes."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from hydra import compose
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from omegaconf import DictConfig, OmegaConf

from experiments.planning import hydra_configuration
from experiments.project import FRAMEWORK_CONF, Project, current, use
from tests import composing
from tests.composing import COMPOSE, READ


def composed(*overrides: str) -> DictConfig:
    with hydra_configuration():
        return compose(current().config_name, list(overrides), return_hydra_config=True)


@pytest.mark.parametrize(
    "overrides",
    [
        ["seed=3", "results_dir='{folder}'", "model=xception", "hydra.job.chdir=true"],
        [
            "results_dir={folder}",
            "+recipe.x={{a: [1]}}",
            "residual='false'",
            "++seed=5",
            "seed=4",
            "model.width=2",
        ],
    ],
)
def test_what_is_remembered_is_what_hydra_composes(
    overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plain() -> Any:
        return OmegaConf.to_container(composed(*(word.format(folder=tmp_path) for word in overrides)))

    composed("model=xception", "residual='false'")  # of which files are remembered
    first = composed(*(word.format(folder="/first") for word in overrides))
    first.seed, first.hydra.runtime.cwd = 99, "/first"  # a test may change what it got
    monkeypatch.chdir("docs")
    remembered = plain()
    monkeypatch.setattr(ConfigLoaderImpl, "_load_configuration_impl", COMPOSE)
    monkeypatch.setattr(ConfigRepository, "load_config", READ)
    assert remembered == plain()


def test_a_file_is_read_once_for_all_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    composed()
    shutil.copytree(FRAMEWORK_CONF, tmp_path / "conf")
    (tmp_path / "conf/loss/mine.yaml").write_text("_target_: torch.nn.CrossEntropyLoss\n")
    read: list[str] = []
    monkeypatch.setattr(composing, "READ", lambda source, path: read.append(path) or READ(source, path))
    with use(Project(tmp_path)):
        composed("loss=mine")
    assert [path for path in read if (tmp_path / "conf" / f"{path}.yaml").is_file()] == ["loss/mine"]

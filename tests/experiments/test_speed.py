"""`python -m ablations benchmark against=timm`: its words, what takes turns, its table."""

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from ablations.__main__ import main
from ablations.errors import UserError
from ablations.tables.timings import speed_table
from experiments import speed
from experiments.benchmark import Options, parse_options
from experiments.speed import LIBRARIES, composed, measure, settings

CPU = torch.device("cpu")


def test_a_gpu_is_measured_in_all_precisions_and_a_cpu_in_one() -> None:
    asked = Options(compiled=("false", "true"))
    assert len(settings(asked, CPU)) == 2 * 2
    on_gpu = settings(asked, torch.device("cuda"))
    assert len(on_gpu) == len({tuple(setting.values()) for setting in on_gpu}) == 3 * 2 * 2


@pytest.fixture(scope="module")
def ours() -> Mapping[str, Any]:
    return composed(Options(models=("xception", "inception_v3"), rounds=1))


@pytest.mark.parametrize(
    ("library", "model"), [(library, model) for library, of in LIBRARIES.items() for model in of]
)
def test_a_library_has_the_same_graph(library: str, model: str, ours: Mapping[str, Any]) -> None:
    """As many parameters, in layers of the same shapes in some order."""
    with torch.device("meta"):
        networks = instantiate(ours[model]["model"]), instantiate(LIBRARIES[library][model], num_classes=1000)
    shapes = [sorted(tuple(p.shape) for p in network.parameters()) for network in networks]
    assert shapes[0] == shapes[1]
    assert sum(p.numel() for p in networks[0].parameters()) > 20_000_000


QUICK = (
    "seconds=0.001",
    "rounds=2",
    "batch_size=2",
    "image_size=33",
    "num_classes=5",
    "trainer.accelerator=cpu",
)


def turn(of: str, number: int, speed: float, model: str = "xception") -> dict[str, object]:
    setting = {"precision": "32-true", "memory_order": "contiguous", "compiled": ""}
    of_turn = {"model": model, "of": of, "part": "training", "round": number}
    return setting | of_turn | {"images_per_second": speed, "peak_memory_bytes": None}


def test_ratios_are_taken_round_by_round() -> None:
    turns = [turn("ours", 0, 10), turn("timm", 0, 20), turn("ours", 1, 100), turn("timm", 1, 50)]
    turns += [turn("ours", number, 40, "inception_v3") for number in (0, 1)]
    table = speed_table(turns).set_index(["model", "of"])
    assert table.loc[("xception", "timm"), "of_ours_median"] == pytest.approx((2 + 0.5) / 2)
    over = table["over_inception_v3_median"]
    assert over["xception", "ours"] == pytest.approx((10 / 40 + 100 / 40) / 2)
    assert pd.isna(over["xception", "timm"])  # it has no Inception V3 here
    assert pd.isna(over["inception_v3", "ours"])


def test_a_library_that_is_missing_is_named_and_ours_are_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(speed, "find_spec", lambda name: None)
    monkeypatch.setattr(speed, "measure_setting", lambda options, networks, setting, device: [setting])
    what, rows = measure(parse_options([*QUICK, "against=timm", f"results_dir={tmp_path}"]))
    assert what.endswith("2 images of 33 pixels")
    assert len(rows) == 2
    assert "timm is not installed, so it is left out: pip install timm" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["model.width=0.25", "optimizer=adamw", "models=vgg16"])
def test_what_would_compare_other_networks_or_be_ignored_is_refused(tmp_path: Path, word: str) -> None:
    options = parse_options([*QUICK, "against=timm", f"results_dir={tmp_path}", word])
    with pytest.raises(UserError, match=f"^{word}: "):
        measure(options)


def test_after_the_deadline_no_round_starts_but_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = (nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    monkeypatch.setattr(speed, "build", lambda *_: nn.Sequential(*layers))
    options = parse_options([*QUICK, "models=xception", "orders=contiguous"])
    (setting,) = settings(options, CPU)
    for deadline, rounds in ((0, {0}), (math.inf, {0, 1})):
        turns = speed.measure_setting(options, composed(options), setting, CPU, deadline)
        assert {turn["round"] for turn in turns} == rounds


@pytest.mark.slow
def test_networks_take_turns_and_the_table_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*QUICK, "against=timm", "models=xception", "orders=channels-last", f"results_dir={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["ablations", "benchmark", *words])
    assert main() == 0
    assert "Xception, timm" in capsys.readouterr().out
    turns = pd.read_csv(tmp_path / "benchmark" / "speed_against_libraries_turns.csv")
    assert (turns["images_per_second"] > 0).all()
    of_training = turns[turns["part"] == "training"]
    assert of_training["of"].tolist() == ["ours", "timm", "timm", "ours"]
    table = pd.read_csv(tmp_path / "benchmark" / "speed_against_libraries.csv")
    assert len(table) == 2 * 2

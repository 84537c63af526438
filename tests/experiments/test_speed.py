"""`python -m ablations benchmark against=timm`: its words, what takes turns, its table."""

import math
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from ablations.__main__ import main
from ablations.errors import UserError
from ablations.tables.speed import speed_table
from experiments import speed
from experiments.planning import compose_runs, hydra_configuration
from experiments.speed import LIBRARIES, Asked, measure, parse, settings

CPU = torch.device("cpu")


@pytest.fixture
def composed() -> Callable[[str], nn.Module]:
    """Builds a network of ours as the benchmark does."""

    def build(network: str) -> nn.Module:
        words = ["dataset.channels=3", "dataset.image_size=299", "dataset.num_classes=1000"]
        with hydra_configuration():
            (run,) = compose_runs([f"model={network}", *words])
        built: nn.Module = instantiate(run.resolved["model"])
        return built

    return build


def test_words_are_read() -> None:
    words = ["against=timm,torchvision", "networks=xception", "precisions=bf16-mixed", "compiled=false,true"]
    words += ["batch_size=8", "seconds=0.5", "rounds=2", "trainer.threads=2", "results_dir=there"]
    assert parse(words) == Asked(
        against=("timm", "torchvision"),
        networks=("xception",),
        precisions=("bf16-mixed",),
        compiled=("false", "true"),
        batch_size=8,
        seconds=0.5,
        rounds=2,
        threads=2,
        results_dir=Path("there"),
    )


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("against=keras", "against.0=keras: must be 'timm' or 'torchvision'"),
        ("compiled=maybe", "compiled.0=maybe: must be 'false', 'true' or 'eager'"),
        ("seconds=0", "seconds=0: must be greater than 0"),
        ("models=xception", "unknown key models"),
    ],
)
def test_a_bad_word_is_a_line(word: str, line: str) -> None:
    with pytest.raises(UserError) as refusal:
        parse([word])
    assert str(refusal.value).startswith(line)
    assert "\n" not in str(refusal.value)


def test_a_gpu_is_measured_in_all_precisions_and_a_cpu_in_one() -> None:
    asked = Asked(compiled=("false", "true"))
    assert len(settings(asked, CPU)) == 2 * 2
    on_gpu = settings(asked, torch.device("cuda"))
    assert len(on_gpu) == len({tuple(setting.values()) for setting in on_gpu}) == 3 * 2 * 2


@pytest.mark.parametrize(
    ("library", "network"), [(library, network) for library, of in LIBRARIES.items() for network in of]
)
def test_a_library_has_the_same_graph(
    library: str, network: str, composed: Callable[[str], nn.Module]
) -> None:
    """As many parameters, in layers of the same shapes in some order."""
    with torch.device("meta"):
        theirs, ours = LIBRARIES[library][network](1000), composed(network)
    shapes = [sorted(tuple(p.shape) for p in one.parameters()) for one in (ours, theirs)]
    assert shapes[0] == shapes[1]
    assert sum(p.numel() for p in ours.parameters()) > 20_000_000


QUICK = (
    "seconds=0.001",
    "rounds=2",
    "batch_size=2",
    "image_size=33",
    "num_classes=5",
    "trainer.accelerator=cpu",
)


def turn(of: str, number: int, speed: float, network: str = "xception") -> dict[str, object]:
    setting = {"precision": "32-true", "order": "contiguous", "compiled": ""}
    of_turn = {"network": network, "of": of, "part": "training", "round": number}
    return setting | of_turn | {"images_per_second": speed, "peak_memory": None}


def test_ratios_are_taken_round_by_round() -> None:
    turns = [turn("ours", 0, 10), turn("timm", 0, 20), turn("ours", 1, 100), turn("timm", 1, 50)]
    turns += [turn("ours", number, 40, "inception_v3") for number in (0, 1)]
    table = speed_table(turns).set_index(["network", "of"])
    assert table.loc[("xception", "timm"), "of_ours"] == pytest.approx((2 + 0.5) / 2)
    assert table.loc[("xception", "ours"), "of_ours"] == 1
    over = table["xception_over_inception_v3"]
    assert over["xception", "ours"] == pytest.approx((10 / 40 + 100 / 40) / 2)
    assert pd.isna(over["xception", "timm"])  # it has no Inception V3 here
    assert pd.isna(over["inception_v3", "ours"])


def test_a_library_that_is_missing_is_named_and_ours_are_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(speed, "find_spec", lambda name: None)
    monkeypatch.setattr(speed, "measure_setting", lambda asked, setting, device: [setting])
    _, device, rows = measure([*QUICK, "against=timm", f"results_dir={tmp_path}"])
    assert (device, len(rows)) == (CPU, 2)
    assert "timm is not installed, so it is left out: pip install timm" in capsys.readouterr().err


def test_after_the_deadline_no_round_starts_but_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = (nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    monkeypatch.setattr(speed, "build", lambda *_: nn.Sequential(*layers))
    asked = parse([*QUICK, "networks=xception", "orders=contiguous"])
    (setting,) = settings(asked, CPU)
    for deadline, rounds in ((0, {0}), (math.inf, {0, 1})):
        turns = speed.measure_setting(asked, setting, CPU, deadline)
        assert {turn["round"] for turn in turns} == rounds


@pytest.mark.slow
def test_networks_take_turns_and_the_table_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*QUICK, "against=timm", "networks=xception", "orders=channels-last", f"results_dir={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["ablations", "benchmark", *words])
    assert main() == 0
    assert "xception, timm" in capsys.readouterr().out
    turns = pd.read_csv(tmp_path / "benchmark" / "speed_against_libraries_turns.csv")
    assert (turns["images_per_second"] > 0).all()
    of_training = turns[turns["part"] == "training"]
    assert of_training["of"].tolist() == ["ours", "timm", "timm", "ours"]
    table = pd.read_csv(tmp_path / "benchmark" / "speed_against_libraries.csv")
    assert len(table) == 2 * 2

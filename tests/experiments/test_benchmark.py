"""`python -m ablations benchmark`: its words, its order, its table, on networks of a few channels."""

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from ablations.cli.reading import judge
from ablations.errors import UserError
from ablations.evidence.timings import read_timings
from ablations.runs.archive import pack, unpack
from experiments import benchmark as room
from experiments.benchmark import (
    Options,
    benchmark,
    compose_networks,
    count_networks,
    find_device,
    parse_options,
    plan_turns,
    timed,
)
from experiments.configuration import RunConfiguration
from experiments.planning import project_benchmark
from experiments.project import Project, use
from experiments.sizes.network_cost import count_network

CPU = torch.device("cpu")
TINY = ("batch_size=2", "image_size=32", "num_classes=7", "model.width=0.03", "model.stem_stride=1")


def options(**changed: object) -> Options:
    """Those of table 3 on the embedded project, with changes."""
    usual = {"models": ("inception_v3_table3", "xception"), "image_size": 299, "num_classes": 1000}
    usual |= {"channels": 3, "batch_size": None}
    results_dir = parse_options([]).results_dir
    return Options(defined=project_benchmark(), **({"results_dir": results_dir} | usual | changed))


def test_words_are_read() -> None:
    assert parse_options([]) == options()
    words = ["batch_size=8", "image_size=96", "seconds=7", "rounds=2", "models=xception,inception_v3_small"]
    words += ["num_classes=10", "results_dir=there", "trainer.threads=2", "fully_connected=two"]
    assert parse_options(words) == options(
        models=("xception", "inception_v3_small"),
        image_size=96,
        num_classes=10,
        batch_size=8,
        seconds=7,
        rounds=2,
        overrides=("trainer.threads=2", "fully_connected=two"),
        results_dir=Path("there"),
    )


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("residual", "residual: expected KEY=VALUE"),
        ("dataset.channels=1", "unknown key dataset.channels"),
        ("model=xception", "unknown key model; did you mean models?"),
        ("batch_size=0", "batch_size=0: must be "),
        ("rounds=auto", "rounds=auto: must be "),
        ("models=a,a", "models=a,a: duplicate value; give each once"),
        ("compiled=maybe", "compiled.0=maybe: must be "),
        ("trainer.compile=true", "unknown key trainer.compile"),
        ("defined=mine", "unknown key defined"),
        ("seconds=0", "seconds=0: must be "),
    ],
)
def test_a_bad_word_is_a_line(word: str, line: str) -> None:
    with pytest.raises(UserError) as refusal:
        parse_options([word])
    assert str(refusal.value).startswith(line)
    assert "\n" not in str(refusal.value)


def test_a_comparison_has_its_own_defaults() -> None:
    words = ["against=timm,torchvision", "compiled=false,true", "precisions=bf16-mixed", "seconds=0.5"]
    assert parse_options(words) == options(
        models=("inception_v3", "xception"),
        against=("timm", "torchvision"),
        compiled=("false", "true"),
        precisions=("bf16-mixed",),
        seconds=0.5,
        rounds=5,
    )


def test_another_question_has_another_file() -> None:
    assert options().output == "table03_size_and_speed"
    same = parse_options(["seconds=9", "rounds=9", "trainer.threads=2", "image_size=299"])
    assert same.output == "table03_size_and_speed"
    words = ["image_size=64", "models=xception,inception_v3_small", "fully_connected=two", "compiled=true"]
    assert parse_options(words).output == (
        "table03_size_and_speed__models=xception,inception_v3_small__image_size=64__compiled=true"
        "__fully_connected=two"
    )
    assert parse_options(["against=timm"]).output == (
        "table03_size_and_speed__models=inception_v3,xception__against=timm"
    )


def test_an_override_reaches_the_networks() -> None:
    asked = parse_options(["fully_connected=two", "num_classes=17000", "models=xception,vgg16"])
    assert count_network(compose_networks(asked)["xception"][0].resolved).parameters == 115_629_968


def test_device_and_threads_are_the_trainers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    for accelerator in ("auto", "cpu"):
        assert find_device({"accelerator": accelerator, "threads": 3}) == torch.device("cpu")
    assert threads == [3, 3]
    with pytest.raises(ValueError, match=r"^trainer\.accelerator=gpu: found no CUDA device; use cpu"):
        find_device({"accelerator": "gpu", "threads": 1})
    with pytest.raises(ValueError, match=r"^trainer\.accelerator=tpu: must be one of auto, cpu, gpu, cuda$"):
        find_device({"accelerator": "tpu", "threads": 1})
    with pytest.raises(ValueError, match=r"^trainer\.threads=0: must be a whole number of at least 1$"):
        find_device({"accelerator": "cpu", "threads": 0})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert find_device({"accelerator": "auto", "threads": 1}) == torch.device("cuda:1")
    assert find_device({"accelerator": "cpu", "threads": 1}) == torch.device("cpu")


def planned(*words: str) -> list[list[list[RunConfiguration]]]:
    asked = parse_options([*words, "models=inception_v3_small,xception", *TINY])
    return plan_turns(asked, compose_networks(asked), CPU)


def test_networks_take_turns_and_which_is_first_alternates() -> None:
    settings = planned("rounds=3")
    assert len({turn.run_id for rounds in settings for turns in rounds for turn in turns}) == 3 * 4
    orders = [rounds[0][0].resolved["recipe"]["channels_last"] for rounds in settings]
    assert orders == [False, True]
    for rounds in settings:
        models = [[turn.choices["model"] for turn in turns] for turns in rounds]
        assert models[0] == models[2] == models[1][::-1] == ["inception_v3_small", "xception"]


def test_a_gpu_is_measured_in_all_precisions_and_a_cpu_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(room.environment, "device", lambda _: {"type": "cuda", "name": "A GPU", "threads": 1})
    asked = parse_options(["compiled=false,true", "rounds=1", "models=xception"])
    for device, precisions in ((CPU, 1), (torch.device("cuda"), 3)):
        settings = plan_turns(asked, compose_networks(asked), device)
        assert len(settings) == precisions * 2 * 2
        assert len({turn.run_id for rounds in settings for turns in rounds for turn in turns}) == len(
            settings
        )


def test_a_timing_is_of_its_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def ids() -> set[str]:
        return {turn.run_id for rounds in planned("rounds=1") for turn in rounds[0]}

    here = ids()
    assert ids() == here
    for part, told in (
        ("device", {"type": "cpu", "threads": 1, "name": "another"}),
        ("process", {"host": "there"}),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(room.environment, part, lambda *_, told=told: told)
            assert not ids() & here
    monkeypatch.setattr(room, "version", lambda _: "9.9")
    assert not ids() & here


SMALL = ("models=inception_v3_small,xception", "seconds=1", "trainer.accelerator=cpu", *TINY)


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Steps are built and trained here, and take the time that they are given."""
    found: list[float] = []

    def time_here(step, **_: object) -> tuple[float, int]:
        step()
        found.append(1 / (len(found) + 1))
        return found[-1], 3

    monkeypatch.setattr(room, "time_it", time_here)
    return found


def test_the_command_records_what_is_missing_and_writes_the_table(
    call, results_dir: Path, times: list[float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("benchmark", "rounds=2", *SMALL) == 0
    shown = capsys.readouterr()
    assert shown.err.count("steps/second\n") == len(times) == 2 * 2 * 2
    name = "table03_size_and_speed__models=inception_v3_small,xception__image_size=32__num_classes=7"
    name += "__batch_size=2__model.width=0.03__model.stem_stride=1"
    paths = [results_dir / "tables" / f"{name}.{suffix}" for suffix in ("csv", "md", "tex")]
    assert shown.out.splitlines()[-3:] == [str(path) for path in paths]
    table = pd.read_csv(paths[0])
    assert list(table["model"]) == ["inception_v3_small", "xception"] * 2
    assert list(table["steps_per_second_min"]) == [1, 2, 5, 6]  # the second round goes the other way
    assert list(table["steps_per_second_max"]) == [4, 3, 8, 7]
    assert list(table["ratio_max"].round(4).fillna(0)) == [0, 2, 0, 1.2]
    assert list(table["images_per_second_max"]) == [8, 6, 16, 14]

    assert call("benchmark", "rounds=2", *SMALL) == 0  # nothing is missing
    assert len(times) == 8
    shutil.rmtree(next((results_dir / "runs").iterdir()))
    assert call("benchmark", "rounds=2", *SMALL) == 0
    assert len(times) == 10  # the whole of its round, in its setting

    archive, runs = pack(results_dir)
    assert runs == 8
    unpack(archive, tmp_path / "there")
    (timings,) = read_timings(tmp_path / "there")
    assert timings.rounds == 2


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("models=xception,resnet",), "error: model=resnet: no such option; available: inception_v3, "),
        (("image_size=20",), "error: dataset.image_size=20: too small for model "),
        (("against=timm", "model.width=0.25"), "error: model.width=0.25: against= compares equal networks"),
        (("against=timm", "optimizer=adamw"), "error: optimizer=adamw: against= compares equal networks"),
        (("against=keras", "models=xception"), "error: against=keras: must be one of timm, torchvision"),
        (("against=torchvision", "models=xception"), "error: models=xception: no equal in torchvision; "),
        (("trainer.threads=no",), "error: trainer.threads=no: must be a whole number of at least 1"),
    ],
)
def test_what_cannot_be_is_a_line(
    call, words: tuple[str, ...], line: str, results_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("benchmark", *words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(line)
    assert shown.err.count("\n") == 1
    assert not results_dir.exists()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "batch_size=2: too large for this device's memory"),
        (RuntimeError("can't allocate\nmemory"), "batch_size=2, image_size=32: can't allocate memory"),
    ],
)
def test_a_batch_that_is_too_large_is_a_line(
    call, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(room, "time_it", killed)
    assert call("benchmark", "models=inception_v3_small,xception", "trainer.accelerator=cpu", *TINY) == 2
    assert capsys.readouterr().err == f"error: {line}\n"


# Next to libraries


@pytest.fixture(scope="module")
def ours() -> Mapping[str, Any]:
    networks = compose_networks(options(models=("xception", "inception_v3"), rounds=1))
    return {model: runs[0].resolved["model"] for model, runs in networks.items()}


@pytest.mark.parametrize(
    ("library", "model"), [("timm", "xception"), ("timm", "inception_v3"), ("torchvision", "inception_v3")]
)
def test_a_library_has_the_same_graph(library: str, model: str, ours: Mapping[str, Any]) -> None:
    """As many parameters, in layers of the same shapes in some order."""
    equals = project_benchmark().equals
    with torch.device("meta"):
        networks = instantiate(ours[model]), instantiate(equals[library][model], num_classes=1000)
    shapes = [sorted(tuple(p.shape) for p in network.parameters()) for network in networks]
    assert shapes[0] == shapes[1]
    assert sum(p.numel() for p in networks[0].parameters()) > 20_000_000


QUICK = ("batch_size=2", "image_size=75", "num_classes=5", "trainer.accelerator=cpu", "rounds=2")


@pytest.fixture
def a_few_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*_: object) -> nn.Module:
        layers = (nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
        return nn.Sequential(*layers)

    monkeypatch.setattr(room, "build", build)


def test_networks_of_all_sources_take_turns_in_one_table(
    call, a_few_layers: None, times: list[float], results_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("against=timm,torchvision", "orders=channels_last", *QUICK)
    assert call("benchmark", *words) == 0
    shown = capsys.readouterr()
    assert shown.err.count("steps/second\n") == len(times) == 5 * 2 * 2
    assert "Xception, timm, inference" in shown.out
    (path,) = results_dir.glob("tables/*.csv")
    table = pd.read_csv(path).set_index(["model", "source", "part"])
    assert len(table) == 5 * 2
    ours, timms = (table.loc["xception", source, "training"] for source in ("ours", "timm"))
    turn_of_ours, turn_of_timms = (8, 13), (10, 11)  # of 20; the second round is reversed
    ratios = [timm / our for our, timm in zip(turn_of_ours, turn_of_timms, strict=True)]
    assert timms[["of_ours_min", "of_ours_max"]].tolist() == pytest.approx(sorted(ratios))
    assert pd.isna(ours["of_ours_median"])
    assert pd.isna(table.loc["inception_v3", "timm", "training"]["ratio_median"])
    over = [8 / 2, 13 / 19]
    assert ours[["ratio_min", "ratio_max"]].tolist() == pytest.approx(sorted(over))


def test_a_library_that_is_missing_is_named_and_ours_are_measured(
    call,
    a_few_layers: None,
    times: list[float],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(room, "find_spec", lambda name: None)
    assert call("benchmark", "against=timm", "models=xception", *QUICK) == 0
    assert len(times) == 2 * 2 * 2
    assert "timm is not installed, so it is left out: pip install timm" in capsys.readouterr().err


def test_after_the_deadline_no_round_starts_but_the_first(a_few_layers: None, times: list[float]) -> None:
    asked = parse_options([*QUICK, "models=xception", "orders=contiguous"])
    networks = compose_networks(asked)
    costs = count_networks(networks)
    (rounds,) = plan_turns(asked, networks, CPU)
    for deadline, done in ((0, {0}), (math.inf, {0, 1})):
        assert {turn.seed for turn, _ in timed(rounds, costs, CPU, deadline)} == done


@pytest.mark.slow
def test_the_true_networks_are_timed(call, results_dir: Path) -> None:
    words = ["against=timm", "models=xception", "orders=channels_last", "seconds=0.001", "rounds=1"]
    words += ["batch_size=2", "image_size=33", "num_classes=5", "trainer.accelerator=cpu"]
    assert call("benchmark", *words) == 0
    (timings,) = read_timings(results_dir)
    assert (timings.turns["steps_per_second"] > 0).all()
    assert timings.turns[["source", "part"]].value_counts().tolist() == [1, 1, 1, 1]


def test_a_project_has_a_benchmark_and_claims_about_it_of_its_own(
    a_few_layers: None, times: list[float], tmp_path: Path
) -> None:
    conf = tmp_path / "conf"
    (conf / "claims").mkdir(parents=True)
    (conf / "model").mkdir()
    small = "defaults:\n  - xception_small\n  - _self_\n"
    networks = [{"model": name, "label": name.title()} for name in ("plain", "narrow")]
    mine = {"title": "Mine", "output": "mine", "image_size": 32, "channels": 3, "num_classes": 5}
    mine |= {"networks": networks}
    (conf / "benchmark.yaml").write_text(json.dumps(mine))
    for name, width in (("plain", 0.05), ("narrow", 0.03)):
        (conf / "model" / f"{name}.yaml").write_text(f"{small}width: {width}\n")
    fewer = {"treatment": "narrow", "control": "plain", "metric": "parameters", "direction": "lower"}
    claim = {"id": "fewer", "statement": "It is smaller.", "source": "Me", "study": "benchmark"}
    claim["comparisons"] = [fewer | {"margin": 0.1}]
    (conf / "claims" / "mine.yaml").write_text(json.dumps({"claims": [claim]}))
    with use(Project(tmp_path)):
        asked = parse_options(["rounds=1", "trainer.accelerator=cpu"])
        benchmark(asked)
        assert (asked.models, asked.output) == (("plain", "narrow"), "mine")
        (verdict,) = judge(["benchmark"], []).verdicts
    assert verdict.verdict == "holds"
    assert "steps of 4 images of 32x32 pixels, 5 classes" in verdict.scale


def test_a_project_without_a_file_measures_its_network_on_its_data(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    with use(Project(tmp_path)):
        asked = parse_options([])
        assert asked.output == "size_and_speed"
        assert (asked.models, asked.batch_size) == (("xception_small",), 128)
        (runs,) = compose_networks(asked).values()
        assert parse_options(["against=timm"]).models == ("inception_v3", "xception")
    data = runs[0].resolved["dataset"]
    assert [data[key] for key in ("image_size", "channels", "num_classes")] == [28, 1, 10]

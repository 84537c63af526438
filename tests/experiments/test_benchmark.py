"""`python -m ablations benchmark`: its words, its order, its table, on networks of a few channels."""

import pickle
import shutil
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch

from ablations.errors import UserError
from ablations.evidence.timings import read_timings
from ablations.runs.archive import pack, unpack
from experiments import benchmark as room
from experiments.benchmark import Options, compose_networks, find_device, parse_options, plan_rounds
from experiments.configuration import RunConfiguration
from experiments.sizes.network_cost import count_network
from experiments.sizes.training_step import Timing, prepare_step, time_step

TINY = ("batch_size=2", "image_size=32", "num_classes=7", "model.width=0.03", "model.stem_stride=1")


def test_words_are_read() -> None:
    assert parse_options([]) == Options()
    words = ["batch_size=8", "image_size=96", "seconds=7", "rounds=2", "models=xception,inception_v3_small"]
    words += ["num_classes=10", "results_dir=there", "trainer.threads=2", "fully_connected=two"]
    assert parse_options(words) == Options(
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
        ("against=keras", "against.0=keras: must be "),
        ("compiled=maybe", "compiled.0=maybe: must be "),
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
    assert parse_options(words) == Options(
        models=("xception", "inception_v3"),
        against=("timm", "torchvision"),
        compiled=("false", "true"),
        precisions=("bf16-mixed",),
        seconds=0.5,
        rounds=5,
        results_dir=parse_options([]).results_dir,
    )


def test_another_question_has_another_file() -> None:
    assert Options().output == "table03_size_and_speed"
    same = parse_options(["seconds=9", "rounds=9", "batch_size=2", "trainer.threads=2", "image_size=299"])
    assert same.output == "table03_size_and_speed"
    other = parse_options(["image_size=64", "models=xception,inception_v3_small", "fully_connected=two"])
    assert other.output == (
        "table03_size_and_speed__models=xception,inception_v3_small__image_size=64__fully_connected=two"
    )


def test_an_override_reaches_the_networks() -> None:
    options = parse_options(["fully_connected=two", "num_classes=17000", "models=xception,vgg16"])
    assert count_network(compose_networks(options)["xception"][0].resolved).parameters == 115_629_968


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


def planned(*words: str) -> list[list[RunConfiguration]]:
    options = parse_options([*words, "models=inception_v3_small,xception", *TINY])
    return plan_rounds(options, compose_networks(options), torch.device("cpu"))


def test_networks_take_turns_and_which_is_first_alternates() -> None:
    rounds = planned("rounds=3")
    assert len({turn.run_id for turns in rounds for turn in turns}) == 3 * 4
    shown = [
        [(turn.choices["model"], turn.resolved["recipe"]["channels_last"]) for turn in turns]
        for turns in rounds
    ]
    assert shown[0] == shown[2] == shown[1][::-1]
    assert [model for model, _ in shown[0]] == ["inception_v3_small", "xception"] * 2
    assert [order for _, order in shown[0]] == [False, False, True, True]


def test_a_timing_is_of_its_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def ids() -> set[str]:
        return {turn.run_id for turn in planned("rounds=1")[0]}

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
def timed(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Steps are built and trained here, and take the time that they are given."""
    found: list[object] = []

    def time_here(prepare, **_: object) -> Timing:
        prepare()()
        found.append(prepare)
        return Timing(seconds=1 / len(found), steps=3, peak_memory=2**29)

    monkeypatch.setattr(room, "time_apart", time_here)
    return found


def test_the_command_records_what_is_missing_and_writes_the_table(
    call, results_dir: Path, timed: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("benchmark", "rounds=2", *SMALL) == 0
    shown = capsys.readouterr()
    assert shown.err.count("steps/second\n") == len(timed) == 2 * 2 * 2
    name = "table03_size_and_speed__models=inception_v3_small,xception__image_size=32__num_classes=7"
    name += "__model.width=0.03__model.stem_stride=1"
    paths = [results_dir / "tables" / f"{name}.{suffix}" for suffix in ("csv", "md", "tex")]
    assert shown.out.splitlines()[-3:] == [str(path) for path in paths]
    table = pd.read_csv(paths[0])
    assert list(table["model"]) == ["inception_v3_small", "xception"] * 2
    assert list(table["steps_per_second_min"]) == [1, 2, 3, 4]  # the second round goes the other way
    assert list(table["steps_per_second_max"]) == [8, 7, 6, 5]
    assert list(table["ratio_max"].round(4).fillna(0)) == [0, 2, 0, 1.3333]
    assert (table["peak_memory_bytes"] == 2**29).all()

    assert call("benchmark", "rounds=2", *SMALL) == 0  # nothing is missing
    assert len(timed) == 8
    shutil.rmtree(next((results_dir / "runs").iterdir()))
    assert call("benchmark", "rounds=2", *SMALL) == 0
    assert len(timed) == 12  # the whole of its round

    archive, runs = pack(results_dir)
    assert runs == 8
    unpack(archive, tmp_path / "there")
    (timings,) = read_timings(tmp_path / "there")
    assert timings.rounds == (0, 1)


def test_a_turn_can_be_timed_in_a_process_of_its_own() -> None:
    """Which tests/experiments/sizes/test_training_step.py starts."""
    config = planned("rounds=1")[0][0].resolved
    cpu = torch.device("cpu")
    sent = pickle.loads(pickle.dumps(partial(prepare_step, config, cpu)))
    assert time_step(sent, device=cpu, threads=1, seconds=0.01).seconds > 0


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("models=xception,resnet",), "error: model=resnet: no such option; available: inception_v3, "),
        (("image_size=20",), "error: dataset.image_size=20: too small for model "),
        (("compiled=true",), "error: compiled: needs against="),
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

    monkeypatch.setattr(room, "time_apart", killed)
    assert call("benchmark", "models=inception_v3_small,xception", "trainer.accelerator=cpu", *TINY) == 2
    assert capsys.readouterr().err == f"error: {line}\n"

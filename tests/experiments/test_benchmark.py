"""`python -m ablations benchmark`: its words, its order, its table, on networks of a few channels."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from ablations.errors import UserError
from experiments import benchmark as room
from experiments.benchmark import (
    Measurement,
    Options,
    Setting,
    benchmark_table,
    compose_networks,
    find_device,
    fit_on_gpu,
    largest_batch_size,
    parse_options,
    turns,
)
from experiments.sizes.network_cost import NetworkCost, count_network


def test_words_are_read() -> None:
    assert parse_options([]) == Options()
    words = ["batch_size=8", "image_size=96", "steps=5", "rounds=2", "models=xception,mobilenet"]
    words += ["num_classes=10", "results_dir=there", "trainer.threads=2", "fully_connected=two"]
    assert parse_options(words) == Options(
        models=("xception", "mobilenet"),
        image_size=96,
        num_classes=10,
        batch_size=8,
        steps=5,
        rounds=2,
        overrides=("trainer.threads=2", "fully_connected=two"),
        results_dir=Path("there"),
    )
    assert parse_options(["batch_size=auto"]).batch_size is None


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("residual", "residual: no option of benchmark; there are: models=, "),
        ("steps", "steps: no option of benchmark; "),
        ("step=3", "step=3: no option of benchmark; "),
        ("dataset.channels=1", "dataset.channels=1: no option of benchmark; "),
        ("dataset=cifar10", "dataset=cifar10: no option of benchmark; "),
        ("model=xception", "model=xception: no option of benchmark; "),
        ("recipe.epochs=3", "recipe.epochs=3: no option of benchmark; "),
        ("residual=true,false", "residual=true,false: no option of benchmark; "),
        ("batch_size=0", "batch_size=0: must be a whole number of at least 1"),
        ("rounds=auto", "rounds=auto: must be a whole number of at least 1"),
        ("image_size=9.5", "image_size=9.5: must be a whole number of at least 1"),
        ("models=xception", "models=xception: must be two or more different ones, separated by commas"),
        ("models=a,a", "models=a,a: must be two or more different ones, separated by commas"),
    ],
)
def test_a_bad_word_is_a_line(word: str, line: str) -> None:
    with pytest.raises(UserError) as refusal:
        parse_options([word])
    assert str(refusal.value).startswith(line)
    assert "\n" not in str(refusal.value)


def test_another_question_has_another_file() -> None:
    assert Options().file_name == "table03_size_and_speed"
    same = parse_options(["steps=9", "rounds=9", "batch_size=2", "trainer.threads=2", "image_size=299"])
    assert same.file_name == "table03_size_and_speed"
    other = parse_options(["image_size=64", "models=xception,mobilenet", "fully_connected=two"])
    assert other.file_name == (
        "table03_size_and_speed__models=xception,mobilenet__image_size=64__fully_connected=two"
    )


def test_networks_are_those_of_table_3() -> None:
    configurations = compose_networks(Options())
    costs = {model: count_network(run.resolved) for model, run in configurations.items()}
    assert {model: cost.parameters for model, cost in costs.items()} == {
        model: parameters for model, (parameters, _) in room.PAPER.items()
    }
    assert costs["xception"].multiply_adds == pytest.approx(8.4e9, rel=0.01)
    assert costs["inception_v3_table3"].multiply_adds == pytest.approx(5.73e9, rel=0.03)


def test_an_override_reaches_the_networks() -> None:
    options = parse_options(["fully_connected=two", "num_classes=17000"])
    run = compose_networks(options)["xception"]
    assert count_network(run.resolved).parameters == 115_629_968


def test_device_and_threads_are_the_trainers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    for accelerator in ("auto", "cpu"):
        assert find_device({"accelerator": accelerator, "threads": 3}) == torch.device("cpu")
    assert threads == [3, 3]
    with pytest.raises(ValueError, match=r"^trainer\.accelerator=gpu: must be cpu, as there is no CUDA"):
        find_device({"accelerator": "gpu", "threads": 1})
    with pytest.raises(ValueError, match=r"^trainer\.accelerator=tpu: must be one of auto, cpu, gpu, cuda$"):
        find_device({"accelerator": "tpu", "threads": 1})
    with pytest.raises(ValueError, match=r"^trainer\.threads=0: must be a whole number of at least 1$"):
        find_device({"accelerator": "cpu", "threads": 0})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert find_device({"accelerator": "auto", "threads": 1}) == torch.device("cuda:1")
    assert find_device({"accelerator": "cpu", "threads": 1}) == torch.device("cpu")


@pytest.mark.parametrize(("limit", "found"), [(1, 1), (3, 2), (31, 16), (32, 32), (63, 32), (700, 512)])
def test_largest_batch_is_found_by_doubling_and_halving(limit: int, found: int) -> None:
    assert largest_batch_size(lambda size: size <= limit) == found


def test_no_batch_fits() -> None:
    with pytest.raises(UserError, match=r"^batch_size=auto: not even one image fits"):
        largest_batch_size(lambda _: False)


SETTINGS = [
    Setting(model, channels_last, bf16)
    for bf16 in (False, True)
    for channels_last in (False, True)
    for model in ("first", "second")
]


def test_a_batch_fits_where_every_setting_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    trained: list[Setting] = []

    def prepare(setting: Setting, batch_size: int):
        def step() -> None:
            trained.append(setting)
            # Out of memory in the second step of one setting, when its optimizer has its state.
            if batch_size > 4 and setting == SETTINGS[5] and trained.count(setting) == 2:
                raise torch.cuda.OutOfMemoryError

        return step

    assert fit_on_gpu(prepare, SETTINGS, 4)
    assert trained == [setting for setting in SETTINGS for _ in range(2)]
    trained.clear()
    assert not fit_on_gpu(prepare, SETTINGS, 8)


def test_networks_take_turns_and_which_is_first_alternates() -> None:
    order = list(turns(SETTINGS, 3))
    assert [number for number, _ in order] == 8 * [0] + 8 * [1] + 8 * [2]
    rounds = [[setting for number, setting in order if number == n] for n in range(3)]
    assert all(sorted(one) == sorted(SETTINGS) for one in rounds)
    assert rounds[0] == rounds[2] == rounds[1][::-1]
    for one in rounds:
        for a, b in zip(one[::2], one[1::2], strict=True):
            assert a[1:] == b[1:]  # a pair in one order and precision
            assert a.model != b.model


def test_numbers_by_hand() -> None:
    inception, xception = (
        Measurement(
            Setting(model, True, False),
            NetworkCost(parameters, 20, 3),
            (2.0, 4.0, 3.0),
            (1.0, 1.0, 1.0),
            None,
        )
        for model, (parameters, _) in room.PAPER.items()
    )
    xception = replace(xception, speeds=(1.0, 3.0, 2.4), ratios=(0.5, 0.75, 0.8), peak_memory=2**30)
    table = benchmark_table([inception, xception])
    first, second = table.iloc[0], table.iloc[1]
    assert list(first[["memory_order", "precision"]]) == ["channels-last", "float32"]
    names = [f"steps_per_second_{part}" for part in ("median", "min", "max")]
    assert list(first[names]) == [3.0, 2.0, 4.0]
    names = [f"ratio_{part}" for part in ("median", "min", "max")]
    assert list(second[names]) == [0.75, 0.5, 0.8]
    assert first[[*names, "ratios", "peak_memory_bytes", "paper_ratio"]].isna().all()
    assert second["ratios"] == "0.5 0.75 0.8"
    assert (second["peak_memory_bytes"], second["paper_steps_per_second"]) == (2**30, 28)
    assert second["paper_ratio"] == pytest.approx(0.90, abs=0.005)


def test_the_papers_numbers_stand_beside_its_networks_alone() -> None:
    inception, narrow = (
        Measurement(Setting(model, True, False), NetworkCost(parameters, 20, 3), (2.0,), (1.0,), None)
        for model, parameters in (("inception_v3_table3", 23_626_728), ("xception", 21_878_880))
    )
    table = benchmark_table([inception, narrow])
    assert list(table["paper_parameters"].fillna(0)) == [23_626_728, 0]
    assert list(table["paper_steps_per_second"].fillna(0)) == [31, 0]
    assert table["paper_ratio"].isna().all()


TINY = ("batch_size=2", "image_size=32", "num_classes=7", "model.width=0.03", "model.stem_stride=1")


@pytest.mark.slow
def test_the_command_measures_and_writes_the_table(
    call, results_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # One process for all networks would do for the test; the fresh ones have a test of their own.
    monkeypatch.setattr(room, "peak_resident_memory", lambda prepare, threads: (prepare()(), 2**29)[1])
    words = ("models=mobilenet,xception", "steps=1", "rounds=2", "trainer.accelerator=cpu", *TINY)
    assert call("benchmark", *words) == 0
    shown = capsys.readouterr()
    assert shown.err.count("steps/second\n") == 2 * 2 * 2
    name = "table03_size_and_speed__models=mobilenet,xception__image_size=32__num_classes=7"
    name += "__model.width=0.03__model.stem_stride=1"
    paths = [results_dir / "tables" / f"{name}.{suffix}" for suffix in ("csv", "md", "tex")]
    assert shown.out.splitlines()[-3:] == [str(path) for path in paths]
    assert "Size and speed" in shown.out

    table = pd.read_csv(paths[0])
    assert list(table["model"]) == ["mobilenet", "xception"] * 2
    assert list(table["memory_order"]) == ["contiguous"] * 2 + ["channels-last"] * 2
    assert (set(table["batch_size"]), set(table["image_size"])) == ({2}, {32})
    assert set(table["precision"]) == {"float32"}
    assert (table["steps_per_second_min"] <= table["steps_per_second_median"]).all()
    assert (table["steps_per_second_median"] > 0).all()
    assert (table["peak_memory_bytes"] == 2**29).all()
    assert list(table["ratio_median"].isna()) == [True, False] * 2
    assert table["paper_parameters"].isna().all()  # these are not its networks
    markdown, latex = paths[1].read_text(), paths[2].read_text()
    for text in (markdown, latex):
        for phrase in ("Training steps of 2 images of 32x32 pixels, 7 classes", "Measured on ", "torch "):
            assert phrase in text
    assert "ratio to mobilenet" in markdown
    assert "Batch of 2 images: as given." in markdown
    assert "60 K80 GPUs" in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 1


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("models=xception,resnet",), "error: model=resnet: no such option; there are: googlenet, "),
        (("image_size=20",), "error: dataset.image_size=20: too small for model "),
        (("model.width=0",), "error: model.width=0: must be a number above 0"),
        (("model.depth=3",), "error: model.depth: no such key; there are: _target_, "),
        (("trainer.threads=no",), "error: trainer.threads=no: must be a whole number of at least 1"),
        (("fully_connected=three",), "error: fully_connected=three: no such option; there are: none, two"),
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
    def killed(*_: object) -> None:
        raise error

    monkeypatch.setattr(room, "peak_resident_memory", killed)
    assert call("benchmark", "models=mobilenet,xception", "trainer.accelerator=cpu", *TINY) == 2
    assert capsys.readouterr().err == f"error: {line}\n"

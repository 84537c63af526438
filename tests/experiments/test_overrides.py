"""What stands with a study on the command line: what is refused, and what its files are named by."""

import re
import shlex

import pytest

from ablations.errors import UserError
from experiments.configuration import override_values, parse_override
from experiments.overrides import (
    check_arguments,
    output_suffix,
    seed_budget,
    split_seed,
    studies_suffix,
    sweep_output,
    variations,
)


@pytest.mark.parametrize(
    ("overrides", "suffix"),
    [
        ([], ""),
        (["results_dir=elsewhere"], ""),
        (["logger=none", "trainer.threads=2", "dataset.root=/data"], ""),
        (["seed=0,1"], "__seed=0,1"),
        (["seed=range(0,3)"], "__seed=0,1,2"),
        (["recipe.epochs=12"], "__recipe.epochs=12"),
        (["recipe.epochs=12", "seed=4", "logger=none"], "__recipe.epochs=12__seed=4"),
        (
            ["recipe.epochs=2", "~norm", "recipe.batch_size=64"],
            "___norm__recipe.batch_size=64__recipe.epochs=2",
        ),
        (["tuning.trials=3", "tuning=x", "width=2"], "__width=2__tuning=x__tuning.trials=3"),
        (["dataset='fashion_mnist'"], "__dataset=_fashion_mnist_"),
        (["~fully_connected"], "___fully_connected"),
    ],
)
def test_a_varied_study_has_files_of_its_own(overrides: list[str], suffix: str) -> None:
    assert output_suffix(overrides) == suffix


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("residual=false,true", "only the seed can take several values"),
        ("recipe.epochs=1,2", "recipe.epochs=1,2: with a study only the seed"),
        ("seed=0,1,0", "seed=0,1,0: duplicate seed 0"),
        ("seed=0,a", "seed=0,a: seeds must be whole numbers"),
        ("~seed", "~seed: seeds must be whole numbers"),
    ],
)
def test_what_cannot_be_varied_beside_a_study(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        split_seed([override])
    assert "\n" not in str(raised.value)


def test_the_files_of_many_changes_have_short_names() -> None:
    def suffix(**changes: float) -> str:
        return output_suffix(
            [f"model.some_long_key_of_a_network_{key}={value}" for key, value in changes.items()]
        )

    assert suffix(a=1) == "__model.some_long_key_of_a_network_a=1"
    many = [suffix(a=1, b=2, c=3, d=4, e=last) for last in (5, 6)]
    assert many[0].startswith("__model.some_long_key_of_a_network_a=1__")
    assert many[0] != many[1]
    assert all(len(name) < 100 for name in many)


def test_the_files_of_many_seeds_have_short_names() -> None:
    suffixes = [output_suffix([f"seed=range({seeds})"]) for seeds in ("300", "0,600,2")]
    assert suffixes[0].startswith("__seed=0-299.n300.")
    assert len({*suffixes}) == 2
    assert all(len(suffix) < 80 for suffix in suffixes)


def test_the_files_about_many_studies_have_short_names() -> None:
    assert studies_suffix([]) == ""
    assert studies_suffix(["residual", "spectrum"]) == "__study=residual,spectrum"
    many = [studies_suffix([f"study_{number}" for number in range(count)]) for count in (30, 31)]
    assert many[0].startswith("__study=study_0,study_1,")
    assert many[0] != many[1]
    assert all(len(suffix) <= 120 for suffix in many)


@pytest.mark.parametrize(
    ("words", "budget"),
    [
        ([], None),
        (["seeds=null", "seed=0,1"], None),
        (["seeds=auto"], 20),
        (["seeds=auto", "seed_budget=6"], 6),
        (["seeds='auto'", "recipe.epochs=2"], 20),
    ],
)
def test_the_budget_of_seeds(words: list[str], budget: int | None) -> None:
    assert seed_budget(words) == budget


@pytest.mark.parametrize(
    ("arguments", "repeated"),
    [
        (["dataset.shards.test=test-0.tar", "dataset.shards.test=test-1.tar"], "dataset.shards.test"),
        (["dataset.shards={train:a,train:b}"], "train"),
        (["residual=true", "seed=0", "residual=true"], "residual"),
        (["+x=1", "++x=1"], "x"),
        (["--file=a", "--file=a"], "--file"),
        (["-m", "residual=true,'true'"], "true"),
        (["-m", "study=residual,residual"], "residual"),
        (["-m", "model.width=0.1,0.10"], "0.1"),
    ],
)
def test_what_is_given_twice_is_refused(arguments: list[str], repeated: str) -> None:
    with pytest.raises(UserError, match=rf": duplicate (\S+ )?{re.escape(repeated)}; give"):
        check_arguments(arguments)


def test_a_study_may_be_named_as_a_group_is_and_numbers_that_look_alike_are_options_of_their_own() -> None:
    check_arguments(["residual", "residual=true", "-m", "segments=1e-3,0.001", "model.width=1,true"])
    check_arguments(["reference", "--also", "--also"])


@pytest.mark.parametrize("sweeps", [False, True])
@pytest.mark.parametrize(
    ("key", "value", "wrong"),
    [
        ("results_dir", "für_wen", "ü"),
        ("results_dir", "a#b", "#"),
        ("results_dir", "a&b", "&"),
        ("results_dir", "結果", "結"),
        ("results_dir", "it's", "'"),
        ("results_dir", 'a"b\\', '"'),
        ("results_dir", "~/mine", "~"),
        ("weights", "runs/epoch=5-step=100.ckpt", "="),
        ("dataset.shards.test", "test-{0000..0001}.tar", "{"),
    ],
)
def test_a_character_that_must_be_quoted_is_named_with_the_form_that_works(
    key: str, value: str, wrong: str, sweeps: bool
) -> None:
    values = f"{value},plain" if sweeps else value
    flags = ["-m"] if sweeps else []
    with pytest.raises(UserError) as refusal:
        check_arguments([*flags, f"{key}={values}"])
    start, _, form = str(refusal.value).partition(" must be in quotes; in a shell: ")
    assert start == f"{key}={values}: {wrong}"
    (works,) = shlex.split(form)
    check_arguments([*flags, works])
    override = parse_override(works)
    assert override is not None
    assert [str(getattr(item, "text", item)) for item in override_values(override)] == values.split(",")


def test_what_varies_a_study_is_every_combination_of_what_is_listed() -> None:
    words = ["recipe.epochs=1,2", "seed=0,1", "dataset=fashion_mosaic", "weight_decay=0,1e-4"]
    assert variations(words) == [
        [f"recipe.epochs={epochs}", "seed=0,1", "dataset=fashion_mosaic", f"weight_decay={decay}"]
        for epochs in (1, 2)
        for decay in ("0", "0.0001")
    ]
    assert variations(["seed=0,1"]) == [["seed=0,1"]]
    with pytest.raises(UserError, match=r"recipe\.epochs=glob\(\*\): expected values"):
        variations(["recipe.epochs=glob(*)"])
    with pytest.raises(UserError, match="1100 combinations; at most 1000"):
        variations(["recipe.epochs=range(1,1101)"])


def test_files_about_swept_choices_have_names_that_are_safe_and_their_own() -> None:
    words = ["recipe.optimizer.lr=0.05,0.1", "residual=true,false", "seed=0,1", "results_dir=/elsewhere"]
    plain = "sweep__recipe.optimizer.lr=0.05,0.1__residual=true,false__seed=0,1"
    assert sweep_output(words) == plain
    assert sweep_output([words[0], "residual='true','false'", *words[2:3]]) == plain  # as run.py quotes them
    assert sweep_output([*words, "metrics=[macro_f1]"]) != plain  # arms are compared by another number
    others = [
        ["weights='/a/b','/a/c'"],
        ["weights='/a_b','/a/c'"],
        ["weights='../../é','b c'"],
        ["recipe.epochs=range(1,200)"],
        ["recipe.epochs=range(1,201)"],
        ["model.note='$(x)','|'"],
    ]
    names = [sweep_output(words) for words in others]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[\w=.,-]{1,150}", name, re.ASCII) for name in names)

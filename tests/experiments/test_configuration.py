"""What a user typed becomes a run, and a run an identity."""

import copy
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from omegaconf import OmegaConf

from ablations.errors import UserError
from ablations.runs.identity import as_json, identity_of, is_outside_identity
from experiments.configuration import (
    RunConfiguration,
    hydra_value,
    lists_values,
    override_values,
    parse_override,
    quote_option_names,
)


@pytest.mark.parametrize(
    ("typed", "quoted"),
    [
        ("residual=true,false", "residual='true','false'"),
        ("residual=true", "residual='true'"),
        ("residual=False", "residual='false'"),
        ("residual=true,'false'", "residual='true','false'"),
        ("residual= true, false", "residual='true','false'"),
        ("residual=choice(true,false)", "residual=choice('true','false')"),
        ("+residual=true", "+residual='true'"),
        ("++residual=false", "++residual='false'"),
        ("residual=null", "residual='null'"),  # no option: told with those that exist
        ("dataset=10", "dataset='10'"),
        ("study=1.5", "study='1.5'"),
        ("segments=1e-3,0.50,'007'", "segments='1e-3','0.50','007'"),  # the files' names, not numbers
        ("segments=choice(1_0,0x)", "segments=choice('1_0','0x')"),
    ],
)
def test_options_that_hydra_takes_for_another_type_are_quoted(typed: str, quoted: str) -> None:
    assert quote_option_names([typed]) == [quoted]


@pytest.mark.parametrize(
    "argument",
    [
        "residual='true','false'",
        "intermediate_activation=none,relu,elu",
        "recipe.channels_last=true",  # a key, not a group
        "hydra/launcher=ray",
        "-m",
        "~residual=true",
        "+x={a:1}",
        "residual={",
        "",
    ],
)
def test_every_other_argument_is_left_as_it_is(argument: str) -> None:
    assert quote_option_names([argument]) == [argument]


@pytest.mark.parametrize(
    "value",
    [None, True, 3, 1e-05, 1e22, math.inf, -math.inf, "1e-3", "it's a \\", {"a": [False, {"b": "null"}]}],
)
def test_hydra_reads_a_written_value_back(value: Any) -> None:
    override = parse_override(f"recipe.key={hydra_value(value)}")
    assert override is not None
    read = override.value()
    assert (read, type(read)) == (value, type(value))


def test_a_list_is_no_option() -> None:
    with pytest.raises(UserError, match=r"^residual=\[true,false\]: .*residual=A,B"):
        quote_option_names(["residual=[true,false]"])


def test_quoting_keeps_the_order_of_the_arguments() -> None:
    arguments = ["-m", "model=xception", "residual=true,false", "seed=0"]
    assert quote_option_names(arguments) == ["-m", "model=xception", "residual='true','false'", "seed=0"]


def test_what_is_typed_composes(configure) -> None:
    run = configure("residual=false", "intermediate_activation=elu", "seed=7")
    assert run.seed == 7
    assert run.choices == {
        "model": "xception_small",
        "intermediate_activation": "elu",
        "intermediate_norm": "none",
        "operation_order": "depthwise_first",
        "residual": "false",
        "fully_connected": "none",
        "norm": "network",
        "segments": "per_channel",
        "spatial_kernel": "square",
        "dataset": "fashion_mnist_embedded",
        "recipe": "embedded",
        "optimizer": "sgd",
        "scheduler": "one_cycle",
        "augmentation": "dataset",
        "loss": "task",
        "trainer": "one_device",
        "logger": "wandb",
        "diagnostics": "none",
    }
    assert run.arm_name == "intermediate_activation=elu residual=false"
    assert configure("model=inception_v3").arm_name == "default"
    assert configure("recipe=imagenet").arm_name == "default"
    assert configure("recipe=imagenet", "optimizer=sgd").arm_name == "optimizer=sgd"
    assert run.resolved["residual"]["_target_"] == "lightning_modules.networks.blocks.no_shortcut"
    assert run.resolved["model"]["residual"] == run.resolved["residual"]
    assert "hydra" not in run.resolved


# Identity


def leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from leaves(value, (*path, key))
    else:
        yield path


def changed(run: RunConfiguration, path: tuple[str, ...], value: Any) -> RunConfiguration:
    resolved = copy.deepcopy(dict(run.resolved))
    node = resolved
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return RunConfiguration(resolved, run.choices)


def test_exactly_what_can_change_the_outcome_changes_the_run_id(configure) -> None:
    run = configure()
    changing = set()
    for path in leaves(dict(run.resolved)):
        value = 2 if path in {("trainer", "devices"), ("trainer", "num_nodes")} else "another value"
        if changed(run, path, value).run_id != run.run_id:
            changing.add(".".join(path))
    every = {".".join(path) for path in leaves(dict(run.resolved))}
    parts = ("model", "recipe", "dataset")
    built = {key for key in every if key.partition(".")[0] in parts}
    keys = {"outcome_version", "seed", "train", "initialize", "new_head", "weights_sha256"}
    keys |= {f"trainer.{key}" for key in ("compile", "devices", "num_nodes")}
    assert changing == keys | built - {"dataset.root", "dataset.download", "dataset.num_workers"}
    # A sample by name, so that the comparison above is not of two empty sets.
    assert {
        "recipe.epochs",
        "recipe.weight_init._target_",
        "recipe.optimizer.lr",
        "model._target_",
        "model.width",
        "model.residual._target_",
        "dataset.checksums.train-images-idx3-ubyte",
        "dataset.split_seed",
    } <= changing
    # A group counts through what takes it, not by its name or its own node.
    assert {
        "residual._target_",
        "results_dir",
        "weights",
        "trainer.threads",
        "logger.mode",
    } <= every - changing


@pytest.mark.parametrize("place", [("model",), ("recipe",), ("recipe", "optimizer"), ("dataset",)])
def test_a_key_more_is_another_run(configure, place: tuple[str, ...]) -> None:
    run = configure()
    assert changed(run, (*place, "another_key"), 1).run_id != run.run_id


def test_the_same_run_however_it_is_asked_for(configure, results_dir) -> None:
    run = configure("residual=true", "recipe.epochs=3", "recipe.dropout=0.0", "seed=1")
    for overrides in [
        ("seed=1", "recipe.dropout=0.0", "recipe.epochs=3", "residual=true"),
        ('residual="true"', "recipe.epochs=3", "recipe.dropout=0", "seed=1"),
        ("recipe.epochs=3", "seed=1", "recipe.optimizer.lr=5e-2", "model.width=0.125"),
        ("recipe.epochs=3", "seed=1", f"results_dir={results_dir}/elsewhere"),
        ("recipe.epochs=3", "seed=1", "logger.mode=online", "++logger.group='a b'", "++logger.job_type='c'"),
        ("recipe.epochs=3", "seed=1", "trainer.threads=2", "trainer.accelerator=cpu", "dataset.root=/data"),
        ("recipe.epochs=3", "seed=1", "study=residual"),
        ("recipe.epochs=3", "seed=1", "diagnostics=all", "diagnostics.dead_units.images=100"),
    ]:
        assert configure(*overrides).run_id == run.run_id, overrides


@pytest.mark.parametrize(
    "override",
    [
        "residual=false",
        "outcome_version=1000",
        "weight_decay=4e-5",
        "recipe.tf32=true",
        "recipe.fused_optimizer=true",
    ],
)
def test_another_choice_is_another_run(configure, override: str) -> None:
    assert configure(override).run_id != configure().run_id


def test_processes_are_part_of_a_run_where_each_has_statistics_or_draws_of_its_own(configure) -> None:
    one = configure()
    assert (one.processes, configure("trainer=ddp", "trainer.num_nodes=3").processes) == (1, 6)
    assert configure("trainer=ddp", "trainer.devices=1").run_id == one.run_id
    ids = {configure("trainer=ddp", f"trainer.devices={devices}").run_id for devices in (2, 4)}
    assert len(ids | {one.run_id}) == 3
    assert configure("trainer=ddp", "trainer.devices=1", "trainer.num_nodes=2").run_id in ids
    synchronized = ("trainer=ddp", "trainer.sync_batchnorm=true")
    assert configure(*synchronized).run_id == one.run_id
    assert configure(*synchronized, "recipe.dropout=0.5").run_id != configure("recipe.dropout=0.5").run_id


def test_the_default_compiler_is_the_same_run_by_name(configure) -> None:
    named, default, other = (
        configure(f"trainer.compile={value}").run_id for value in ("inductor", "true", "eager")
    )
    assert named == default != other


def test_run_id_is_twelve_hexadecimal_digits_and_blind_to_the_order_of_keys(configure) -> None:
    run = configure()
    assert len(run.run_id) == 12
    assert int(run.run_id, 16) >= 0

    def backwards(node: Any) -> Any:
        return {key: backwards(node[key]) for key in reversed(node)} if isinstance(node, dict) else node

    assert RunConfiguration(backwards(dict(run.resolved)), run.choices).run_id == run.run_id


def test_identity_leaves_the_configuration_alone(configure) -> None:
    run = configure()
    before = copy.deepcopy(run.resolved)
    assert "root" not in identity_of(run.resolved)["dataset"]
    assert run.resolved == before


def test_true_is_not_one(configure) -> None:
    run = configure()
    ids = {changed(run, ("seed",), value).run_id for value in (1, 1.0, True, "1", None)}
    assert len(ids) == 4  # 1 and 1.0 are one


def test_data_fingerprint_is_that_of_the_checksums_alone(configure) -> None:
    run = configure()
    assert run.data_fingerprint.startswith("sha256:")
    assert configure("seed=1", "dataset.root=/data").data_fingerprint == run.data_fingerprint
    key = ("dataset", "checksums", "train-labels-idx1-ubyte")
    assert changed(run, key, "sha256:0").data_fingerprint != run.data_fingerprint
    assert configure("dataset=fashion_mnist").data_fingerprint != run.data_fingerprint


@pytest.mark.parametrize(
    ("key", "outside"),
    [
        ("results_dir", True),
        ("logger", True),
        ("logger.mode", True),
        ("++logger.group", True),
        ("+trainer.x", True),
        ("study", True),
        ("dataset.root", True),
        ("hydra.verbose", True),
        ("dataset", False),
        ("dataset.root_of_all", False),
        ("loggers", False),
        ("seed", False),
        ("~recipe.dropout", False),
    ],
)
def test_is_outside_identity(key: str, outside: bool) -> None:
    assert is_outside_identity(key) is outside


@pytest.mark.parametrize(
    "key",
    [
        "seed",
        "trainer.threads",
        "dataset.checksums",
    ],
)
def test_what_every_run_has_cannot_be_deleted(configure, key: str) -> None:
    run = configure()
    resolved = copy.deepcopy(dict(run.resolved))
    *parents, last = key.split(".")
    node = resolved
    for parent in parents:
        node = node[parent]
    del node[last]
    with pytest.raises(UserError, match=f"^{key}: "):
        RunConfiguration.from_composed(OmegaConf.create(resolved), run.choices)


def test_the_home_directory_is_meant_by_a_tilde(configure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    run = configure("results_dir='~/mine'")
    assert str(run.results_dir) == run.resolved["logger"]["dir"] == "/home/somebody/mine"
    assert configure("logger.dir='~/logs'").resolved["logger"]["dir"] == "/home/somebody/logs"
    with pytest.raises(UserError, match=r"^results_dir=~nobody-has-this-name/a: no such user"):
        configure("results_dir='~nobody-has-this-name/a'")


@pytest.mark.parametrize("value", ["5", "null", "[a]"])
def test_results_dir_is_a_folder(configure, value: str) -> None:
    with pytest.raises(UserError, match=r"^results_dir="):
        configure(f"results_dir={value}")


@pytest.mark.parametrize(
    ("argument", "listed", "values"),
    [
        ("seed=0,1", True, [0, 1]),
        ("seed=choice(0,1)", True, [0, 1]),
        ("seed=3", False, [3]),
        ("seed=[0,1]", False, [[0, 1]]),
        ("residual=glob(*)", False, None),
        ("seed=interval(0,1)", False, None),
    ],
)
def test_values_of_an_override(argument: str, listed: bool, values: list[Any] | None) -> None:
    override = parse_override(argument)
    assert override is not None
    assert lists_values(override) is listed
    if values is not None:
        assert override_values(override) == values


@pytest.mark.parametrize("argument", ["-m", "--cfg", "seed={", "seed"])
def test_what_is_no_override(argument: str) -> None:
    assert parse_override(argument) is None


def test_a_value_without_a_key_is_refused() -> None:
    with pytest.raises(UserError, match=r"^=true: no key before the =$"):
        quote_option_names(["=true"])


HARDTANH = (
    "intermediate_activation._target_=torch.nn.Hardtanh",
    "+intermediate_activation.min_val=-inf",
    "+intermediate_activation.max_val=inf",
)


def test_an_infinite_setting_of_the_network_is_stored_and_names_the_same_run(configure) -> None:
    run = configure(*HARDTANH)
    stored = json.loads(json.dumps(as_json(run.resolved), allow_nan=False))
    assert run.resolved["model"]["separable"]["intermediate_activation"]["max_val"] == math.inf
    assert stored["model"]["separable"]["intermediate_activation"]["max_val"] == ".inf"
    assert stored["intermediate_activation"]["min_val"] == "-.inf"
    assert RunConfiguration(stored, run.choices).run_id == run.run_id
    assert run.run_id != configure(*HARDTANH[:-1], "+intermediate_activation.max_val=1").run_id


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("recipe.optimizer.lr=nan", "recipe.optimizer.lr=nan"),
        ("recipe.optimizer.weight_decay=1e999", "recipe.optimizer.weight_decay=inf"),
        ("+recipe.optimizer.betas=[0.9,nan]", "recipe.optimizer.betas[1]=nan"),
        ("logger.every_n_steps=inf", "logger.every_n_steps=inf"),
        ("+diagnostics.x.epsilon=inf", "diagnostics.x.epsilon=inf"),
        ("+intermediate_activation.max_val=nan", "intermediate_activation.max_val=nan"),
        (f"recipe.optimizer.lr=1{'0' * 400}", "recipe.optimizer.lr"),
    ],
)
def test_what_no_record_can_hold_is_refused_in_a_line(configure, override: str, key: str) -> None:
    with pytest.raises(UserError) as raised:
        configure(override)
    assert key in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_value_of_a_type_that_json_lacks_is_refused(configure) -> None:
    config = OmegaConf.create(configure().resolved)
    config.recipe.optimizer.lr = b"0.1"
    with pytest.raises(UserError, match=r"^recipe\.optimizer\.lr: bytes"):
        RunConfiguration.from_composed(config, {})

"""Every option file of ours: it composes, trains a step, and each of its keys is explained."""

import itertools
import json
import math
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from ablations.errors import UserError
from ablations.evidence.claims import CLAIMS
from ablations.metrics import METRIC
from ablations.studies.schema import BENCHMARK_FILE, STUDY, TUNING
from ablations.validation import json_schema
from experiments.check import check_run
from experiments.configuration import RunConfiguration
from experiments.planning import compose_runs, hydra_configuration, plan_study
from experiments.project import FRAMEWORK_CONF, NOT_GROUPS, current
from experiments.sizes.network_cost import count_parameters
from lightning_modules.assembly import make_task
from lightning_modules.initialization import initialize
from lightning_modules.networks.separable import SeparableConvNorm
from lightning_modules.schedules import make_scheduler
from lightning_modules.tasks import MultiLabel
from tests import ours

pytestmark = pytest.mark.slow  # plans whole studies or builds many networks

OPTIONS = [(group, option) for group, option in ours.OPTIONS if group not in NOT_GROUPS]
CHOICES = [
    (group, option) for group, option in OPTIONS if not group.startswith(("hydra/", "study", "tuning"))
]
NEEDS_LARGER_IMAGES = {"vgg16": "cifar10", "inception_v3": "imagenet", "inception_v3_table3": "imagenet"}
"""Networks that the default dataset's images are too small for, and a dataset whose images are not."""


def options_of(group: str) -> list[str]:
    return [option for of_group, option in OPTIONS if of_group == group]


def overrides_for(group: str, option: str) -> list[str]:
    """What chooses an option, with a dataset that it can take."""
    larger = NEEDS_LARGER_IMAGES.get(option) if group == "model" else None
    return [f"{group}={option}", *([f"dataset={larger}"] if larger else [])]


def composed(*overrides: str) -> RunConfiguration:
    with hydra_configuration():
        (run,) = compose_runs(overrides)
    return run


OF_THE_PAPER = {
    "intermediate_activation": {"none", "relu", "elu"},
    "residual": {"true", "false", "projections"},
    "operation_order": {"depthwise_first", "pointwise_first"},
    "segments": {"one", "three", "four", "channels_16", "channels_4", "per_channel"},
    "intermediate_norm": {"none", "batch_norm"},
    "spatial_kernel": {"square", "spatially_separable"},
    "fully_connected": {"none", "two"},
    "model": {"xception", "inception_v3", "inception_v3_table3", "separable_vgg", "vgg16"},
    "dataset": {"fashion_mnist_embedded", "fashion_mosaic", "imagenet", "jft"},
}
"""What the studies of the paper need, at least: whoever adds an option adds a file."""


@pytest.mark.parametrize("group", OF_THE_PAPER)
def test_what_the_paper_compares_can_be_chosen(group):
    assert OF_THE_PAPER[group] <= set(options_of(group))


@pytest.mark.parametrize(
    ("group", "option"), [item for item in OPTIONS if item[0].startswith(("hydra/", "tuning"))]
)
def test_option_composes_and_resolves(group, option):
    assert composed(f"{group}={option}").resolved["seed"] == 0


def noise_labels(config: Mapping[str, Any], draws: torch.Generator) -> torch.Tensor:
    """Four images' labels, as the task of a dataset has them."""
    num_classes = config["dataset"]["num_classes"]
    if isinstance(make_task(config), MultiLabel):
        return torch.randint(2, (4, num_classes), generator=draws).float()
    return torch.randint(num_classes, (4,), generator=draws)


def one_step(run: RunConfiguration) -> nn.Module:
    """Train one step of a run on noise of its dataset's shape; every parameter must take part."""
    config = run.resolved
    dataset, recipe = config["dataset"], config["recipe"]
    network = instantiate(config["model"])
    initialize(network, run.seed, instantiate(recipe["weight_init"]))
    if recipe["channels_last"]:
        network.to(memory_format=torch.channels_last)
    optimizer = instantiate(recipe["optimizer"])(network.parameters())
    total_steps = recipe["epochs"] * 8_000  # the JFT rate falls after 46,875 steps of 64 images
    scheduler = make_scheduler(instantiate(recipe["scheduler"]), optimizer, total_steps=total_steps)

    draws = torch.Generator().manual_seed(0)
    size = min(dataset["image_size"], 96)  # 299 takes seconds; the parameters are the same
    images = torch.rand(4, dataset["channels"], size, size, generator=draws) * 2 - 1
    labels = noise_labels(config, draws)
    logits = network(images)
    assert logits.shape == (4, dataset["num_classes"])
    assert logits.isfinite().all()
    (instantiate(recipe["loss"]) or make_task(config).loss)(logits, labels).backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    without = [n for n, g in gradients.items() if g is None or not g.isfinite().all() or not g.any()]
    assert without == []

    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    rate = optimizer.param_groups[0]["lr"]
    optimizer.step()
    if run.choices["scheduler"] != "constant":
        for _ in range(total_steps - 1):
            scheduler.step()
            if optimizer.param_groups[0]["lr"] != rate:
                break
        assert optimizer.param_groups[0]["lr"] != rate
    unmoved = [name for name, parameter in network.named_parameters() if torch.equal(parameter, before[name])]
    assert unmoved == []
    return network


TRAINED: set[str] = set()
"""What has trained a step already: options of a group that changes no network train the same one."""


@pytest.mark.parametrize(("group", "option"), CHOICES)
def test_option_trains(group, option):
    run = composed(*overrides_for(group, option))
    assert run.choices[group] == option
    assert all(current().is_group(group) for group in run.choices)
    shape = [run.resolved["dataset"][key] for key in ("channels", "image_size", "num_classes")]
    parts = [run.resolved["model"], run.resolved["recipe"], run.resolved["dataset"]["task"]]
    same = json.dumps([*parts, run.seed, shape], sort_keys=True)
    if same not in TRAINED:
        one_step(run)
        TRAINED.add(same)


@pytest.mark.parametrize("model", NEEDS_LARGER_IMAGES)
def test_a_network_that_needs_larger_images_is_refused_in_a_line(model, tmp_path):
    run = composed(f"model={model}", f"results_dir={tmp_path}")
    with pytest.raises(UserError) as refusal:
        check_run(run)
    size = run.resolved["dataset"]["image_size"]
    target = run.resolved["model"]["_target_"]
    assert str(refusal.value).startswith(f"dataset.image_size={size}: too small for model {target} (")
    assert "\n" not in str(refusal.value)


def parameters(*overrides: str) -> int:
    with torch.device("meta"):
        network = instantiate(composed(*overrides).resolved["model"])
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def test_the_papers_trainings_are_as_its_section_4_3_has_them():
    imagenet, jft = (composed(f"recipe={recipe}").resolved["recipe"] for recipe in ("imagenet", "jft"))
    assert imagenet["optimizer"] == {
        "_target_": "torch.optim.SGD",
        "_partial_": True,
        "lr": 0.045,
        "momentum": 0.9,
        "weight_decay": 1e-5,
    }
    assert imagenet["dropout"] == 0.5
    assert imagenet["scheduler"]["factor"] == 0.94
    assert imagenet["scheduler"]["every_epochs"] == 2
    assert imagenet["scheduler"]["epochs"] == imagenet["epochs"]
    optimizer = jft["optimizer"]
    assert optimizer["_target_"] == "torch.optim.RMSprop"
    assert (optimizer["lr"], optimizer["momentum"], optimizer["weight_decay"]) == (0.001, 0.9, 1e-5)
    assert jft["dropout"] == 0
    assert (jft["scheduler"]["factor"], jft["scheduler"]["every_images"]) == (0.9, 3_000_000)
    assert jft["scheduler"]["batch_size"] == jft["batch_size"]
    for recipe in (imagenet, jft):
        assert recipe["averaging"]["_target_"] == "lightning_modules.averaging.PolyakAveraging"
        assert recipe["precision"] == "bf16-mixed"


WEIGHT_DECAY = {
    "xception": 1e-5,
    "xception_small": 1e-5,
    "inception_v3": 4e-5,
    "inception_v3_table3": 4e-5,
    "inception_v3_small": 4e-5,
    "resnet18": 1e-4,
    "vgg16": 5e-4,
}
"""L2 of each network: section 4.3, and the networks' own papers."""


@pytest.mark.parametrize("recipe", ["embedded", "embedded_polyak", "imagenet", "jft"])
def test_weight_decay_is_the_networks_whatever_the_recipe(recipe):
    for model in WEIGHT_DECAY if recipe == "imagenet" else ("xception", "inception_v3"):
        chosen = [f"recipe={recipe}", f"model={model}"]
        assert composed(*chosen).resolved["recipe"]["optimizer"]["weight_decay"] == WEIGHT_DECAY[model]
    for key in ("weight_decay", "recipe.optimizer.weight_decay"):
        run = composed(f"recipe={recipe}", "model=inception_v3", f"{key}=0.001")
        assert run.resolved["recipe"]["optimizer"]["weight_decay"] == 0.001


def test_averaging_can_be_switched_on_and_off_beside_any_recipe():
    polyak = composed("recipe=embedded_polyak").resolved["recipe"]
    assert (
        composed(
            "recipe.averaging={_target_: lightning_modules.averaging.PolyakAveraging, decay: 0.99}"
        ).resolved["recipe"]
        == polyak
    )
    assert composed("recipe=embedded_polyak", "recipe.averaging=null").run_id == composed().run_id


PAPER_SCALE = {
    "xception": 22_855_952,
    "inception_v3": 23_834_568,
    "inception_v3_table3": 23_626_728,
    "vgg16": 138_357_544,
    "resnet18": 11_689_512,
    "separable_vgg": 2_189_379,
}
"""Trainable parameters of each network, unscaled, for colour images of 1000 classes."""


AT_PAPER_SCALE = ("dataset.num_classes=1000", "dataset.channels=3")


@pytest.mark.parametrize("model", PAPER_SCALE)
def test_a_network_at_the_papers_scale_has_its_published_parameters(model):
    assert parameters(f"model={model}", *AT_PAPER_SCALE) == PAPER_SCALE[model]


def test_fully_connected_layers_are_part_of_the_networks_that_the_paper_gave_them():
    """Two of 4096 units behind 2048 features, where the logistic regression read those: table 2."""
    layers = (2048 * 4096 + 4096) + (4096 * 4096 + 4096) + (4096 - 2048) * 1000
    for model in ("xception", "inception_v3", "inception_v3_table3"):
        with_layers = parameters(f"model={model}", "fully_connected=two", *AT_PAPER_SCALE)
        assert with_layers == PAPER_SCALE[model] + layers


@pytest.mark.parametrize("study", ["inception_comparison", "jft_comparison", "vgg_separable"])
def test_networks_that_a_study_compares_are_equally_large(study):
    """Tables 1 and 2 and section 4.6 compare at one size, with fully connected layers and without them."""
    with hydra_configuration():
        planned, runs = plan_study(study, ["seed=0"])
    sizes = {run.arm: count_parameters(run.configuration.resolved["model"]) for run in runs}
    layers = {arm.name: arm.choose.get("fully_connected") for arm in planned.arms}
    pairs = [(one, other) for one, other in itertools.combinations(sizes, 2) if layers[one] == layers[other]]
    assert {arm for pair in pairs for arm in pair} == set(sizes)
    for one, other in pairs:
        assert sizes[one] == pytest.approx(sizes[other], rel=0.01)


@pytest.mark.parametrize("dataset", [AT_PAPER_SCALE, ("dataset=jft",), ("dataset=open_images",)])
def test_the_separable_vgg_can_have_inception_v3s_parameters(dataset):
    inceptions = parameters("model=inception_v3", *dataset)
    matched = parameters("model=separable_vgg", *dataset, f"match_parameters={inceptions}")
    assert matched == pytest.approx(inceptions, rel=0.01)


AXES = ("operation_order", "segments", "spatial_kernel", "intermediate_norm", "intermediate_activation")
"""What a separable convolution is made of."""


def test_every_combination_of_what_a_separable_convolution_is_made_of_trains():
    files = {group: ours.files_in(group) for group in AXES}
    recipe = OmegaConf.load(FRAMEWORK_CONF / "recipe" / "embedded.yaml")
    options = OmegaConf.create({group: [OmegaConf.load(file) for file in files[group]] for group in AXES})
    options.recipe = recipe
    parts = {group: [instantiate(option) for option in options[group]] for group in AXES}
    x = torch.randn(2, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    combinations = [dict(zip(AXES, chosen, strict=True)) for chosen in itertools.product(*parts.values())]
    assert len(combinations) == math.prod(map(len, files.values()))
    for combination in combinations:
        block = SeparableConvNorm(5, 7, norm=nn.BatchNorm2d, **combination)
        features = block(x)
        assert features.shape == (2, 7, 4, 4)
        (features * torch.arange(features.numel()).view_as(features).sin()).sum().backward()
        assert all(p.grad.isfinite().all() and p.grad.any() for p in block.parameters())


@pytest.mark.parametrize(
    ("order", "residual"), [("pointwise_first", "true"), ("depthwise_first", "projections")]
)
def test_a_network_far_from_the_default_trains(order, residual):
    chosen = ["segments=three", "spatial_kernel=spatially_separable", "intermediate_norm=batch_norm"]
    chosen += ["intermediate_activation=elu", f"operation_order={order}", f"residual={residual}"]
    one_step(composed(*chosen, "model.width=0.05", "model.middle_modules=0"))


def test_no_option_is_the_same_run_as_another():
    """Two files of a group that make one network would be one arm under two names."""
    for group in (*AXES, "residual", "fully_connected"):
        identities = {composed(f"{group}={option}").run_id for option in options_of(group)}
        assert len(identities) == len(options_of(group))


@pytest.fixture
def extended_conf(tmp_path: Path) -> Iterator[Path]:
    """A copy of the configuration that Hydra composes from, to add files to."""
    conf = tmp_path / "conf"
    shutil.copytree(FRAMEWORK_CONF, conf)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf), version_base="1.3"):
        yield conf


def test_an_activation_of_torch_with_parameters_is_added_with_one_file(extended_conf):
    file = extended_conf / "intermediate_activation" / "prelu.yaml"
    file.write_text("_target_: torch.nn.PReLU\n_partial_: true\n")
    (baseline,) = compose_runs(["intermediate_activation=none"])
    (run,) = compose_runs(["intermediate_activation=prelu"])
    assert run.choices["intermediate_activation"] == "prelu"
    assert run.run_id != baseline.run_id
    network = one_step(run)
    shared = {name: p.shape for name, p in instantiate(baseline.resolved["model"]).named_parameters()}
    added = {name for name, _ in network.named_parameters()} - shared.keys()
    assert len(added) == 34  # separable convolutions


SCHEMAS = {"study": STUDY, "claims": CLAIMS, "tuning": TUNING, "metric": METRIC, "benchmark": BENCHMARK_FILE}
"""Folders and files of conf/ that have a schema, which describes their keys."""
EXCUSED_KEYS = ("_target_", "_partial_", "defaults")
"""Hydra's own."""
EXCUSED_BELOW = ("base", "checksums", "choose", "defaults", "equals")
"""Keys above options and files, which are described elsewhere."""
EXCUSED_FILES = ("hydra/help/xception_ablations.yaml",)
"""A text, described in its first line."""
KEYS_AS_IN = re.compile(r"[Kk]eys as in (\w+)\.yaml")
"""In the first comment of a file: where the keys that it shares with another of its folder are described."""


def keys_of(node: yaml.Node, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], int]]:
    """Every key with the number of its line, but for those below an excused one."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from keys_of(item, path)
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        yield (*path, key.value), key.start_mark.line
        if key.value not in EXCUSED_BELOW:
            yield from keys_of(value, (*path, key.value))


def described_in(schema: Mapping[str, Any], path: tuple[str, ...]) -> bool:
    """Whether a JSON schema describes a key; a free name is described with the key above it."""
    definitions, entries, described = schema.get("$defs", {}), [schema], False
    for key in path:
        nested, described = [], False
        while entries:
            entry = entries.pop()
            if "$ref" in entry:
                entries.append(definitions[entry["$ref"].rpartition("/")[2]])
            entries += [*entry.get("anyOf", ()), *filter(None, [entry.get("items")])]
            below = entry.get("properties", {}).get(key)
            if below is not None:
                described |= bool(below.get("description"))
            elif isinstance(below := entry.get("additionalProperties"), dict):
                described = True
            if isinstance(below, dict):
                nested.append(below)
        entries = nested
    return described


def commented(text: str) -> tuple[set[tuple[str, ...]], set[tuple[str, ...]]]:
    """Keys with a comment on their line or directly above it, and those without."""
    lines = text.splitlines()

    def has_comment(number: int) -> bool:
        outside_quotes = re.sub(r"\"[^\"]*\"|'[^']*'", "", lines[number])
        above = lines[number - 1].lstrip() if number else ""
        return " #" in outside_quotes or above.startswith("#")

    with_comment, without = set(), set()
    for path, number in keys_of(yaml.compose(text)):
        (with_comment if has_comment(number) else without).add(path)
    return with_comment, without


def undescribed(text: str, schema: Mapping[str, Any], *others: str) -> list[str]:
    """Keys that neither a comment, the schema nor the comments of other files describe."""
    elsewhere = set().union(*(commented(other)[0] for other in others))
    return sorted(
        ".".join(path)
        for path in commented(text)[1] - elsewhere
        if path[-1] not in EXCUSED_KEYS and not described_in(schema, path)
    )


@pytest.mark.parametrize("file", ours.FILES, ids=lambda file: file.relative_to(FRAMEWORK_CONF).as_posix())
def test_every_key_is_described(file):
    text = file.read_text(encoding="utf-8")
    assert text.startswith("#")
    if file.relative_to(FRAMEWORK_CONF).as_posix() not in EXCUSED_FILES:
        schema = SCHEMAS.get(file.relative_to(FRAMEWORK_CONF).with_suffix("").parts[0])
        named = KEYS_AS_IN.findall(" ".join(text.replace("\n#", "").split()))
        others = [(file.parent / f"{name}.yaml").read_text(encoding="utf-8") for name in named]
        assert undescribed(text, json_schema(schema) if schema else {}, *others) == []


def test_a_key_without_description_is_found():
    text = """\
# What this is.
_target_: a.b
first: 1 # 1 to 3
second: "no # comment"
# Explained.
third:
  inner: 1
  # Explained.
  outer: 2
elsewhere: 1
"""
    assert undescribed(text, {}) == ["elsewhere", "second", "third.inner"]
    assert undescribed(text, {}, "elsewhere: 2 # explained") == ["second", "third.inner"]


def test_a_schema_describes_its_keys_and_free_names_alone():
    schema = json_schema(STUDY)
    assert all(
        described_in(schema, path) for path in [("arms",), ("arms", "label"), ("factors", "mine", "levels")]
    )
    unknown = [
        ("arm",),
        ("arms", "colour"),
        ("design", "position", "channels"),
        ("factors", "mine", "colour"),
    ]
    assert not any(described_in(schema, path) for path in unknown)

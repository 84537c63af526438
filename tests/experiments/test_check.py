"""A user's mistake gives one line, before anything is written."""

import copy
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from ablations.errors import UserError
from experiments import check, environment
from experiments.check import check_factors, check_run, check_seed
from experiments.configuration import RunConfiguration
from experiments.plan import plan_sweep
from experiments.project import Project, use
from experiments.sweep import sweep
from lightning_modules.data.idx import format_idx

pytestmark = pytest.mark.slow  # plans whole studies or builds many networks


def with_data(run: RunConfiguration, data: Mapping[str, Any]) -> RunConfiguration:
    resolved = copy.deepcopy(dict(run.resolved))
    resolved["dataset"] |= data
    return replace(run, resolved=resolved)


@pytest.fixture
def configure_small(
    configure: Callable[..., RunConfiguration], few_images: Mapping[str, Any]
) -> Callable[..., RunConfiguration]:
    """Composes one run; in place of the embedded images it has a few, which are read in an instant."""

    def make(*overrides: str) -> RunConfiguration:
        run = configure(*overrides)
        changed = {word.partition("=")[0] for word in overrides}
        if run.choices["dataset"] != "fashion_mnist_embedded" or changed & {
            "dataset.root",
            "dataset.download",
        }:
            return run
        settings = {key: value for key, value in few_images.items() if f"dataset.{key}" not in changed}
        return with_data(run, settings)

    return make


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("residual=false", "intermediate_activation=elu", "logger=none", "seed=4294967295"),
        ("model=xception", "recipe.norm_momentum=1", "recipe.optimizer.lr=0"),
        ("+recipe.optimizer.nesterov=true", "trainer.accelerator=cpu", "logger.mode=online"),
        ("recipe.optimizer._target_=torch.optim.AdamW", "~recipe.optimizer.momentum"),
        ("recipe=imagenet",),
    ],
)
def test_what_is_right_passes_and_nothing_is_written(
    configure_small, results_dir: Path, overrides: tuple[str, ...]
) -> None:
    check_run(configure_small(*overrides))
    assert not results_dir.exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("optimizer=adamw", "+recipe.optimizer.momentum=0.9"),
            "recipe.optimizer.momentum=0.9: torch.optim.AdamW does not take it; it takes: lr, betas, ",
        ),
        (
            (
                "recipe.scheduler._target_=torch.optim.lr_scheduler.ReduceLROnPlateau",
                "recipe.scheduler_interval=step",
            ),
            "recipe.scheduler_interval=step: must be epoch or null",
        ),
        (
            ("loss=label_smoothing", "dataset=fashion_mosaic"),
            "recipe.loss._target_=torch.nn.CrossEntropyLoss: takes one label per image",
        ),
        (
            ("trainer.compile=true", "diagnostics=gradient_norm"),
            "diagnostics.gradient_norm: measures single layers, which torch.compile merges",
        ),
        (
            ("optimizer=rmsprop", "recipe.fused_optimizer=true"),
            "recipe.fused_optimizer=True: RMSprop has no fused form",
        ),
        (
            ("recipe.fused_optimizer=true", "recipe.gradient_clipping=1", "recipe.precision=16-mixed"),
            "recipe.fused_optimizer=True: must be false with recipe.precision=16-mixed",
        ),
        (
            ("augmentation=mixup", "recipe.loss={_target_: torch.nn.MultiMarginLoss}"),
            "recipe.loss: ",
        ),
    ],
)
def test_what_does_not_go_together_is_told_in_a_line(
    configure_small, overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError) as raised:
        check_run(configure_small(*overrides))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "overrides",
    [
        *((f"recipe.optimizer._target_=torch.optim.{name}",) for name in ("Adagrad", "LBFGS")),
        *(
            (f"recipe.scheduler._target_=torch.optim.lr_scheduler.{name}",)
            for name in ("PolynomialLR", "ReduceLROnPlateau")
        ),
        ("augmentation=mixup", "dataset=fashion_mosaic"),
        ("augmentation=cutmix", "dataset=fashion_mosaic", "loss=focal"),
        ("recipe.fused_optimizer=true", "recipe.tf32=true", "trainer.compile=true"),
        ("optimizer=adamw", "recipe.fused_optimizer=true", "recipe.gradient_clipping=1"),
    ],
    ids=lambda overrides: " ".join(overrides),
)
def test_what_is_chosen_by_name_alone_passes(configure_small, overrides: tuple[str, ...]) -> None:
    check_run(configure_small(*overrides))


@pytest.mark.parametrize("setting", ["recipe.precision=bf16-mixed", "trainer.accelerator=cpu"])
def test_tf32_is_refused_where_it_has_no_effect(configure, setting: str) -> None:
    with pytest.raises(UserError) as raised:
        check_run(configure("recipe.tf32=true", setting))
    for named in ("recipe.tf32=true", setting, "recipe.tf32=false"):
        assert named in str(raised.value)
    assert "\n" not in str(raised.value)


def test_another_class_leaves_out_what_stood_there_for_the_first(configure) -> None:
    recipe = configure("recipe.optimizer._target_=torch.optim.Adagrad", "weight_decay=2e-5").resolved[
        "recipe"
    ]
    assert recipe["optimizer"] == {
        "_target_": "torch.optim.Adagrad",
        "_partial_": True,
        "lr": 0.01,
        "weight_decay": 2e-5,
    }
    assert recipe["scheduler"]["max_lr"] == 0.01
    chosen = ("recipe.optimizer._target_=torch.optim.SGD", "recipe.optimizer.lr=0.3", "optimizer=adamw")
    assert configure(*chosen).resolved["recipe"]["optimizer"]["lr"] == 0.3
    assert "betas" not in configure(*chosen).resolved["recipe"]["optimizer"]


def test_an_option_that_builds_what_is_built_anyway_is_the_same_run(configure) -> None:
    for chosen in ("loss=cross_entropy", "augmentation=flip", "optimizer=sgd", "initialize=seed"):
        assert configure(chosen).run_id == configure().run_id
    mosaic = configure("dataset=fashion_mosaic")
    assert configure("dataset=fashion_mosaic", "loss=binary").run_id == mosaic.run_id
    assert configure("dataset=fashion_mosaic", "augmentation=none").run_id == mosaic.run_id
    assert configure("loss=binary").run_id != configure().run_id
    others = ("none", "crop", "rand_augment", "trivial_augment", "mixup", "cutmix")
    assert len({configure(f"augmentation={option}").run_id for option in ("flip", *others)}) == 7
    assert configure("augmentation=none", "dataset.horizontal_flip=true").run_id == configure().run_id
    with pytest.raises(UserError, match="augmentation=flip: dataset=fashion_mosaic has no horizontal_flip"):
        configure("augmentation=flip", "dataset=fashion_mosaic")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=-1", "seed=-1: must be a whole number from 0 to 4294967295"),
        ("seed=1.5", "seed=1.5: must be a whole number from 0"),
        ("recipe.epochs=0", "recipe.epochs=0: must be greater than or equal to 1"),
        ("recipe.batch_size=281", "recipe.batch_size=281: must be from 1 to 280"),
        ("recipe.dropout=1", "dropout=1: must be a number of at least 0 and below 1"),
        ("recipe.norm_momentum=7", "recipe.norm_momentum=7: must be less than or equal to 1"),
        ("recipe.channels_last=maybe", "recipe.channels_last=maybe: must be true or false"),
        ("trainer.compile=fast", "trainer.compile=fast: must be true, false or one of "),
        ("recipe.optimizer.lr=-1", "recipe.optimizer.lr=-1: must be greater than or equal to 0"),
        (
            "recipe.scheduler.pct_start=2",
            "recipe.scheduler: Expected float between 0 and 1 pct_start",
        ),
        (
            "recipe.optimizer._target_=torch.optim.Sgd",
            "torch.optim.Sgd: no such class or function; did you mean torch.optim.SGD?",
        ),
        ("recipe.optimizer._target_=torch.optim", "recipe.optimizer._target_=torch.optim: is a module"),
        ("recipe.scheduler_interval=day", "recipe.scheduler_interval=day: must be 'step' or 'epoch'"),
        ("recipe.gradient_clipping=0", "recipe.gradient_clipping=0: must be greater than 0"),
        (
            "+recipe.loss={_target_: torch.nn.CrossEntropyLoss, reduction: none}",
            "recipe.loss: has shape",
        ),
        (
            "+recipe.loss={_target_: torch.nn.NLLLosses}",
            "recipe.loss._target_=torch.nn.NLLLosses: no such class",
        ),
        (
            "recipe.augmentation={image: {_target_: torchvision.transforms.v2.RandomCrop, size: 20}}",
            "recipe.augmentation.image: makes torch.uint8 (1, 20, 20) of a training image",
        ),
        ("recipe.weight_init._target_=torch.nn.init.eye_", "recipe.weight_init: "),
        ("model.width=0", "model.width=0: must be a number above 0"),
        ("model.middle_modules=1000000", "model: more than 5000 parameter tensors"),
        ("dataset.num_classes=1000000000", "; cpu has"),
        ("spatial_kernel.kernel_size=100001", "; cpu has"),
        ("recipe.averaging=[]", "recipe.averaging=[]: must be one value"),
        ("logger.backend={a:1}", "logger.backend={'a': 1}: must be one value"),
        ("outcome_version=-7", "outcome_version=-7: must be greater than or equal to 0"),
        ("trainer.threads=1000000000", "trainer.threads=1000000000: must be less than or equal to 1024"),
        ("model.stem_stride=3", "model.stem_stride=3: must be one of 1, 2"),
        ("~model.width", "'width'"),
        ("trainer.accelerator=gpus", "trainer.accelerator=gpus: must be one of auto, gpu, "),
        ("logger.mode=silent", "logger.mode=silent: must be one of offline, online"),
        ("dataset.validation_images=300", "dataset.validation_images=300: must be below 300"),
        ("dataset.num_classes=5", "dataset.num_classes=5: the training labels go from 0 to 9"),
        ("dataset.root=/no/such/folder", "dataset.root=/no/such/folder: missing train-images-idx3-ubyte"),
        ("dataset.download=true", "dataset.download=true: needs a dataset.root"),
        ("recipe.precision=half", "recipe.precision=half: must be '32-true', 'bf16-mixed', "),
        ("project=2026", "project=2026: must be text; put a number in quotes"),
        ("recipe.scheduler=null", "recipe.scheduler=None: must be a node with _target_"),
        ("model.norm.momentum=2", "model.norm.momentum=2: must be less than or equal to 1"),
        ("recipe.batch_size=half", "recipe.batch_size='half': must be a valid integer"),
        ("+claims=paper", "unknown key claims"),
        ("+recipe.momentum=0.9", "unknown key recipe.momentum"),
        ("+recipe.optimizer.x=1", "recipe.optimizer.x=1: torch.optim.SGD does not take it; it takes: lr, "),
        ("+model.depth=3", "model: Xception.__init__() got an unexpected keyword argument 'depth'"),
        ("+dataset.x=1", "dataset: "),
        ("dataset.task._target_=lightning_modules.tasks.Labels", "dataset.task._target_="),
        ("spatial_kernel.kernel_size=2", "spatial_kernel.kernel_size=2: must be odd"),
        ("+diagnostics.x=1", "unknown key diagnostics.x"),
    ],
)
def test_what_is_wrong_is_told_in_a_line_and_nothing_is_written(
    configure_small, results_dir: Path, override: str, message: str
) -> None:
    run = configure_small(override)
    with pytest.raises(UserError) as raised:
        check_run(run)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not re.match(r"([\w.]+: )\1", str(raised.value))  # where it is wrong is said once
    assert not results_dir.exists()


FACTORS = ["intermediate_activation=relu", "intermediate_norm=batch_norm", "operation_order=pointwise_first"]
FACTORS += ["residual=false", "segments=three", "spatial_kernel=spatially_separable"]


@pytest.mark.parametrize("model", ["inception_v3_table3", "vgg16"])
def test_a_factor_that_the_network_does_not_have_is_refused(configure, model: str) -> None:
    factor = "segments=three"
    group, _, option = factor.partition("=")
    with pytest.raises(UserError) as raised:
        check_factors(configure(f"model={model}", factor))
    assert str(raised.value).startswith(f"{group}={option}: model={model} does not have this factor; ")
    assert "xception" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_xception_has_every_factor(configure) -> None:
    check_factors(configure(*FACTORS))


@pytest.mark.parametrize("model", ["inception_v3_table3", "xception"])
def test_every_factor_as_by_default_goes_with_every_network(configure, model: str) -> None:
    check_factors(
        configure(f"model={model}", "residual=true", "segments=per_channel", "recipe.norm_momentum=1")
    )


def test_a_key_of_a_factor_that_the_network_does_not_have_is_refused(configure) -> None:
    with pytest.raises(
        UserError, match=r"^segments: model=inception_v3 does not have this factor; .* per_channel "
    ):
        check_factors(configure("model=inception_v3", "segments.channels_per_segment=4"))
    check_factors(configure("model=inception_v3", "~segments"))  # nothing is asked for


def test_a_factor_is_read_through_the_file_that_a_model_takes_keys_from(configure, tmp_path: Path) -> None:
    run = configure("segments=three")
    narrow = RunConfiguration(run.resolved, {**run.choices, "model": "narrow"})
    file = tmp_path / "conf" / "model" / "narrow.yaml"
    file.parent.mkdir(parents=True)
    with use(Project(tmp_path)):
        check_factors(narrow)  # no file: an option of another configuration directory
        file.write_text("# ${segments}\nwidth: 0.5\n")  # a comment reads nothing
        with pytest.raises(UserError, match=r"^segments=three: model=narrow does not have this factor"):
            check_factors(narrow)
        file.write_text("defaults:\n  - xception\n  - _self_\nwidth: 0.5\n")
        check_factors(narrow)


def test_a_sweep_over_a_factor_that_one_of_its_networks_does_not_have(hydra, results_dir: Path) -> None:
    arguments = ["model=xception,inception_v3", "residual='true','false'", f"results_dir={results_dir}"]
    launcher = None  # nothing is launched
    with pytest.raises(UserError, match=r"^residual=false: model=inception_v3 does not have this factor"):
        sweep(plan_sweep(arguments), launcher)
    assert not results_dir.exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("recipe=embedded_polyak", "recipe.averaging.decay=1"),
            "recipe.averaging.decay=1: must be a number of at least 0 and below 1",
        ),
        (
            ("recipe=imagenet", "recipe.scheduler.factor=0"),
            "recipe.scheduler.factor=0: must be a number above 0",
        ),
        (
            ("trainer.accelerator=cpu", "recipe.precision=16-mixed"),
            "recipe.precision=16-mixed: not supported by this device; use bf16-mixed",
        ),
        (
            ("trainer=ddp", "trainer.devices=3", "trainer.accelerator=cpu"),
            "recipe.batch_size=128: must be a multiple of the 3 processes",
        ),
        (
            ("trainer=ddp", "trainer.sync_batchnorm=true", "trainer.accelerator=cpu"),
            "trainer.sync_batchnorm=True: needs a GPU",
        ),
        (
            ("diagnostics=all", "diagnostics.dead_units.tolerance=1"),
            "diagnostics.dead_units.tolerance=1: must be a number of at least 0 and below 1",
        ),
        (
            ("diagnostics=all", "diagnostics.gradient_norm.steps=[0]"),
            "diagnostics.gradient_norm.steps=0: must be a whole number of at least 1",
        ),
        (
            ("diagnostics=all", "diagnostics.effective_rank=${diagnostics.gradient_norm}"),
            "diagnostics.effective_rank=GradientNorm: must be named gradient_norm",
        ),
        (("trainer=ddp", "trainer.strategy=fsdp"), "trainer.strategy=fsdp: must be one of ddp"),
    ],
)
def test_several_choices_that_are_wrong_together(
    configure_small, results_dir: Path, overrides: tuple[str, ...], message: str
) -> None:
    run = configure_small(*overrides)
    with pytest.raises(UserError) as raised:
        check_run(run)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)
    assert not results_dir.exists()


@pytest.mark.parametrize(
    ("override", "allowed"),
    [
        ("trainer.devices=0", "a whole number of at least 1"),
        ("trainer.devices=two", "a whole number of at least 1"),
        ("trainer.num_nodes=1.5", "a whole number of at least 1"),
        ("trainer.sync_batchnorm=1", "true or false"),
    ],
)
def test_what_decides_on_the_identity_is_refused_at_once(configure, override: str, allowed: str) -> None:
    with pytest.raises(UserError, match=f"^{override}: must be {allowed}"):
        configure("trainer=ddp", override)


def test_the_seed_alone(configure) -> None:
    check_seed(configure("seed=0", "recipe.epochs=0"))
    with pytest.raises(UserError, match=r"^seed=-1: "):
        check_seed(configure("seed=-1"))


@pytest.mark.parametrize("place", ["file", "file/far/below"])
def test_results_that_cannot_be_written(configure, tmp_path: Path, place: str) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(UserError, match=f"^results_dir={tmp_path / place}: cannot be written"):
        check_run(configure(f"results_dir={tmp_path / place}"))
    assert file.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("place", ["runs", "tables"])
def test_a_file_in_place_of_a_folder_of_results_is_told_before_training(
    configure, results_dir: Path, place: str
) -> None:
    results_dir.mkdir()
    (results_dir / place).write_text("mine")
    with pytest.raises(UserError, match=f"^results_dir={results_dir}: cannot be written"):
        check_run(configure())


@pytest.fixture
def small_images(tmp_path: Path) -> dict[str, Any]:
    """Changes of a configuration that make its data 40 images of 4x4 pixels."""
    folder = tmp_path / "data"
    folder.mkdir()
    checksums = {}
    labels = np.repeat(np.arange(10, dtype=np.uint8), 4)
    for part in ("train", "t10k"):
        contents = {"images-idx3": np.zeros((40, 4, 4), np.uint8), "labels-idx1": labels}
        for name, content in contents.items():
            data = format_idx(content)
            (folder / f"{part}-{name}-ubyte").write_bytes(data)
            checksums[f"{part}-{name}-ubyte"] = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return {
        "root": str(folder),
        "checksums": checksums,
        "image_size": 4,
        "validation_images": 10,
        "batch_size": 8,
    }


def test_images_too_small_for_the_network(configure, small_images: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"^dataset.image_size=4: too small for model .*Xception") as raised:
        check_run(with_data(configure(), small_images))
    assert "\n" not in str(raised.value)


def test_data_of_another_content(configure, small_images: dict[str, Any]) -> None:
    path = Path(small_images["root"]) / "train-labels-idx1-ubyte"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(UserError, match=f"{path}: .*truncated"):
        check_run(with_data(configure(), small_images))
    path.write_bytes(whole[:-1] + b"\1")
    with pytest.raises(UserError, match=f"{path}: wrong checksum"):
        check_run(with_data(configure(), small_images))


def test_keys_that_an_option_takes_from_another_are_known(configure, tmp_path: Path) -> None:
    run = configure("+recipe.extra=1")
    file = tmp_path / "conf" / "recipe" / "embedded.yaml"
    file.parent.mkdir(parents=True)
    known = {key: value for key, value in run.resolved["recipe"].items() if key != "extra"}
    with use(Project(tmp_path)):
        OmegaConf.save(OmegaConf.create(known), file)
        with pytest.raises(UserError, match=r"^unknown key recipe\.extra"):
            check.check_keys(run)
        OmegaConf.save(OmegaConf.create(known), file.with_name("long.yaml"))
        OmegaConf.save(OmegaConf.create({"defaults": ["long"], "extra": 1}), file)
        check.check_keys(run)


def test_what_is_not_read_of_class_folders_is_named_and_counted(configure, tmp_path: Path) -> None:
    for part in ("train", "val"):
        for wnid in ("a", "b"):
            folder = tmp_path / part / wnid
            folder.mkdir(parents=True)
            for number in range(3):
                Image.new("RGB", (8, 8)).save(folder / f"{number}.png")
    data = ("dataset=imagenet", f"dataset.root='{tmp_path}'", "dataset.num_classes=2")
    run = configure(*data, "dataset.validation_images=2", "recipe=embedded", "recipe.batch_size=4")
    check_run(run)
    (tmp_path / "train" / "a" / "._0.png").touch()
    check_run(run)
    (tmp_path / "train" / "a" / "0.heic").touch()
    (tmp_path / "val" / "b" / "more").mkdir()
    with pytest.warns(UserWarning, match=r"^dataset.root=.*: skipped 2 .*\(train/a/0.heic, val/b/more\)$"):
        check_run(run)


def test_a_step_that_takes_more_memory_than_there_is_is_refused(
    configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "memory", lambda: 2**30)
    check_run(configure("model.width=1", "recipe.batch_size=8"))
    with pytest.raises(
        UserError, match=r"recipe\.batch_size=400: a training step, .* for activations, needs"
    ):
        check_run(configure("model.width=1", "recipe.batch_size=400"))

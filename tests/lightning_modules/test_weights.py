"""Logits as the source's own network gives them, for every format; what cannot be used gives one line.

The networks are the sources' own code with drawn values: scale, shift and running statistics of BN too, since
at their start (0 and 1) a wrong order of them would not show.
"""

import os
import pickle
import re
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile

import h5py
import numpy as np
import pytest
import torch
import torchvision
from hydra.utils import instantiate
from safetensors.torch import save_file
from torch import Tensor, nn

from ablations.errors import UserError
from experiments.check import check_values
from experiments.configuration import RunConfiguration
from experiments.planning import compose_runs, hydra_configuration
from lightning_modules.assembly import make_data_and_module
from lightning_modules.data.images import ImageBatches, Part, Selection
from lightning_modules.initialization import initialize
from lightning_modules.weights import (
    XCEPTION_IS,
    WeightsError,
    fit_weights,
    flattened,
    inspect_weights,
    load_weights,
    read_weights,
)

pytestmark = pytest.mark.slow  # builds the networks of four libraries at full size

SIZES = (299, 138)
"""The published size, and a smaller one of the other parity."""

CLASSES = 20
TOLERANCE = 1e-4  # of logits whose standard deviation is about 1


def norms_of(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def measure_norms(network: nn.Module) -> None:
    """Set BN's running statistics to those of noise, so that logits are of the order of 1."""
    momenta = [norm.momentum for norm in norms_of(network)]
    for norm in norms_of(network):
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    for norm, momentum in zip(norms_of(network), momenta, strict=True):
        norm.momentum = momentum


def draw_norms(network: nn.Module) -> None:
    """Move all of BN's values, the statistics too, by a share of a standard deviation."""
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for norm in norms_of(network):
            shape = norm.weight.shape
            norm.weight.mul_(0.8 + 0.4 * torch.rand(shape, generator=draws))
            norm.bias.add_(0.1 * torch.randn(shape, generator=draws))
            norm.running_mean.add_(0.2 * torch.randn(shape, generator=draws) * norm.running_var.sqrt())
            norm.running_var.mul_(0.6 + 0.9 * torch.rand(shape, generator=draws))
    network.eval()


class KerasNetwork(NamedTuple):
    """Keras' own Xception, and its files by format."""

    network: Any
    preprocess: Callable[[np.ndarray], np.ndarray]
    files: dict[str, Path]


@pytest.fixture(scope="module")
def keras_network(tmp_path_factory) -> Iterator[KerasNetwork]:
    folder = tmp_path_factory.mktemp("keras")
    os.environ.setdefault("KERAS_BACKEND", "torch")
    os.environ.setdefault("KERAS_HOME", str(folder))  # else it writes into the user's home
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Keras' own imports
        import keras

        draws = np.random.default_rng(0)
        keras.utils.set_random_seed(0)
        network = keras.applications.Xception(
            weights=None,
            input_tensor=keras.Input((None, None, 3)),  # so that one network takes every size
            classes=CLASSES,
            classifier_activation=None,
        )
        norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
        for norm in norms:
            norm.momentum = 0.0
        with torch.no_grad():
            network(torch.from_numpy(draws.uniform(-1, 1, (2, 96, 96, 3)).astype("float32")), training=True)
        for norm in norms:
            scale, shift, mean, variance = norm.get_weights()
            count = len(scale)
            norm.set_weights(
                [
                    scale * draws.uniform(0.8, 1.2, count),
                    shift + draws.normal(0, 0.1, count),
                    mean + draws.normal(0, 0.2, count) * variance**0.5,
                    variance * draws.uniform(0.6, 1.5, count),
                ]
            )
        files = {
            "Keras 3, weights": folder / "x.weights.h5",
            "Keras 3, model": folder / "x.keras",
            "Keras 2, model": folder / "x.h5",
            "Keras 1, weights, automatic names": folder / "old.h5",
        }
        network.save_weights(files["Keras 3, weights"])
        network.save(files["Keras 3, model"])
        network.save(files["Keras 2, model"])
        save_as_keras_1(network, files["Keras 1, weights, automatic names"])
        yield KerasNetwork(network, keras.applications.xception.preprocess_input, files)


def save_as_keras_1(network: Any, path: Path) -> None:
    """`save_weights` of Keras 1, https://github.com/keras-team/keras/blob/1.2.2/keras/engine/topology.py."""
    kinds = {0: "activation", 1: "convolution2d", 2: "separableconvolution2d", 4: "batchnormalization"}
    numbers: dict[str, int] = {}
    with h5py.File(path, "w") as file:
        names = []
        for layer in network.layers:
            arrays = layer.get_weights()
            kind = "dense" if arrays and arrays[0].ndim == 2 else kinds[len(arrays)]
            numbers[kind] = numbers.get(kind, 0) + 1
            names.append(f"{kind}_{numbers[kind]}".encode())
            group = file.create_group(names[-1])
            group.attrs["weight_names"] = [b"%s_%d:0" % (names[-1], place) for place in range(len(arrays))]
            for name, array in zip(group.attrs["weight_names"], arrays, strict=True):
                group[name] = array
        file.attrs["layer_names"] = names


class TorchNetwork(NamedTuple):
    """A source's own PyTorch network, and its files by format."""

    network: nn.Module
    files: dict[str, Path]


def saved(network: nn.Module, folder: Path) -> TorchNetwork:
    state = network.state_dict()
    names = ("safetensors", "PyTorch", "PyTorch before 1.6", "below state_dict")
    files = {name: folder / name for name in names}
    save_file(state, files["safetensors"])
    torch.save(state, files["PyTorch"])
    torch.save(state, files["PyTorch before 1.6"], _use_new_zipfile_serialization=False)
    torch.save({"state_dict": state, "epoch": 3}, files["below state_dict"])
    return TorchNetwork(network, files)


@pytest.fixture(scope="module")
def timm_network(tmp_path_factory) -> TorchNetwork:
    import timm  # here and below: it takes a second of whoever collects tests

    torch.manual_seed(0)
    network = timm.create_model("legacy_xception", num_classes=CLASSES)
    measure_norms(network)
    draw_norms(network)
    return saved(network, tmp_path_factory.mktemp("timm"))


@pytest.fixture(scope="module")
def torchvision_network(tmp_path_factory) -> TorchNetwork:
    torch.manual_seed(0)
    network = torchvision.models.inception_v3(
        num_classes=CLASSES, aux_logits=True, transform_input=True, init_weights=False
    )
    initialize(network, 0, partial(nn.init.kaiming_normal_, nonlinearity="relu"))
    draw_norms(network)
    return saved(network, tmp_path_factory.mktemp("torchvision"))


def configured(path: Path, *overrides: str) -> RunConfiguration:
    at_paper_scale = ["model=xception", "dataset.channels=3", f"dataset.num_classes={CLASSES}"]
    with hydra_configuration():
        (run,) = compose_runs([*at_paper_scale, f"weights='{path}'", *overrides])
    return run


def imported(path: Path, *overrides: str) -> nn.Module:
    """Our network as a run with these weights configures it."""
    config = configured(path, *overrides).resolved
    network = instantiate(config["model"])
    load_weights(network, config["weights"], config["weights_sha256"])
    return network.eval()


def pixels(size: int) -> Tensor:
    draws = torch.Generator().manual_seed(size)
    return torch.randint(256, (1, 3, size, size), generator=draws, dtype=torch.uint8)


def our_logits(network: nn.Module, images: Tensor) -> Tensor:
    """Of images as our data modules give them."""
    data = ImageBatches(
        Part(images.numpy(), np.zeros(len(images), np.int64)), horizontal_flip=False, crop_padding=0
    )
    scaled, _ = data[Selection(np.arange(len(images)), None)]
    with torch.no_grad():
        return network(scaled)


def agree(ours: Tensor, theirs: Tensor) -> bool:
    assert 0.1 < theirs.std() < 10, "of another scale than the tolerance is for"
    return (ours - theirs).abs().max().item() < TOLERANCE


def fitted(path: Path, network: nn.Module, *, new_head: bool = False) -> dict[str, Tensor]:
    """What a file has for our network, which a test need not build again."""
    return fit_weights(network, read_weights(str(path)), str(path), new_head=new_head)


def has_values_of(path: Path, network: nn.Module) -> bool:
    values = {name: value for name, value in network.state_dict().items() if "num_batches" not in name}
    return equal(fitted(path, network), values)


def equal(values: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    return values.keys() == others.keys() and all(torch.equal(values[name], others[name]) for name in values)


# Keras


@pytest.fixture(scope="module")
def from_keras(keras_network: KerasNetwork) -> nn.Module:
    return imported(keras_network.files["Keras 3, weights"])


@pytest.mark.parametrize("size", SIZES)
def test_keras_logits(keras_network: KerasNetwork, from_keras: nn.Module, size: int) -> None:
    images = pixels(size)
    batch = keras_network.preprocess(images.permute(0, 2, 3, 1).numpy().astype("float32"))
    with torch.no_grad():
        theirs = keras_network.network(torch.from_numpy(batch), training=False)
    assert agree(our_logits(from_keras, images), theirs)


@pytest.mark.parametrize("file", ["Keras 3, model", "Keras 2, model", "Keras 1, weights, automatic names"])
def test_every_layout_of_keras_gives_the_same_values(
    keras_network: KerasNetwork, from_keras: nn.Module, file: str
) -> None:
    assert has_values_of(keras_network.files[file], from_keras)


def test_kerass_constants(keras_network: KerasNetwork) -> None:
    model = configured(keras_network.files["Keras 3, weights"]).resolved["model"]
    assert model["norm"]["eps"] == 1e-3
    assert model["pool"] == {"_target_": "lightning_modules.networks.blocks.SameMaxPool2d", "_partial_": True}


# timm


@pytest.fixture(scope="module")
def from_timm(timm_network: TorchNetwork) -> nn.Module:
    return imported(timm_network.files["safetensors"])


def timm_logits(network: nn.Module, images: Tensor) -> Tensor:
    from timm.data import resolve_data_config

    data = resolve_data_config({}, model=network)
    scaled = torchvision.transforms.functional.normalize(images / 255, data["mean"], data["std"])
    with torch.no_grad():
        return network(scaled)


@pytest.mark.parametrize("size", SIZES)
def test_timm_logits(timm_network: TorchNetwork, from_timm: nn.Module, size: int) -> None:
    images = pixels(size)
    assert agree(our_logits(from_timm, images), timm_logits(timm_network.network, images))


@pytest.mark.parametrize("file", ["PyTorch", "PyTorch before 1.6", "below state_dict"])
def test_every_format_of_timm_gives_the_same_values(
    timm_network: TorchNetwork, from_timm: nn.Module, file: str
) -> None:
    assert has_values_of(timm_network.files[file], from_timm)


def test_timms_constants_matter(timm_network: TorchNetwork, from_timm: nn.Module, paper_xception) -> None:
    """With Keras' constants the logits are others: by the epsilon everywhere, by the pools on even sides."""
    model = configured(timm_network.files["safetensors"]).resolved["model"]
    assert model["norm"]["eps"] == 1e-5
    assert instantiate(model["pool"])().padding == 1
    otherwise = paper_xception(num_classes=CLASSES)
    otherwise.load_state_dict(from_timm.state_dict())
    otherwise.eval()

    def difference(size: int) -> float:
        images = pixels(size)
        return (our_logits(otherwise, images) - timm_logits(timm_network.network, images)).abs().max().item()

    assert difference(128) > 10 * TOLERANCE
    assert difference(129) > TOLERANCE


def older_port(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As https://github.com/Cadene/pretrained-models.pytorch has published Xception."""
    return {
        name.replace("fc.", "last_linear."): value[:, :, 0, 0] if ".pointwise." in name else value
        for name, value in state.items()
    }


def with_prefix(prefix: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda state: {f"{prefix}{name}": value for name, value in state.items()}


@pytest.mark.parametrize(
    "saved_as",
    [
        with_prefix("module."),
        with_prefix("_orig_mod."),
        with_prefix("module._orig_mod."),
        lambda state: {"model": state, "epoch": 3},
        lambda state: {"model": with_prefix("_orig_mod.module.")(state)},
        lambda state: {
            "state_dict": state,
            "args": Namespace(lr=0.1, model="legacy_xception"),
            "metric": 0.79,
        },
        lambda state: {"state_dict": {n: v + 1 for n, v in state.items()}, "state_dict_ema": state},
        lambda state: {
            "pytorch-lightning_version": "2.6",
            "hyper_parameters": {"lr": 0.1},
            "state_dict": with_prefix("model.")(state) | {"loss.weight": torch.ones(3)},
        },
        older_port,
    ],
    ids=["module", "compiled", "both", "model", "all", "timm", "average", "Lightning", "older port"],
)
def test_weights_as_training_scripts_save_them(
    timm_network: TorchNetwork, from_timm: nn.Module, tmp_path: Path, saved_as: Callable[..., Any]
) -> None:
    torch.save(saved_as(timm_network.network.state_dict()), tmp_path / "file")
    assert has_values_of(tmp_path / "file", from_timm)


def test_two_networks_in_one_file(timm_network: TorchNetwork, tmp_path: Path) -> None:
    state = timm_network.network.state_dict()
    torch.save(with_prefix("a.")(state) | with_prefix("b.")(state), tmp_path / "file")
    assert refusal(str(tmp_path / "file")).startswith(
        "has the network 2 times (a., b.); save only the weights"
    )


def test_torchscript_is_not_loaded(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "file", "w") as archive:
        archive.writestr("x/constants.pkl", b"")
        archive.writestr("x/data.pkl", b"")
    assert refusal(str(tmp_path / "file")).startswith(
        "holds TorchScript, which is code; save only the weights"
    )


def test_a_whole_network_is_not_unpickled(timm_network: TorchNetwork, tmp_path: Path) -> None:
    torch.save(timm_network.network, tmp_path / "file")
    line = refusal(str(tmp_path / "file"))
    assert line.startswith("holds timm.models.xception.Xception, which could run code")
    assert line.endswith("save only the weights: torch.save(network.state_dict(), FILE)")
    assert line.isprintable()


def test_values_that_are_no_numbers_of_a_network(
    timm_network: TorchNetwork, from_timm: nn.Module, tmp_path: Path
) -> None:
    state = timm_network.network.state_dict()
    for value in (
        state["fc.bias"].to(torch.int64),
        state["fc.bias"].to_sparse(),
        state["fc.bias"].to("meta"),
    ):
        torch.save(state | {"fc.bias": value}, tmp_path / "file")
        with pytest.raises(WeightsError, match=r"head\.logits\.bias is not plain floating-point numbers"):
            fitted(tmp_path / "file", from_timm)


# torchvision


@pytest.fixture(scope="module")
def from_torchvision(torchvision_network: TorchNetwork) -> nn.Module:
    return imported(torchvision_network.files["safetensors"], "model=inception_v3")


@pytest.mark.parametrize("size", SIZES)
def test_torchvision_logits(
    torchvision_network: TorchNetwork, from_torchvision: nn.Module, size: int
) -> None:
    images = pixels(size)
    # The published weights: ImageNet's mean and deviation, which `transform_input` takes back out.
    published = torchvision.models.Inception_V3_Weights.IMAGENET1K_V1.transforms()
    scaled = torchvision.transforms.functional.normalize(images / 255, published.mean, published.std)
    with torch.no_grad():
        theirs = torchvision_network.network(scaled)
    assert agree(our_logits(from_torchvision, images), theirs)


def test_torchvision_without_its_auxiliary_tower(
    torchvision_network: TorchNetwork, from_torchvision: nn.Module, tmp_path: Path
) -> None:
    state = torchvision_network.network.state_dict()
    assert any(name.startswith("AuxLogits.") for name in state)
    file = tmp_path / "without"
    ignored = ("AuxLogits.", "num_batches_tracked")
    torch.save({name: value for name, value in state.items() if not any(i in name for i in ignored)}, file)
    assert has_values_of(file, from_torchvision)


# What follows the weights, and what they require


def test_what_was_set_on_purpose_is_not_overruled(timm_network: TorchNetwork) -> None:
    file = timm_network.files["safetensors"]
    with pytest.raises(UserError, match=r"^model\.norm\.eps=0\.01: the network of weights=.* has 1e-05$"):
        configured(file, "model.norm.eps=0.01")
    with pytest.raises(UserError, match=r"^model\.norm\.eps=0\.001: the network of weights=.* has 1e-05$"):
        configured(file, "model.norm.eps=0.001")  # also where it is the default
    assert configured(file, "model.norm.eps=1e-5").resolved["model"]["norm"]["eps"] == 1e-5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.stem_stride=1", r"^model\.stem_stride=1: the network of weights=.* has 2$"),
        (
            "intermediate_activation=relu",
            r"^model\.separable\.intermediate_activation\._target_=torch\.nn\.ReLU: ",
        ),
        ("model.width=0.5", r"^model\.width=0\.5: the network of weights=.* has 1$"),
        ("+model.norm.affine=true", r"^model\.norm\.affine=True: .* must be left out$"),
    ],
)
def test_another_network_may_be_trained_from_weights_but_not_evaluated(
    timm_network: TorchNetwork, override: str, message: str
) -> None:
    file = timm_network.files["safetensors"]
    assert configured(file, override).resolved["model"]["norm"]["eps"] == 1e-5
    config = configured(file, "train=false").resolved
    assert config["train"] is False
    assert flattened(config["model"]).keys() >= XCEPTION_IS.keys(), "each is a key of the network"
    with pytest.raises(UserError, match=message):
        configured(file, override, "train=false")


def test_the_content_counts_and_not_the_place(timm_network: TorchNetwork, tmp_path: Path) -> None:
    file = timm_network.files["safetensors"]
    run = configured(file)
    copy = tmp_path / "copy"
    copy.write_bytes(file.read_bytes())
    assert configured(copy).run_id == run.run_id
    assert configured(copy).resolved["weights_sha256"] == run.resolved["weights_sha256"]
    save_file({n: v + 1 if n == "fc.bias" else v for n, v in timm_network.network.state_dict().items()}, copy)
    assert configured(copy).run_id != run.run_id
    with pytest.raises(UserError, match=r"^weights_sha256=.*: weights=.* has "):
        configured(copy, f"weights_sha256={run.resolved['weights_sha256']}")
    with pytest.raises(WeightsError, match="the file has changed; its SHA-256 was"):
        load_weights(timm_network.network, str(copy), run.resolved["weights_sha256"])


# What cannot be used


def refusal(path: object) -> str:
    with pytest.raises(WeightsError) as raised:
        inspect_weights(path)
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(f"weights={path}: ")
    return str(raised.value).partition(f"weights={path}: ")[2]


@pytest.mark.parametrize("path", [5, ""])
def test_no_name_of_a_file(path: object) -> None:
    assert refusal(path).startswith("expected a path")


def test_no_file(tmp_path: Path) -> None:
    assert refusal(str(tmp_path / "none")) == "no such file"
    assert refusal(str(tmp_path)) == "is a folder"


@pytest.mark.parametrize("content", [b"", b"some text, and more of it"])
def test_no_weights(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    assert refusal(str(file)).startswith("not a weights file; must be ")


def test_an_archive_of_something_else(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("readme", "text")
    assert refusal(str(tmp_path / "x.zip")).startswith("not a weights file; must be ")


@pytest.mark.parametrize("file", ["safetensors", "PyTorch"])
def test_a_truncated_file_of_pytorch(timm_network: TorchNetwork, tmp_path: Path, file: str) -> None:
    content = timm_network.files[file].read_bytes()
    cut = tmp_path / "cut"
    for length in (len(content) // 2, len(content) - 1):
        cut.write_bytes(content[:length])
        assert refusal(str(cut)).startswith("damaged")


def test_a_flipped_bit_in_an_archive(timm_network: TorchNetwork, tmp_path: Path) -> None:
    content = bytearray(timm_network.files["PyTorch"].read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "flipped").write_bytes(content)
    assert refusal(str(tmp_path / "flipped")).startswith("damaged")


@pytest.mark.parametrize("file", ["Keras 3, weights", "Keras 3, model"])
def test_a_truncated_file_of_keras(keras_network: KerasNetwork, tmp_path: Path, file: str) -> None:
    content = keras_network.files[file].read_bytes()
    (tmp_path / "cut").write_bytes(content[: len(content) // 2])
    assert refusal(str(tmp_path / "cut")).startswith("damaged")


class Trap:
    """Makes a folder where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_code_in_a_file_is_not_executed(tmp_path: Path) -> None:
    trap = Trap(tmp_path / "executed")
    (tmp_path / "plain").write_bytes(pickle.dumps(trap))
    torch.save({"fc.weight": trap}, tmp_path / "archive")
    torch.save({"fc.weight": trap}, tmp_path / "old", _use_new_zipfile_serialization=False)
    for name in ("plain", "archive", "old"):
        line = refusal(str(tmp_path / name))
        assert re.match(
            "holds (posix.mkdir|more than weights), which could run code; save only the weights", line
        )
    assert not trap.folder.exists()
    pickle.loads((tmp_path / "plain").read_bytes())
    assert trap.folder.exists()  # it would have been


def test_a_file_of_keras_cannot_have_another_one_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other", "w") as other:
        other["array"] = np.ones(3)
    for link in (h5py.ExternalLink(str(tmp_path / "other"), "array"), None):
        file = tmp_path / f"linked{link is None}"
        with h5py.File(file, "w") as root:
            root.attrs["layer_names"] = ["layer"]
            group = root.create_group("layer")
            group.attrs["weight_names"] = ["array"]
            if link is None:
                raw = [(str(tmp_path / "raw"), 0, h5py.h5f.UNLIMITED)]
                group.create_dataset("array", (3,), "f4", external=raw)
            else:
                group["array"] = link
        assert refusal(str(file)).startswith("damaged, or more than weights (")


def test_a_missing_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(tmp_path / "x.h5", "w"):
        pass
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    assert refusal(str(tmp_path / "x.h5")) == "needs h5py: pip install 'xception-ablations[weights]'"


def test_of_no_known_network(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list")
    assert refusal(str(tmp_path / "list")).startswith("unknown network; known are Xception of Keras ")
    torch.save({"pytorch-lightning_version": "2.6", "state_dict": {}}, tmp_path / "lightning")
    assert refusal(str(tmp_path / "lightning")).startswith("unknown network")
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    assert refusal(str(tmp_path / "empty.h5")).startswith("unknown network")


# The body alone


def body_of(network: nn.Module) -> dict[str, Tensor]:
    return {
        name: value
        for name, value in network.state_dict().items()
        if not name.startswith("head.") and "num_batches" not in name
    }


def with_new_head(path: Path, *overrides: str) -> tuple[nn.Module, nn.Module]:
    """The network of a run as it starts, and as it starts without weights."""

    def start(*more: str) -> nn.Module:
        with hydra_configuration():
            (run,) = compose_runs(["model=xception", "dataset.channels=3", "seed=7", *overrides, *more])
        return make_data_and_module(run.resolved)[1].network

    return start(f"weights='{path}'", "new_head=true"), start()


def check_new_head(path: Path, source: nn.Module, *overrides: str) -> None:
    network, fresh = with_new_head(path, *overrides)
    expected = body_of(source)
    for name, value in network.state_dict().items():
        if "num_batches" not in name:
            from_source = expected[name] if name in expected else fresh.state_dict()[name]
            assert torch.equal(value, from_source), name


@pytest.mark.parametrize("overrides", [["dataset.num_classes=7"], ["fully_connected=two"]])
def test_a_new_head_starts_from_the_seed(
    timm_network: TorchNetwork, from_timm: nn.Module, overrides: list[str]
) -> None:
    check_new_head(timm_network.files["safetensors"], from_timm, *overrides)


def test_a_new_head_of_inception(torchvision_network: TorchNetwork, from_torchvision: nn.Module) -> None:
    check_new_head(torchvision_network.files["safetensors"], from_torchvision, "model=inception_v3")


def test_weights_without_a_head(timm_network: TorchNetwork, from_timm: nn.Module, tmp_path: Path) -> None:
    state = timm_network.network.state_dict()
    torch.save(
        {name: value for name, value in state.items() if not name.startswith("fc.")}, tmp_path / "file"
    )
    with pytest.raises(
        WeightsError, match=r"has no head\.logits\.weight; new_head=true starts a new head from the"
    ):
        fitted(tmp_path / "file", from_timm)
    assert equal(fitted(tmp_path / "file", from_timm, new_head=True), body_of(from_timm))


@pytest.fixture(scope="module")
def nested_files(keras_network: KerasNetwork, tmp_path_factory) -> dict[str, Path]:
    """Keras' Xception without its top, alone and as a layer of another network, whole and partly frozen."""
    import keras

    folder = tmp_path_factory.mktemp("nested")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        top = keras_network.network
        pooled = next(layer for layer in top.layers if isinstance(layer, keras.layers.GlobalAveragePooling2D))
        body = keras.Model(top.input, pooled.input, name="xception")
        head = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(64), keras.layers.Dense(5)]
        nested = keras.Sequential([keras.Input((None, None, 3)), body, *head])
        files = {name: folder / name for name in ("notop.weights.h5", "notop.h5", "nested.weights.h5")}
        files |= {name: folder / name for name in ("nested.keras", "nested.h5", "frozen.h5", "partly.h5")}
        for name in ("notop.weights.h5", "notop.h5"):
            (body.save if name == "notop.h5" else body.save_weights)(files[name])
        nested.save_weights(files["nested.weights.h5"])
        nested.save(files["nested.keras"])
        nested.save(files["nested.h5"])
        for layer in body.layers[:60]:
            layer.trainable = False
        nested.save(files["partly.h5"])
        body.trainable = False
        nested.save(files["frozen.h5"])
        body.trainable = True
    return files


@pytest.mark.parametrize(
    "name",
    [
        *("notop.weights.h5", "notop.h5", "nested.weights.h5"),
        *("nested.keras", "nested.h5", "frozen.h5", "partly.h5"),
    ],
)
def test_kerass_body(nested_files: dict[str, Path], from_keras: nn.Module, name: str) -> None:
    assert equal(fitted(nested_files[name], from_keras, new_head=True), body_of(from_keras))
    with pytest.raises(WeightsError, match=r"has no head\.logits\.weight; new_head=true"):
        fitted(nested_files[name], from_keras)


def test_a_new_head_on_kerass_body(nested_files: dict[str, Path], from_keras: nn.Module) -> None:
    check_new_head(nested_files["nested.keras"], from_keras)


def test_a_new_head_is_another_run_and_none_is_as_before(timm_network: TorchNetwork) -> None:
    file = timm_network.files["safetensors"]
    run, new = configured(file), configured(file, "new_head=true")
    assert new.run_id != run.run_id
    assert new.resolved["new_head"] is True  # and so the record says
    assert configured(file, "~new_head").run_id == configured(file, "new_head=false").run_id == run.run_id


@pytest.mark.parametrize("value", ["1", "null"])
def test_a_new_head_is_a_boolean(timm_network: TorchNetwork, value: str) -> None:
    with pytest.raises(UserError, match=r"^new_head=\w+: must be true or false$"):
        check_values(configured(timm_network.files["safetensors"], f"new_head={value}"))


def test_a_new_head_is_trained(timm_network: TorchNetwork) -> None:
    with pytest.raises(UserError, match=r"^new_head=True: needs weights=FILE and train=true$"):
        check_values(configured(timm_network.files["safetensors"], "new_head=true", "train=false"))
    with hydra_configuration():
        (run,) = compose_runs(["new_head=true"])
    with pytest.raises(UserError, match=r"^new_head=True: needs weights=FILE"):
        check_values(run)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"num_classes": 10},
            f"has {CLASSES} classes, but dataset.num_classes=10; new_head=true",
        ),
        ({"in_channels": 1}, "needs dataset.channels=3, not 1"),
        ({"width": 0.5}, "another width: stem.conv1.conv.weight is 32x3x3x3 in the file and 16x3x3x3 in"),
        ({"width": 0.125, "num_classes": 10, "in_channels": 1}, "another width: "),
        (
            {"middle_modules": 7},
            "of another network than Xception as configured: with "
            "middle_flow.7.body.separable1.depthwise.weight and 17 more differences",
        ),
        (
            {"residual": lambda **_: None},
            "of another network than Xception as configured: with entry_flow.0.s",
        ),
    ],
)
def test_a_network_that_they_do_not_fit(
    timm_network: TorchNetwork, paper_xception, changes: dict[str, Any], message: str
) -> None:
    path = str(timm_network.files["safetensors"])
    with torch.device("meta"):
        network = paper_xception(**({"num_classes": CLASSES} | changes))
    with pytest.raises(WeightsError) as raised:
        fit_weights(network, read_weights(path), path)
    assert str(raised.value).startswith(f"weights={path}: {message}")


@pytest.mark.parametrize("network", ["torchvision", "timm"])
def test_of_the_other_network(
    timm_network: TorchNetwork, torchvision_network: TorchNetwork, network: str
) -> None:
    source, model = {
        "torchvision": (torchvision_network, "model=xception"),
        "timm": (timm_network, "model=inception_v3"),
    }[network]
    path = source.files["safetensors"]
    name = {"torchvision": "InceptionV3", "timm": "Xception"}[network]
    with pytest.raises(WeightsError, match=f"of {name}, another network than"):
        imported(path, model)
    with pytest.raises(UserError, match=rf"^model\._target_=.*: the network of weights=.* has .*\.{name}$"):
        configured(path, model, "train=false")

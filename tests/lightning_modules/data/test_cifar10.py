"""Reading CIFAR-10 from a tiny set in its own format, and its download (without a network)."""

import hashlib
import pickle
import pickletools
import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch
import yaml

from lightning_modules.data.cifar10 import CIFAR10

CONF = Path(__file__).parents[3] / "conf" / "dataset" / "cifar10.yaml"


@pytest.fixture
def make_cifar(cifar_contents, tmp_path):
    """Writes the tiny batches below a root and makes a data module on them."""

    def make(folder, **changes):
        (tmp_path / folder).mkdir(exist_ok=True)
        for name, content in cifar_contents.items():
            (tmp_path / folder / name).write_bytes(content)
        settings = {
            "root": tmp_path,
            "download": False,
            "checksums": {
                name: "md5:" + hashlib.md5(content).hexdigest() for name, content in cifar_contents.items()
            },
            "num_classes": 3,
            "channels": 3,
            "image_size": 32,
            "validation_images": 15,
            "train_images": None,
            "split_seed": 0,
            "batch_size": 8,
            "eval_batch_size": 10,
            "seed": 0,
            "horizontal_flip": True,
            "crop_padding": 4,
            "num_workers": None,
        }
        return CIFAR10(**(settings | changes))

    return make


@pytest.mark.parametrize("folder", ["", "cifar-10-batches-py"])
def test_batches_are_read_and_split(make_cifar, cifar_contents, folder):
    data = make_cifar(folder)
    data.prepare_data()
    for name, per_class in (("train", 25), ("validation", 5), ("test", 6)):
        assert data.parts[name].labels.bincount().tolist() == [per_class] * 3
    images, labels = next(iter(data.train_dataloader()))
    assert images.shape == (8, 3, 32, 32)
    assert labels.dtype == torch.int64
    # The first row of the file: 1024 red values, then green, then blue, each row by row.
    batch = pickle.loads(_modern(cifar_contents["test_batch"]), encoding="bytes")
    first = data.parts["test"].images[0]
    assert first.flatten().tolist() == batch[b"data"][0].tolist()
    assert first[1, 0, 2] == batch[b"data"][0][1024 + 2]
    assert data.parts["test"].labels.tolist() == batch[b"labels"]


def _modern(content):
    """The same pickle with a module name and flags that a new NumPy reads without a warning."""
    flags = b"u1J\0\0\0\0J\x01\0\0\0\x87R"
    assert content.count(flags) == 1
    content = content.replace(flags, b"u1\x89\x88\x87R")
    return content.replace(b"numpy.core.multiarray", b"numpy._core.multiarray")


def test_the_tiny_set_is_in_the_format_of_python_2(cifar_contents):
    opcodes = {opcode.name for opcode, _, _ in pickletools.genops(cifar_contents["test_batch"])}
    assert "BINSTRING" in opcodes
    assert not opcodes & {"BINUNICODE", "SHORT_BINUNICODE", "BINBYTES"}


def test_a_pickle_that_calls_something_is_refused(make_cifar, cifar_contents):
    harmful = cifar_contents["test_batch"].replace(b"cnumpy\nndarray\n", b"cos\nsystem\n")
    cifar_contents["test_batch"] = harmful
    with pytest.raises(pickle.UnpicklingError, match=r"os\.system is not allowed"):
        make_cifar("").prepare_data()


def test_a_wrong_checksum_is_one_line(make_cifar, tmp_path):
    data = make_cifar("cifar-10-batches-py")
    path = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    path.write_bytes(path.read_bytes()[:1000])
    start = re.escape(f"dataset.root={tmp_path}: {path}: wrong checksum")
    with pytest.raises(ValueError, match=f"^{start}") as error:
        data.prepare_data()
    message = str(error.value)
    assert "1000 bytes with md5:" in message
    assert "\n" not in message


def test_no_network_and_no_files_is_one_line(make_cifar, tmp_path, monkeypatch, capfd):
    def refuse(request, *arguments, **keywords):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    root = tmp_path / "absent"
    start = re.escape(f"dataset.root={root}: missing data_batch_1, data_batch_2")
    with pytest.raises(ValueError, match=f"^{start}") as error:
        make_cifar("", root=root, download=True).prepare_data()
    message = str(error.value)
    assert "no network>); unpack cifar-10-python.tar.gz" in message
    assert str(root) in message
    assert "\n" not in message
    assert capfd.readouterr() == ("", "")


def test_a_root_is_required(make_cifar):
    with pytest.raises(ValueError, match=r"^dataset\.root=null: must be a folder"):
        make_cifar("", root=None)


def test_checksums_are_those_that_torchvision_knows():
    from torchvision import datasets

    known = datasets.CIFAR10.train_list + datasets.CIFAR10.test_list
    assert yaml.safe_load(CONF.read_text())["checksums"] == {name: f"md5:{digest}" for name, digest in known}

"""The embedded part, where files may be, damaged files, and the download (without a network)."""

import gzip
import hashlib
import io
import re
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from lightning_modules.data.fashion_mnist import FashionMNIST
from lightning_modules.data.idx import format_idx, parse_idx

CONF = Path(__file__).parents[3] / "conf" / "dataset"


def options(name):
    """The keys of an option file, with a stand-in for what comes from other groups."""
    keys = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    inherited = [option for option in keys.pop("defaults", ()) if option != "_self_"]
    for option in inherited:
        keys = options(option) | keys
    return {key: keys[key] for key in keys if key not in ("_target_", "task")} | {"batch_size": 64, "seed": 0}


@pytest.fixture
def offline(monkeypatch):
    """Counts attempts to reach the network; each fails as without one."""
    attempts = []

    def refuse(request, *arguments, **keywords):
        attempts.append(request)
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    return attempts


def test_embedded_part_is_verified_balanced_and_small():
    data = FashionMNIST(**options("fashion_mnist_embedded"))
    data.prepare_data()
    for name, per_class in (("train", 400), ("validation", 100), ("test", 1000)):
        part = data.parts[name]
        assert part.images.shape == (10 * per_class, 1, 28, 28)
        assert part.labels.bincount().tolist() == [per_class] * 10
    folder = FashionMNIST.package_folder
    assert sum(path.stat().st_size for path in folder.iterdir()) < 10e6
    assert "Copyright © 2017 Zalando SE" in (folder / "LICENSE").read_text(encoding="utf-8")


def test_embedded_order_mixes_the_classes():
    data = FashionMNIST(**options("fashion_mnist_embedded"))
    data.setup()
    for part in data.parts.values():
        assert len(part.labels[:50].unique()) == 10


def in_one_folder(root, contents):
    return {root / name: content for name, content in contents.items()}


def as_debian(root, contents):
    return {root / f"{name}.gz": gzip.compress(content) for name, content in contents.items()}


def as_torchvision(root, contents):
    folder = root / "FashionMNIST" / "raw"
    return in_one_folder(folder, contents) | as_debian(folder, contents)


@pytest.mark.parametrize("layout", [in_one_folder, as_debian, as_torchvision])
def test_files_are_found_in_every_layout(make_data, idx_contents, tmp_path, offline, layout):
    root = tmp_path / "root"
    for path, content in layout(root, idx_contents).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    data = make_data(root=root, download=True)
    data.prepare_data()
    reference = make_data()
    reference.setup()
    for name, part in reference.parts.items():
        assert torch.equal(data.parts[name].images, part.images)
        assert torch.equal(data.parts[name].labels, part.labels)
    assert not offline


def remove(path):
    path.unlink()
    return "missing train-images-idx3-ubyte;"


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])
    return f"{path}: truncated: 1311 bytes, its IDX header states 1312;"


def truncate_header(path):
    path.write_bytes(path.read_bytes()[:9])
    return f"{path}: truncated: the IDX header ends early;"


def truncate_gzip(path):
    packed = path.with_name(f"{path.name}.gz")
    packed.write_bytes(gzip.compress(path.read_bytes())[:-20])
    path.unlink()
    return f"{packed}: truncated: the gzip stream ends early;"


def damage_gzip(path):
    packed = path.with_name(f"{path.name}.gz")
    packed.write_bytes(b"\x1f\x8b" + bytes(50))
    path.unlink()
    return f"{packed}: damaged: "


def change(path):
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    return f"{path}: wrong checksum"


def replace_by_text(path):
    path.write_text("<html>not found</html>")
    return f"{path}: not an IDX file"


def empty(path):
    path.write_bytes(b"")
    return f"{path}: not an IDX file"


@pytest.mark.parametrize(
    "harm",
    [
        remove,
        truncate,
        truncate_header,
        truncate_gzip,
        damage_gzip,
        change,
        replace_by_text,
        empty,
    ],
)
def test_a_bad_file_is_one_line_with_key_file_and_remedy(make_data, idx_folder, harm):
    harmed = harm(idx_folder / "train-images-idx3-ubyte")
    start = re.escape(f"dataset.root={idx_folder}: {harmed}")
    with pytest.raises(ValueError, match=f"^{start}") as error:
        make_data().prepare_data()
    message = str(error.value)
    assert f"put the four IDX files of Fashion-MNIST (raw or .gz) into {idx_folder}" in message
    assert "\n" not in message


@pytest.mark.parametrize("content", [b"\0\0\x0d\x01\0\0\0\x00", b"\0\0\x08\x01\0\0\0\x01ab"])
def test_idx_of_another_type_or_length_is_refused(content):
    with pytest.raises(ValueError, match=r"IDX type 0x0d|too long: 10 bytes"):
        parse_idx(content)


def test_no_network_and_no_files_is_one_line(make_data, tmp_path, offline, capfd):
    root = tmp_path / "absent" / "data"
    start = re.escape(f"dataset.root={root}: missing train-images-idx3-ubyte, train-labels")
    with pytest.raises(ValueError, match=f"^{start}") as error:
        make_data(root=root, download=True).prepare_data()
    message = str(error.value)
    assert "the download failed (" in message
    assert "no network" in message
    assert f"put the four IDX files of Fashion-MNIST (raw or .gz) into {root}" in message
    assert "\n" not in message
    assert offline
    assert not root.exists()
    assert capfd.readouterr() == ("", "")


def test_damage_to_the_embedded_part_is_one_line(make_data):
    with pytest.raises(ValueError, match=r"^dataset\.root=null: .*wrong checksum.*; reinstall"):
        make_data(root=None).prepare_data()


def test_a_root_that_cannot_be_made_is_one_line(make_data, tmp_path, offline):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match=r"^dataset\.root=.*the download failed \(.*; put the"):
        make_data(root=tmp_path / "file" / "data", download=True).prepare_data()


def test_download_goes_where_torchvision_puts_it(make_data, idx_contents, tmp_path, monkeypatch, capfd):
    from torchvision import datasets

    packed = {f"{name}.gz": gzip.compress(content) for name, content in idx_contents.items()}
    requests = []

    class Response(io.BytesIO):
        def __init__(self, url):
            super().__init__(packed[url.rsplit("/", 1)[1]])
            self.url = url
            self.length = len(self.getvalue())

    def serve(request):
        requests.append(request)
        return Response(request.full_url)

    monkeypatch.setattr(urllib.request, "urlopen", serve)
    monkeypatch.setattr(
        datasets.FashionMNIST,
        "resources",
        [(name, hashlib.md5(content).hexdigest()) for name, content in packed.items()],
    )
    root = tmp_path / "data"
    data = make_data(root=root, download=True)
    data.prepare_data()
    assert len(data.parts["train"]) == 30
    assert {path.name for path in (root / "FashionMNIST" / "raw").iterdir()} == set(idx_contents)
    assert [path.name for path in root.iterdir()] == ["FashionMNIST"]
    assert capfd.readouterr() == ("", "")

    requests.clear()
    make_data(root=root, download=True).prepare_data()
    assert not requests


def test_idx_round_trip():
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    np.testing.assert_array_equal(parse_idx(format_idx(array)), array)

"""Sweeps through every launcher, on this machine: their records, and what decodes images in workers."""

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.few_images import as_words
from tests.processes import REPOSITORY, typed

pytestmark = pytest.mark.slow

SMALL = (
    "model.width=0.02", "model.stem_stride=2", "model.middle_modules=0", "recipe.epochs=1", "logger=none",
)  # fmt: skip


def sweep(results_dir: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    words = ("run.py", "-m", *arguments, *SMALL, f"results_dir={results_dir}")
    return typed(REPOSITORY, *words, **environment)


def metrics(results_dir: Path) -> dict[str, dict[str, float]]:
    records = [json.loads(path.read_text()) for path in results_dir.glob("runs/*/record.json")]
    assert [record["status"] for record in records] == ["completed"] * len(records)
    return {record["run_id"]: record["metrics"] for record in records}


def jpeg(label: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((32, 32, 3), 100 * label, dtype=np.uint8)).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture(scope="module")
def image_datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Options of `dataset` for images of three classes: in folders, in shards."""
    tmp_path = tmp_path_factory.mktemp("images")
    data = tmp_path / "data"
    for part, images in (("train", 18), ("val", 6)):
        for number in range(images):
            path = data / part / f"class{number % 3}" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(jpeg(number % 3))
        for shard in range(2):
            with tarfile.open(data / f"{part}-{shard}.tar", "w") as tar:
                for number in range(shard, images, 2):
                    for suffix, content in (("jpg", jpeg(number % 3)), ("cls", b"%d" % (number % 3))):
                        member = tarfile.TarInfo(f"{number}.{suffix}")
                        member.size = len(content)
                        tar.addfile(member, io.BytesIO(content))
    options = {
        "folders": ("imagenet", {"validation_images": 3, "num_workers": 1}),
        "shards": (
            "imagenet_shards",
            {
                "train_images": 18,
                "streams": 2,
                "shards": {"train": "train-{0..1}.tar", "validation": "val-0.tar", "test": "val-1.tar"},
            },
        ),
    }
    folder = tmp_path / "conf" / "dataset"
    folder.mkdir(parents=True)
    for name, (base, settings) in options.items():
        settings = {"root": str(data), "num_classes": 3, "image_size": 28} | settings
        (folder / f"{name}.yaml").write_text(json.dumps({"defaults": [base, "_self_"], **settings}))
    return folder.parent


SweepOf = Callable[..., dict[str, dict[str, float]]]


@pytest.fixture(scope="module")
def sweep_of(image_datasets: Path, tmp_path_factory: pytest.TempPathFactory) -> SweepOf:
    """The metrics of a launcher's sweep over datasets."""

    @cache
    def found(launcher: str, *datasets: str) -> dict[str, dict[str, float]]:
        results_dir = tmp_path_factory.mktemp(launcher)
        choices = (f"dataset={','.join(datasets)}", "seed=0", "recipe=embedded", "recipe.batch_size=6")
        where = [f"--config-dir={image_datasets}", f"hydra/launcher={launcher}"]
        if launcher == "ray":  # it would start a process per core
            where += [
                "+hydra.launcher.ray.init.num_cpus=1",
                "+hydra.launcher.ray.init.include_dashboard=false",
            ]
        # local: whatever other Ray cluster there is or was on this machine
        result = sweep(results_dir, *where, *choices, RAY_ADDRESS="local")
        assert result.returncode == 0, result.stderr
        assert re.search(rf"{len(datasets)} of {len(datasets)} runs? done", result.stdout)
        # Ray names the address that it was given, and its daemon reports on the machine (a disk that is
        # nearly full).
        lines = result.stderr.splitlines()
        assert [
            line for line in lines if not re.search(r"RAY_ADDRESS|\(raylet\)|DataLoader will create", line)
        ] == []
        return metrics(results_dir)

    return found


@pytest.mark.parametrize(("launcher", "dataset"), [("ray", "shards"), ("submitit_local", "folders")])
def test_workers_decode_under_every_launcher_and_the_records_are_the_same(
    launcher: str, dataset: str, sweep_of: SweepOf
) -> None:
    here = sweep_of("joblib", "folders", "shards")  # read by number, and as a stream
    there = sweep_of(launcher, dataset)
    assert (len(here), len(there)) == (2, 1)
    assert there.items() <= here.items()


@pytest.fixture
def ray_folder():
    """A folder of Ray's own, its name short enough for sockets: no other cluster is touched."""
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield folder


def test_a_ray_cluster_that_runs_already(tmp_path: Path, ray_folder: str, few_images: dict[str, Any]) -> None:
    ray = Path(sys.executable).with_name("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {"RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": ray_folder}
    start = [ray, "start", "--head", f"--port={port}", "--num-cpus=2", "--include-dashboard=false", "--block"]
    with subprocess.Popen(
        start,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as head:
        try:
            environment |= {"RAY_ADDRESS": f"127.0.0.1:{port}"}
            result = sweep(tmp_path, "seed=0", "hydra/launcher=ray", *as_words(few_images), **environment)
        finally:
            os.killpg(head.pid, signal.SIGKILL)  # asked to end, it waits for half a minute
    assert result.returncode == 0, result.stderr
    assert f":{port}" in result.stderr
    assert "Connecting to existing Ray cluster" in result.stderr
    assert len(metrics(tmp_path)) == 1


def test_slurm_where_there_is_none_is_told(tmp_path: Path, few_images: dict[str, Any]) -> None:
    result = sweep(tmp_path, "seed=0,1", "hydra/launcher=submitit_slurm", *as_words(few_images))
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "slurm" in result.stderr.lower()

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
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[1]
SMALL = (
    "model.width=0.02", "model.stem_stride=2", "model.middle_modules=0", "recipe.epochs=1", "logger=none",
)  # fmt: skip


def sweep(results_dir: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "run.py", "-m", *arguments, *SMALL, f"results_dir={results_dir}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=os.environ | environment,
    )


def metrics(results_dir: Path) -> dict[str, dict[str, float]]:
    records = [json.loads(path.read_text()) for path in results_dir.glob("runs/*/record.json")]
    assert [record["status"] for record in records] == ["completed"] * len(records)
    return {record["run_id"]: record["metrics"] for record in records}


def test_ray_and_submitit_give_the_same_records(tmp_path):
    for launcher in ("ray", "submitit_local"):
        # local: whatever other Ray cluster there is or was on this machine
        result = sweep(tmp_path / launcher, "seed=0,1", f"hydra/launcher={launcher}", RAY_ADDRESS="local")
        assert result.returncode == 0, result.stderr
        assert "2 of 2 runs done" in result.stdout
        # Ray names the address it was given, and its daemon tells of the machine, such as a nearly full disk.
        ray_only = re.compile(r"RAY_ADDRESS|\(raylet\)")
        assert [line for line in result.stderr.splitlines() if not ray_only.search(line)] == []
    by_ray = metrics(tmp_path / "ray")
    assert len(by_ray) == 2
    assert metrics(tmp_path / "submitit_local") == by_ray


def jpeg(label: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((32, 32, 3), 100 * label, dtype=np.uint8)).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture
def image_datasets(tmp_path: Path) -> Path:
    """Options of `dataset` for images of three classes: in folders, in shards, in tables."""
    data = tmp_path / "data"
    for part, images in (("train", 18), ("val", 6)):
        for number in range(images):
            path = data / part / f"class{number % 3}" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(jpeg(number % 3))
        names = sorted(path.relative_to(data).as_posix() for path in (data / part).glob("*/*"))
        rows = [f"{name},{name.split('/')[1][-1]}" for name in names]
        (data / f"{part}.csv").write_text("\n".join(["path,labels", *rows]))
        for shard in range(2):
            with tarfile.open(data / f"{part}-{shard}.tar", "w") as tar:
                for number in range(shard, images, 2):
                    for suffix, content in (("jpg", jpeg(number % 3)), ("cls", b"%d" % (number % 3))):
                        member = tarfile.TarInfo(f"{number}.{suffix}")
                        member.size = len(content)
                        tar.addfile(member, io.BytesIO(content))
    options = {
        "folders": ("imagenet", {"validation_images": 3}),
        "shards": (
            "imagenet_shards",
            {
                "train_images": 18,
                "shards": {"train": "train-{0..1}.tar", "validation": "val-0.tar", "test": "val-1.tar"},
            },
        ),
        "tables": (
            "multilabel",
            {
                "validation_images": 3,
                "labels_are": "indices",
                "files": {"train": "train.csv", "test": "val.csv", "class_weights": None},
            },
        ),
    }
    folder = tmp_path / "conf" / "dataset"
    folder.mkdir(parents=True)
    for name, (base, settings) in options.items():
        settings = {"root": str(data), "num_classes": 3, "image_size": 28} | settings
        (folder / f"{name}.yaml").write_text(json.dumps({"defaults": [base, "_self_"], **settings}))
    return folder.parent


@pytest.mark.parametrize("launcher", ["basic", "joblib", "ray", "submitit_local"])
def test_workers_decode_under_every_launcher(launcher, image_datasets, tmp_path):
    result = sweep(
        tmp_path / "results",
        f"--config-dir={image_datasets}",
        f"hydra/launcher={launcher}",
        "dataset=folders,shards,tables",
        "seed=0",
        "recipe=embedded",
        "recipe.batch_size=6",
        RAY_ADDRESS="local",
    )
    assert result.returncode == 0, result.stderr
    assert len(metrics(tmp_path / "results")) == 3


@pytest.fixture
def ray_folder():
    """A folder of Ray's own, its name short enough for sockets: no other cluster is touched."""
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield folder


def test_a_ray_cluster_that_runs_already(tmp_path, ray_folder):
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
            result = sweep(tmp_path, "seed=0,1", "hydra/launcher=ray", **environment)
        finally:
            os.killpg(head.pid, signal.SIGTERM)
    assert result.returncode == 0, result.stderr
    assert f":{port}" in result.stderr
    assert "Connecting to existing Ray cluster" in result.stderr
    assert len(metrics(tmp_path)) == 2


def test_slurm_where_there_is_none_is_told(tmp_path):
    result = sweep(tmp_path, "seed=0,1", "hydra/launcher=submitit_slurm")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "slurm" in result.stderr.lower()

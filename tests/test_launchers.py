"""Sweeps through the launchers of the extra `cluster`, on this machine: Ray, and submitit's local one."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[1]
SWEEP = (
    "seed=0,1", "model.width=0.02", "model.stem_stride=2", "model.middle_modules=0", "recipe.epochs=1",
    "logger=none",
)  # fmt: skip


def sweep(results_dir: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "run.py", "-m", *SWEEP, f"results_dir={results_dir}", *arguments],
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
        result = sweep(tmp_path / launcher, f"hydra/launcher={launcher}", RAY_ADDRESS="local")
        assert result.returncode == 0, result.stderr
        assert "2 of 2 runs done" in result.stdout
        # Ray tells that it was told where to go; nothing else is said.
        assert [line for line in result.stderr.splitlines() if "RAY_ADDRESS" not in line] == []
    by_ray = metrics(tmp_path / "ray")
    assert len(by_ray) == 2
    assert metrics(tmp_path / "submitit_local") == by_ray


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
            result = sweep(tmp_path, "hydra/launcher=ray", RAY_ADDRESS=f"127.0.0.1:{port}", **environment)
        finally:
            os.killpg(head.pid, signal.SIGTERM)
    assert result.returncode == 0, result.stderr
    assert f":{port}" in result.stderr
    assert "Connecting to existing Ray cluster" in result.stderr
    assert len(metrics(tmp_path)) == 2


def test_slurm_where_there_is_none_is_told(tmp_path):
    result = sweep(tmp_path, "hydra/launcher=submitit_slurm")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "slurm" in result.stderr.lower()

"""Device, versions and commit of a run. Never the environment's variables."""

import gc
import importlib
import logging
import os
import platform
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from ablations.errors import UserError
from experiments.devices import CPU, Device
from experiments.project import FRAMEWORK_CONF, PACKAGED_CONF, current

FRAMEWORK = "xception-ablations"
"""The distribution of these packages."""

PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "hydra-core", "wandb", "numpy")


def versions() -> dict[str, str]:
    """Versions of Python and of installed packages that a run uses.

    The framework is included unless it is the project, whose commit is recorded.
    """
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    if current().conf != FRAMEWORK_CONF:
        found[FRAMEWORK] = _framework_version()
    return found


def _framework_version() -> str:
    """Version of the framework; for a checkout also its commit and whether its code is changed."""
    version = next((one.version for one in metadata.distributions(name=FRAMEWORK)), "not installed")
    state = None if PACKAGED_CONF.is_dir() else _git_state(FRAMEWORK_CONF.parent)
    if state is None:
        return version
    return f"{version}, commit {state['commit'][:12]}" + (", changed" if state["changes"] else "")


def git_state() -> dict[str, Any] | None:
    """Commit of the project's checkout, and uncommitted changes of its Python files.

    Leaves out files that no run imports and new files outside the project's folder. Warns if git cannot read
    the checkout.

    Returns:
        commit, and changes: per path in the checkout, the diff, or a new file's content. None outside a
        checkout.
    """
    return _git_state(current().root)


def _git_state(folder: Path) -> dict[str, Any] | None:
    checkout = _checkout_of(folder)
    if checkout is None:
        return None

    def git(*arguments: str) -> str:
        # The checkout may be another user's, as in a container; this code runs from it, so it is safe.
        command = ("git", "-c", "safe.directory=*", "-C", str(folder), *arguments)
        found = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=True)
        return found.stdout

    def names(*arguments: str) -> list[str]:
        return [name for name in git(*arguments).split("\0") if name and _is_of_runs(checkout / name)]

    try:
        commit = git("rev-parse", "HEAD").strip()
        changed = names("diff", "HEAD", "--name-only", "--no-renames", "-z", "--", ":/*.py")
        new = names("ls-files", "--others", "--exclude-standard", "--full-name", "-z", "--", "*.py")
        plain = ("--no-ext-diff", "--no-textconv", "--no-color")
        changes = {name: git("diff", "HEAD", *plain, "--", f":/{name}") for name in changed}
        changes |= {
            name: (checkout / name).read_text("utf-8", "replace")
            for name in new
            if (checkout / name).is_file()
        }
    except (OSError, subprocess.CalledProcessError) as error:
        told = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        warnings.warn(f"the record has no git commit: {told[0]}", stacklevel=3)
        return None
    return {"commit": commit, "changes": changes}


def imported(state: dict[str, Any] | None) -> dict[str, Any] | None:
    """A `git_state` with only the changes of files that this process has imported."""
    checkout = _checkout_of(current().root)
    if state is None or checkout is None or not state["changes"]:
        return state
    by_name = {Path(name).name for name in state["changes"]}
    files = [getattr(module, "__dict__", {}).get("__file__") for module in list(sys.modules.values())]
    paths = {Path(file).resolve() for file in files if isinstance(file, str) and Path(file).name in by_name}
    changes = {name: text for name, text in state["changes"].items() if checkout / name in paths}
    return state | {"changes": changes}


def _checkout_of(folder: Path) -> Path | None:
    return next((parent for parent in (folder, *folder.parents) if (parent / ".git").exists()), None)


def _is_of_runs(file: Path) -> bool:
    """Whether a file can change a run's outcome."""
    if "site-packages" in file.parts:  # its version is in the record
        return False
    framework = FRAMEWORK_CONF.parent
    if not file.is_relative_to(framework):
        return True
    first, *below = file.relative_to(framework).parts
    if first in ("tests", "docs", "benchmarks", "hydra_plugins"):
        return False
    return first != "ablations" or below[:1] == ["runs"]


def quieten() -> None:
    """Silence library messages that a user can do nothing about. Warnings take one line."""
    logging.raiseExceptions = False  # W&B's logging, if the disk is full
    warnings.formatwarning = lambda message, category, *_: f"{category.__name__}: {message}\n"
    for package in ("lightning.pytorch", "lightning.fabric"):  # it prints devices, processes, tips
        importlib.import_module(package)  # which sets the level itself
        logging.getLogger(package).setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.loggers").setLevel(logging.ERROR)  # "experiment created"
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # "creating tables"
    for message in (
        r".*does not have many workers.*",  # the data is in memory
        r".*isinstance\(treespec, LeafSpec\).*",  # Lightning's own use of torch
        r".*`weights_only` was not set.*",  # our own checkpoints
        r"A worker stopped while some jobs were given.*",  # loky replaces one that has grown
    ):
        warnings.filterwarnings("ignore", message=message)


def quieten_ray() -> None:
    """Silence Ray's messages about a local cluster, not those about an existing one."""
    of_no_use = (
        "Started a local Ray instance",
        "Token authentication is enabled",
        "Generated new authentication token",
    )
    for module in ("worker", "authentication.authentication_token_setup"):
        logging.getLogger(f"ray._private.{module}").addFilter(
            lambda record: not record.getMessage().startswith(of_no_use)
        )


def process() -> dict[str, Any]:
    """Host and id of this process."""
    return {"host": socket.gethostname(), "pid": os.getpid()}


def process_rank(devices: int) -> int:
    """Rank of this process in its run, given the processes per machine; rank 0 writes the record."""
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun
        return int(os.environ["RANK"])
    if "SLURM_NTASKS" in os.environ and "SLURM_PROCID" in os.environ and "LOCAL_RANK" not in os.environ:
        return int(os.environ["SLURM_PROCID"])  # srun
    # Started by Lightning or, on other machines, by the user.
    return int(os.environ.get("NODE_RANK", 0)) * devices + int(os.environ.get("LOCAL_RANK", 0))


def check_launcher(processes: int) -> None:
    """Check that as many processes were started as the run has.

    Raises:
        UserError: torchrun started several processes for a run of one, or the shell still has a launcher's
            variable, so that the run would wait forever.
    """
    started = os.environ.get("WORLD_SIZE")
    if "TORCHELASTIC_RUN_ID" in os.environ:
        if processes == 1 and started not in (None, "1"):
            raise UserError(
                f"torchrun started {started} processes, but the run has one: add trainer=ddp "
                f"trainer.devices={os.environ.get('LOCAL_WORLD_SIZE', started)}, or start it without torchrun"
            )
    elif processes > 1 and "LOCAL_RANK" in os.environ and started != str(processes):
        raise UserError(
            f"LOCAL_RANK={os.environ['LOCAL_RANK']} is set in this shell, so the run would wait "
            "forever for other processes: unset LOCAL_RANK"
        )


def cpu_name() -> str:
    """The processor's name with its family, model and stepping, if known.

    Virtual machines use one name for several generations, and runs are bit-identical only within one.
    """
    try:
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        first = ""
    lines = (line.partition(":") for line in first.splitlines())
    told = {key.strip(): value.strip() for key, _, value in lines}
    name = told.get("model name") or platform.processor() or platform.machine()
    of_it = {"family": "cpu family", "model": "model", "stepping": "stepping"}
    generation = [f"{word} {told[key]}" for word, key in of_it.items() if told.get(key)]
    return f"{name} ({', '.join(generation)})" if generation else name


def device(torch_device: Any, taken: Sequence[Device] = ()) -> dict[str, Any]:
    """The device of a run: type, name, CPU threads, and the indices of `taken` devices."""
    import torch

    kind, name = torch_device.type, cpu_name()
    if kind == "cuda":
        name = torch.cuda.get_device_name(torch_device)
    elif taken and taken[0].kind != CPU:  # Apple's, or one that torch does not know
        kind, name = taken[0].kind, taken[0].name
    found = {"type": kind, "name": name, "threads": torch.get_num_threads()}
    return found | ({"indices": [one.index for one in taken]} if taken else {})


def peak_memory(torch_device: Any) -> int | None:
    """Peak memory of this process on a device since `forget_peak_memory`, in bytes; None if unknown.

    Reserved by PyTorch on a GPU, resident on a CPU.
    """
    import torch

    if torch_device.type == "cuda":
        return torch.cuda.max_memory_reserved(torch_device)
    return highest_resident_memory() if torch_device.type == "cpu" else None


def highest_resident_memory() -> int | None:
    """Peak resident memory of this process in bytes; None if unknown (not Linux).

    Not from getrusage, whose peak is inherited from the parent process.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    found = [line.split() for line in status.splitlines() if line.startswith("VmHWM:")]
    return 1024 * int(found[0][1]) if found else None


def forget_peak_memory() -> None:
    """Reset the peak memory, after an earlier run of this process."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):  # not Linux, or not allowed in a container
        Path("/proc/self/clear_refs").write_text("5")


def free_memory() -> None:
    """Release GPU memory that PyTorch has cached."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


def memory() -> int:
    """Memory that this process may use on this machine or in its container, in bytes."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_limits_of_groups()])


def _limits_of_groups() -> Iterator[int]:
    """Memory limits of this process's control group and its parents, in bytes."""
    try:
        groups = [line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except OSError:  # another system
        return
    for controller, path in groups:
        if controller in ("", "memory"):  # version 2 and 1
            name = "memory.limit_in_bytes" if controller else "memory.max"
            folder = Path(path.lstrip("/"))
            for within in {Path(), folder, *folder.parents}:
                with suppress(OSError, ValueError):  # not in this container, or "max": no limit
                    yield int(Path("/sys/fs/cgroup", controller, within, name).read_text())

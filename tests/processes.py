"""Commands in processes of their own that need not import the large libraries.

Python takes 5 s of a core to import torch and Lightning. Here a server process has imported them, nothing
of this project, and each command is a fork of it: it imports the project from the folder that it is typed in,
has its own environment and streams, and is signalled as any other.
"""

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Self

REPOSITORY = Path(__file__).resolve().parents[1]

LIBRARIES = (
    *("torch", "torch.utils.flop_counter", "torchvision", "torchmetrics", "lightning.pytorch"),
    *("hydra.main", "omegaconf", "pandas", "pydantic", "rich.console", "rich.progress"),
)
"""What the server imports. Importing starts no thread but those of OpenBLAS, which knows how to be forked."""

FORKED = multiprocessing.get_context("forkserver")
"""Its processes are forks of the server."""

FORKED.set_forkserver_preload([*LIBRARIES])


class Command:
    """`python WORDS` in a folder, started; a context in which it runs at most.

    Args:
        folder: Where it is typed.
        words: `run.py ...` or `-m ablations ...`.
        environment: Variables besides those of this process.
        group: Whether it leads a group of processes, which can be killed at once.
    """

    def __init__(self, folder: Path, *words: str, group: bool = False, **environment: str) -> None:
        self.words = words
        files = [tempfile.NamedTemporaryFile(delete=False) for _ in range(2)]  # noqa: SIM115
        self._output, self._errors = (Path(file.name) for file in files)
        environment = dict(os.environ) | environment
        arguments = (str(folder), words, environment, self._output, self._errors, group)
        self._process = FORKED.Process(target=_type, args=arguments)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def output(self) -> str:
        """What it printed so far."""
        return self._output.read_text(encoding="utf-8")

    @property
    def errors(self) -> str:
        """What it printed to standard error so far."""
        return self._errors.read_text(encoding="utf-8")

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, when it has ended.

        Raises:
            subprocess.TimeoutExpired: It still runs after `timeout` seconds.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.words, timeout)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.poll() is None:
            self._process.kill()
        self.wait()
        for file in (self._output, self._errors):
            file.unlink()


def typed(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` of `python WORDS`, with what was printed."""
    with Command(folder, *words, **environment) as command:
        code = command.wait()
        return subprocess.CompletedProcess(words, code, command.output, command.errors)


def _type(
    folder: str,
    words: tuple[str, ...],
    environment: Mapping[str, str],
    output: Path,
    errors: Path,
    group: bool,
) -> None:
    """What the forked process does."""
    assert not {"experiments", "ablations", "lightning_modules"} & sys.modules.keys()
    if group:
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, file in enumerate((os.devnull, output, errors)):
        opened = os.open(file, os.O_RDWR | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = open(0, encoding="utf-8")  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", buffering=1)  # noqa: SIM115  # lines, as in a terminal
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:] = [folder, *(place for place in sys.path if place not in ("", str(REPOSITORY)))]
    module = words[0] == "-m"
    sys.argv = [*words[1:]] if module else [*words]
    try:
        if module:
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(words[0], run_name="__main__")
    finally:
        # As the interpreter ends. The first tells joblib's idle workers to end; they are waited for later.
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()

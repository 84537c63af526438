"""The records of a results directory in one file, so that a clone can judge what it did not train.

`records.tar.xz` has the records and tables of each run that ended, without checkpoints, and the trials of
tunings. `results/reference/records.tar.xz` is committed.
"""

import errno
import io
import lzma
import os
import re
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ablations.errors import UserError
from ablations.files import write_atomically
from ablations.runs.identity import is_outside_identity
from ablations.runs.migration import migrate
from ablations.runs.records import DONE, RunDirectory, sealed
from ablations.text import amount

FILE_NAME = "records.tar.xz"
RUNS = "runs"
TRIALS = "tuning"
FOLDER = "results"
"""Replaces the results directory in packed records, where it says nothing."""

RECORD_FILE = re.compile(
    rf"{RUNS}/[0-9a-f]{{12}}/(record\.json|metrics\.csv|diagnostics\.csv)|{TRIALS}/[^/]+\.log"
)
"""The only files that are packed and unpacked: a stranger's checkpoint could execute code."""


def pack(
    results_dir: Path,
    folder: Path | None = None,
    only: Collection[str] | None = None,
    tunings: Collection[str] | None = None,
) -> tuple[Path, int]:
    """Write the records of completed and diverged runs into `records.tar.xz`; the same records give the same
    bytes.

    Args:
        results_dir: Where the records are.
        folder: Where the file goes; None: `results_dir`.
        only: Ids of the runs to pack; None: all.
        tunings: Names of the files of trials to pack; None: all.

    Returns:
        The file, and the number of runs.

    Raises:
        UserError: There is no such run.
        OSError: The file cannot be written; an earlier one stays.
    """
    content, runs = io.BytesIO(), 0
    with tarfile.open(fileobj=content, mode="w:xz", preset=9) as archive:
        for ended in _ended(results_dir, only):
            for path, data in _files(*ended):
                _add(archive, f"{RUNS}/{path.parent.name}/{path.name}", data)
            runs += 1
        for path in sorted((results_dir / TRIALS).glob("*.log")):
            if tunings is not None and path.name not in tunings:
                continue
            _add(archive, f"{TRIALS}/{path.name}", path.read_bytes())
    if not runs:
        of = "" if only is None else " of these studies"
        raise UserError(f"results_dir={results_dir}: has no run{of} that completed or diverged")
    path = (folder or results_dir) / FILE_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    if (before := _count_of(path)) > runs:
        print(f"{path}: replaced; {amount(before, 'run')} before, {runs} now", file=sys.stderr)
    write_atomically(path, content.getvalue())
    return path, runs


def unpack(path: Path, results_dir: Path) -> tuple[int, int]:
    """Unpack records into a results directory; existing files stay, and older schemas are updated.

    Returns:
        How many runs were new, and how many were not.

    Raises:
        UserError: The file cannot be read or is not an archive of records.
        OSError: The results directory cannot be written; no run is left incomplete.
    """
    runs_dir = results_dir / RUNS
    results_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=results_dir, prefix=".unpacked-") as folder:
        try:
            with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:xz") as archive:
                _extract(archive, Path(folder))
        except OSError as error:
            if error.filename == str(path) or error.errno is None:
                raise UserError(f"{path}: not a readable records archive ({error})") from error
            error.filename = str(runs_dir)  # a full disk names no file
            raise
        except (EOFError, tarfile.TarError, lzma.LZMAError) as error:
            raise UserError(f"{path}: not a readable records archive ({error})") from error
        unpacked = Path(folder) / RUNS
        if not unpacked.is_dir() or not all((run / "record.json").is_file() for run in unpacked.iterdir()):
            raise UserError(f"{path}: not a records archive; make one with `python -m ablations pack`")
        runs_dir.mkdir(exist_ok=True)
        migrate(Path(folder))
        runs = sorted(unpacked.iterdir())
        new = sum(_moved(run, runs_dir / run.name) for run in runs)
        for trials in sorted((Path(folder) / TRIALS).glob("*.log")):
            (results_dir / TRIALS).mkdir(exist_ok=True)
            with suppress(FileExistsError):
                os.link(trials, results_dir / TRIALS / trials.name)
    return new, len(runs) - new


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))


def _extract(archive: tarfile.TarFile, folder: Path) -> None:
    """Write only the files of records; `extractall` has no filter before Python 3.11.4."""
    for entry in archive:
        if entry.isdir():
            continue
        content = archive.extractfile(entry) if entry.isreg() else None
        if content is None or not RECORD_FILE.fullmatch(entry.name):
            raise tarfile.TarError(f"{entry.name!r} is not a record")
        path = folder / entry.name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            shutil.copyfileobj(content, file)


def _moved(run: Path, target: Path) -> bool:
    """Rename a folder, unless another command has just put one there."""
    try:
        run.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            return False
        raise
    return True


def _count_of(path: Path) -> int:
    try:
        with tarfile.open(path, mode="r:xz") as archive:
            return sum(name.endswith("/record.json") for name in archive.getnames())
    except (OSError, EOFError, tarfile.TarError, lzma.LZMAError):
        return 0


def _ended(results_dir: Path, only: Collection[str] | None) -> Iterator[tuple[RunDirectory, dict[str, Any]]]:
    for folder in sorted((results_dir / RUNS).glob("*/")):
        if only is not None and folder.name not in only:
            continue
        directory = RunDirectory(results_dir, folder.name)
        record = directory.read_or_none()
        if record is not None and directory.status_of(record, directory.rows(record)) in DONE:
            yield directory, record


def _files(directory: RunDirectory, record: Mapping[str, Any]) -> Iterator[tuple[Path, bytes]]:
    config = _without_folder(record["config"], record["config"].get("results_dir", FOLDER))
    process = {**record["process"], "host": ""}
    yield directory.record_path, sealed({**record, "process": process, "config": config}).encode()
    for path in (directory.history_path, directory.diagnostics_path):
        if path.exists():
            yield path, path.read_bytes()


def _without_folder(node: Any, folder: str, path: str = "") -> Any:
    """A configuration without the folders of a machine, as far as its identity does not have them."""
    if isinstance(node, dict):
        return {
            key: _without_folder(value, folder, f"{path}.{key}".lstrip(".")) for key, value in node.items()
        }
    if isinstance(node, list):
        return [_without_folder(value, folder, path) for value in node]
    if not isinstance(node, str) or not (path == "weights" or is_outside_identity(path)):
        return node
    home = os.path.expanduser("~") + os.sep
    return FOLDER if node == folder else re.sub(f"^{re.escape(home)}", "~/", node)

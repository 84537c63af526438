"""Checksums of the files that a dataset is described by: tables, lists. Light: hashlib only.

A dataset whose files nobody could know beforehand (a user's tables) names them in `dataset.files` and has
null in `dataset.checksums` under the same key. When a run is resolved, null becomes the file's SHA-256, so
a table that was changed makes another run. Images are not read for it: they are far too many.
"""

import functools
import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CHECKSUM = r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}"

MISSING = "missing"
"""Stands for the checksum of a file that cannot be read; loading then says why."""


def filled_checksums(dataset: Mapping[str, Any]) -> Any:
    """The `checksums` of a resolved dataset node, each null replaced by that of its file.

    Null stays where no file is named. What is no mapping is returned as it is: the dataset refuses it.
    """
    checksums, files = dataset["checksums"], dataset.get("files")
    if not isinstance(checksums, Mapping) or not isinstance(files, Mapping):
        return checksums
    return {
        key: _checksum(dataset.get("root"), files.get(key)) if checksum is None else checksum
        for key, checksum in checksums.items()
    }


def _checksum(root: object, name: object) -> str | None:
    if name is None:
        return None
    try:
        return file_checksum(file_path(str(root), str(name)))
    except OSError:
        return MISSING


def file_path(root: str | os.PathLike[str], name: str) -> Path:
    """Where a file of `dataset.files` is: relative to the dataset's root, unless absolute."""
    return Path(root).expanduser() / Path(name).expanduser()


def file_checksum(path: Path) -> str:
    """`sha256:...` of a file's content; a process reads it once, unless its size or time changes.

    Raises:
        OSError: it cannot be read, or is no file.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError(f"{path} is no file")
    return _checksum_of_version(path.absolute(), status.st_size, status.st_mtime_ns)


@functools.lru_cache
def _checksum_of_version(path: Path, size: int, time_ns: int) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()

"""Checksums of what a dataset is described by: tables, lists of images. Light: hashlib only.

A dataset whose files nobody could know beforehand (a user's tables) names them in `dataset.files` and has
null in `dataset.checksums` under the same key. When a run is resolved, null becomes the file's SHA-256, so
a table that was changed makes another run. Images are not read for it: they are far too many. Their names
are listed instead (`images`: class folders, `shards`: tar files), which is done once in a process.
"""

import functools
import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

CHECKSUM = r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}"

MISSING = "missing"
"""Stands for the checksum of a file that cannot be read; loading then says why."""


IMAGE_SUFFIXES = (".jpeg", ".jpg", ".png")

CLASS_FOLDERS = ("train", "val")
"""Below the root; each has a folder per class."""


def filled_checksums(dataset: Mapping[str, Any]) -> Any:
    """The `checksums` of a resolved dataset node, each null replaced by that of its file or listing.

    Null stays where no file is named. What is no mapping is returned as it is: the dataset refuses it.
    """
    checksums, files = dataset["checksums"], dataset.get("files")
    if not isinstance(checksums, Mapping):
        return checksums
    root = str(dataset.get("root"))
    filled = dict(checksums)
    for key in (key for key, checksum in checksums.items() if checksum is None):
        try:
            if key == "images":
                filled[key] = _images_checksum(root)
            elif key == "shards" and isinstance(patterns := dataset.get(key), Mapping):
                filled[key] = shards_checksum(root, patterns)
            elif isinstance(files, Mapping):
                filled[key] = _checksum(root, files.get(key))
        except (OSError, ImportError, ValueError):
            filled[key] = MISSING
    return filled


@functools.cache
def _images_checksum(root: str) -> str:
    return names_checksum(
        f"{part}/{folder}/{entry.name}"
        for part in CLASS_FOLDERS
        for folder in folders_in(Path(root).expanduser() / part)
        for entry in images_in(Path(root).expanduser() / part / folder)
    )


def folders_in(folder: Path) -> list[str]:
    """The names of the class folders in a folder, sorted.

    Raises:
        OSError: it cannot be listed.
    """
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def images_in(folder: Path) -> list[os.DirEntry[str]]:
    """The images in a folder, sorted by their names; none is asked for its size.

    Raises:
        OSError: it cannot be listed.
    """
    with os.scandir(folder) as entries:
        images = [e for e in entries if e.name.lower().endswith(IMAGE_SUFFIXES) and e.is_file()]
    return sorted(images, key=lambda entry: entry.name)


def names_checksum(names: Iterable[str]) -> str:
    """`sha256:...` of names, in their order."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(os.fsencode(name) + b"\n")
    return "sha256:" + digest.hexdigest()


def shards_checksum(root: str, patterns: Mapping[str, str]) -> str:
    """`sha256:...` of the names of all shards, and of the sizes of those that are files.

    Sizes of test shards are left out: a test image that cannot be decoded may be replaced.

    Raises:
        ImportError: the package braceexpand is not installed.
        OSError: there is no such shard.
        ValueError: a pattern cannot be expanded.
    """
    return names_checksum(
        f"{part}/{name}\0{'' if part == 'test' or is_address(root) else os.stat(address(root, name)).st_size}"
        for part, pattern in sorted(patterns.items())
        for name in expanded(pattern)
    )


def is_address(root: str) -> bool:
    """Whether shards are streamed from elsewhere: nothing is asked there when a run is named."""
    return "://" in root or root.startswith("pipe:")


def address(root: str, name: str) -> str:
    """Path or address of a shard."""
    return f"{root}/{name}" if is_address(root) else str(file_path(root, name))


def expanded(pattern: str) -> list[str]:
    """The names that a pattern of shards stands for; several patterns are joined by ::.

    Raises:
        ImportError: the package braceexpand is not installed; webdataset needs it too.
        ValueError: the braces do not match.
    """
    from braceexpand import braceexpand

    return [name for part in pattern.split("::") for name in braceexpand(part)]


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

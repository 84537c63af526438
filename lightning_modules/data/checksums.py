r"""Checksums of a dataset's contents: tables, images, shards. Imports at most pandas.

For a user's own files, `dataset.checksums` is null. Resolving a run replaces it by the SHA-256 of the
contents, so changed contents make another run. For a table this is the file's own; for `images` and `shards`,
that of the output of `sha256sum`::

    cd ROOT; find train val -name '*.JPEG' | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum

Every file is read once (140 GB for ImageNet). Results are cached in the user's cache folder by path, inode,
size and times; checking 1.28 million files on a local disk takes about ten seconds. Without a writable cache,
each process reads them again. Streamed shards are identified by their addresses.
"""

import hashlib
import logging
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

log = logging.getLogger(__name__)

CHECKSUM = r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}"

MISSING = "missing"
"""Checksum of an unreadable file; loading reports why."""

IMAGES = "images"
SHARDS = "shards"
"""Keys of `dataset.checksums` for many files."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")
"""Suffixes of images, in any case, as in torchvision's ImageFolder."""

CLASS_FOLDERS = ("train", "val")
"""Below the root; each has a folder per class."""

GROUP_BYTES = 64 * 2**20
"""Size of a cached group of files (ImageNet: 2,200 groups); a changed file costs reading its group."""

TOLD_BYTES = 4 * 2**30
"""Reading this many bytes or more is announced."""

UNSETTLED_NS = 2 * 10**9
"""A file changed this shortly before reading is not cached: it may change again with the same time."""

AT_ONCE = 2**16
"""Files whose status is requested at once, which limits memory."""

THREADS = min(32, 4 * (os.cpu_count() or 1))


def filled_checksums(dataset: Mapping[str, Any]) -> Any:
    """The `checksums` of a resolved dataset node; null is replaced by that of the contents, if named."""
    checksums, files = dataset["checksums"], dataset.get("files")
    if not isinstance(checksums, Mapping):
        return checksums
    root = str(dataset.get("root"))
    filled = dict(checksums)
    for key in (key for key, checksum in checksums.items() if checksum is None):
        try:
            if key == IMAGES:
                asked = [dataset.get(name) for name in ("root", "files", "image_paths", "image_column")]
                filled[key] = _for_a_while(repr(asked), partial(images_checksum, root, dataset))
            elif key == SHARDS and isinstance(patterns := dataset.get(key), Mapping):
                filled[key] = _for_a_while(repr((root, patterns)), partial(shards_checksum, root, patterns))
            elif isinstance(files, Mapping) and (name := files.get(key)) is not None:
                filled[key] = file_checksum(file_path(root, str(name)))
        except (OSError, ImportError, ValueError):
            filled[key] = MISSING
    return filled


_answers: dict[str, tuple[float, str]] = {}


def _for_a_while(question: str, find: Callable[[], str]) -> str:
    """Reuse a slow answer for a minute, for the arms of a study. Loading computes it again."""
    until, answer = _answers.get(question, (0.0, ""))
    if (start := time.monotonic()) >= until:
        answer = find()
        _answers[question] = (start + 60 if time.monotonic() - start > 1 else 0.0, answer)
    return answer


def images_checksum(root: str | os.PathLike[str], dataset: Mapping[str, Any]) -> str:
    """`sha256:...` of the images that the dataset's tables list (`image_paths`), or else of class folders.

    Raises:
        OSError: A folder or an image cannot be read.
        ValueError: A table cannot be read.
    """
    if isinstance(patterns := dataset.get("image_paths"), Mapping):
        from lightning_modules.data.tables import listed_images  # imports pandas

        names = listed_images(root, dataset["files"], patterns, str(dataset.get("image_column")))
    else:
        names = [
            f"{part}/{folder}/{entry.name}"
            for part in CLASS_FOLDERS
            for folder in folders_in(file_path(root, part))
            for entry in images_in(file_path(root, f"{part}/{folder}"))
        ]
    return contents_checksum(file_path(root, ""), names)


def folders_in(folder: Path) -> list[str]:
    """Names of the class folders in a folder, sorted; OSError if it cannot be listed."""
    return [entry.name for entry in visible(folder) if entry.is_dir()]


def images_in(folder: Path) -> list[os.DirEntry[str]]:
    """Images in a folder, sorted by name; OSError if it cannot be listed."""
    return [entry for entry in visible(folder) if is_image(entry)]


def is_image(entry: os.DirEntry[str]) -> bool:
    return entry.name.lower().endswith(IMAGE_SUFFIXES) and entry.is_file()


def visible(folder: Path) -> list[os.DirEntry[str]]:
    """Entries of a folder, sorted by name, without hidden ones such as macOS's ._img.jpg."""
    with os.scandir(folder) as entries:
        return sorted((e for e in entries if not is_hidden(e.name)), key=lambda entry: entry.name)


def is_hidden(name: str) -> bool:
    return name.startswith(".")


def shards_checksum(root: str, patterns: Mapping[str, str]) -> str:
    """`sha256:...` of the contents of all shards; of their addresses if they are streamed.

    Raises:
        ImportError: The package braceexpand is not installed.
        OSError: A shard does not exist.
        ValueError: A pattern cannot be expanded.
    """
    names = [name for _, pattern in sorted(patterns.items()) for name in expanded(pattern)]
    if is_address(root):
        return _named(hashlib.sha256("".join(f"{address(root, name)}\n" for name in names).encode()).digest())
    return contents_checksum(file_path(root, ""), names)


def is_address(root: str) -> bool:
    """Whether shards are streamed from another machine, which is not contacted to name a run."""
    return "://" in root or root.startswith("pipe:")


def address(root: str, name: str) -> str:
    return f"{root}/{name}" if is_address(root) else str(file_path(root, name))


def expanded(pattern: str) -> list[str]:
    """Names that a pattern of shards expands to; `::` joins patterns."""
    from braceexpand import braceexpand

    return [name for part in pattern.split("::") for name in braceexpand(part)]


def file_path(root: str | os.PathLike[str], name: str) -> Path:
    """Path of a file of `dataset.files`: relative to the dataset's root, unless absolute."""
    return Path(os.path.expanduser(root)) / os.path.expanduser(name)


def file_checksum(path: Path) -> str:
    """`sha256:...` of a file's content; OSError if it cannot be read."""
    (digest,) = _digests(path.parent, [path.name])
    return _named(digest)


def contents_checksum(root: Path, names: Iterable[str]) -> str:
    """`sha256:...` of `sha256sum`'s output for files, sorted by the bytes of their names."""
    ordered = sorted(set(names), key=os.fsencode)
    lines = hashlib.sha256()
    for name, digest in zip(ordered, _digests(root, ordered), strict=True):
        lines.update(digest.hex().encode() + b"  " + os.fsencode(name) + b"\n")
    return _named(lines.digest())


def _named(digest: bytes) -> str:
    return "sha256:" + digest.hex()


_Version = tuple[int, int, int, int]
_File = tuple[str, _Version]
"""Name and version."""


def _digests(root: Path, names: Sequence[str]) -> Iterator[bytes]:
    folder = os.path.abspath(root)
    found: dict[bytes, bytes] = {}
    wanted: dict[bytes, list[_File]] = {}
    pool = ThreadPoolExecutor(THREADS)
    try:
        with closing(_Kept()) as kept:
            for group in _groups(_files(folder, names, pool)):
                key = _key(folder, group)
                if (digests := kept.get(key, len(group))) is None:
                    wanted[key], digests = group, b""
                found[key] = digests
            size = sum(version[1] for group in wanted.values() for _, version in group)
            if size >= TOLD_BYTES:
                log.warning("%s: reading %.0f GB once to identify the contents", folder, size / 1e9)
            for key, (digests, settled) in zip(
                wanted, pool.map(partial(_read, folder), wanted.values()), strict=True
            ):
                found[key] = digests
                if settled:
                    kept.put(key, digests)
    finally:
        pool.shutdown(cancel_futures=True)
    for digests in found.values():
        yield from (digests[start : start + 32] for start in range(0, len(digests), 32))


def _files(folder: str, names: Sequence[str], pool: ThreadPoolExecutor) -> Iterator[_File]:
    """Files with their versions, requested in parallel because network disks respond slowly."""
    for start in range(0, len(names), AT_ONCE):
        chunks = [names[i : i + 256] for i in range(start, min(start + AT_ONCE, len(names)), 256)]
        for chunk, versions in zip(chunks, pool.map(partial(_versions, folder), chunks), strict=True):
            yield from zip(chunk, versions, strict=True)


def _versions(folder: str, names: Sequence[str]) -> list[_Version]:
    return [_version(os.stat(path), path) for path in (os.path.join(folder, name) for name in names)]


def _version(status: os.stat_result, path: str) -> _Version:
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError(f"{path} is not a file")
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _groups(files: Iterable[_File]) -> Iterator[list[_File]]:
    """Groups of neighbours. About one name in 256 ends a group, so that an added file changes few groups."""
    group: list[_File] = []
    size = 0
    for name, version in files:
        group.append((name, version))
        size += version[1]
        if size >= GROUP_BYTES or hashlib.sha256(os.fsencode(name)).digest()[0] == 0:
            yield group
            group, size = [], 0
    if group:
        yield group


def _key(folder: str, group: Sequence[_File]) -> bytes:
    digest = hashlib.sha256(os.fsencode(folder))
    for name, version in group:
        digest.update(b"\n%s\0%d %d %d %d" % (os.fsencode(name), *version))
    return digest.digest()


def _read(folder: str, group: Sequence[_File]) -> tuple[bytes, bool]:
    """The SHA-256 of each file, and whether it can be cached: the version is unchanged and old enough."""
    digests, settled, start = [], True, time.time_ns()
    for name, version in group:
        path = os.path.join(folder, name)
        with open(path, "rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").digest())
            settled &= _version(os.fstat(file.fileno()), path) == version
        settled &= max(version[2:]) < start - UNSETTLED_NS
    return b"".join(digests), settled


class _Kept:
    """The cache: a file in the user's cache folder, or this process's memory if that is not writable."""

    in_process: ClassVar[dict[bytes, bytes]] = {}

    def __init__(self) -> None:
        folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        path = Path(folder, "xception_ablations", "contents.sqlite")
        self.connection: sqlite3.Connection | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.connection = sqlite3.connect(path, timeout=10, isolation_level=None)
            self.connection.execute(
                "CREATE TABLE IF NOT EXISTS contents (key BLOB PRIMARY KEY, digests BLOB)"
            )
        except (OSError, sqlite3.Error) as error:
            log.info("%s: %s; each process reads all files", path, error)

    def get(self, key: bytes, files: int) -> bytes | None:
        """The digests of a group of this many files."""
        digests = self.in_process.get(key)
        if digests is None and self.connection is not None:
            try:
                rows = self.connection.execute(
                    "SELECT digests FROM contents WHERE key = ?", (key,)
                ).fetchall()
            except sqlite3.Error:  # damaged or busy
                rows = []
            digests = rows[0][0] if rows else None
        return digests if isinstance(digests, bytes) and len(digests) == 32 * files else None

    def put(self, key: bytes, digests: bytes) -> None:
        try:
            if self.connection is None:
                raise sqlite3.OperationalError("no file")
            self.connection.execute("INSERT OR REPLACE INTO contents VALUES (?, ?)", (key, digests))
        except sqlite3.Error:
            self.in_process[key] = digests

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()

r"""Checksums of a dataset's contents: tables, images, shards. Light: pandas at most.

A user's own files have null in `dataset.checksums`. When a run is resolved, null becomes the SHA-256 of the
contents, so other contents are another run: of a table the file's own (`dataset.files`), of `images` and
`shards` that of what `sha256sum` prints::

    cd ROOT; find train val -name '*.JPEG' | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum

Every file is read once: 140 GB for ImageNet. Results are kept by path, inode, size and times of change in
the user's cache folder; checking these takes some ten seconds for 1.28 million files on a local disk.
Without a writable cache, each process reads anew. Addresses stand for shards that are streamed.
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
"""Stands for the checksum of a file that cannot be read; loading then says why."""

IMAGES = "images"
SHARDS = "shards"
"""Keys of `dataset.checksums` that stand for many files."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")
"""Of the images that are read, in capitals or not; torchvision's ImageFolder reads the same."""

CLASS_FOLDERS = ("train", "val")
"""Below the root; each has a folder per class."""

GROUP_BYTES = 64 * 2**20
"""Files are kept in groups of so many bytes, 2,200 for ImageNet; a change of one costs reading its group."""

TOLD_BYTES = 4 * 2**30
"""Files of this many bytes or more are announced before they are read."""

UNSETTLED_NS = 2 * 10**9
"""A file changed so shortly before it is read may change again without another time: it is not kept."""

AT_ONCE = 2**16
"""Files that are asked for before the next are: the answers are held in memory."""

THREADS = min(32, 4 * (os.cpu_count() or 1))


def filled_checksums(dataset: Mapping[str, Any]) -> Any:
    """The `checksums` of a resolved dataset node, each null replaced by that of its contents.

    Null stays where no file is named. What is no mapping is returned as it is: the dataset refuses it.
    """
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
    """An answer that took over a second counts for a minute: the arms of a study ask for it one by one.

    Loading asks anew, so no run trains on other contents.
    """
    until, answer = _answers.get(question, (0.0, ""))
    if (start := time.monotonic()) >= until:
        answer = find()
        _answers[question] = (start + 60 if time.monotonic() - start > 1 else 0.0, answer)
    return answer


def images_checksum(root: str | os.PathLike[str], dataset: Mapping[str, Any]) -> str:
    """`sha256:...` of the images of a dataset: those that its tables list, else those in class folders.

    Args:
        root: Folder of the images.
        dataset: Its settings; with `image_paths` and `image_column` tables list the images.

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
    """The names of the class folders in a folder, sorted; hidden ones are none.

    Raises:
        OSError: it cannot be listed.
    """
    return [entry.name for entry in visible(folder) if entry.is_dir()]


def images_in(folder: Path) -> list[os.DirEntry[str]]:
    """The images in a folder, sorted by their names; none is asked for its size.

    Raises:
        OSError: it cannot be listed.
    """
    return [entry for entry in visible(folder) if is_image(entry)]


def is_image(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file that is read as an image."""
    return entry.name.lower().endswith(IMAGE_SUFFIXES) and entry.is_file()


def visible(folder: Path) -> list[os.DirEntry[str]]:
    """What a folder holds, sorted by name, without hidden entries such as macOS's ._img.jpg.

    Raises:
        OSError: it cannot be listed.
    """
    with os.scandir(folder) as entries:
        return sorted((e for e in entries if not is_hidden(e.name)), key=lambda entry: entry.name)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, by its name."""
    return name.startswith(".")


def shards_checksum(root: str, patterns: Mapping[str, str]) -> str:
    """`sha256:...` of the contents of all shards; where they are streamed, of their addresses.

    Raises:
        ImportError: the package braceexpand is not installed.
        OSError: there is no such shard.
        ValueError: a pattern cannot be expanded.
    """
    names = [name for _, pattern in sorted(patterns.items()) for name in expanded(pattern)]
    if is_address(root):
        return _named(hashlib.sha256("".join(f"{address(root, name)}\n" for name in names).encode()).digest())
    return contents_checksum(file_path(root, ""), names)


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


def file_path(root: str | os.PathLike[str], name: str) -> Path:
    """Where a file of `dataset.files` is: relative to the dataset's root, unless absolute."""
    return Path(os.path.expanduser(root)) / os.path.expanduser(name)


def file_checksum(path: Path) -> str:
    """`sha256:...` of a file's content.

    Raises:
        OSError: it cannot be read, or is no file.
    """
    (digest,) = _digests(path.parent, [path.name])
    return _named(digest)


def contents_checksum(root: Path, names: Iterable[str]) -> str:
    """`sha256:...` of the lines that `sha256sum` prints of some files, sorted by the bytes of their names.

    Raises:
        OSError: one of them cannot be read, or is no file.
    """
    ordered = sorted(set(names), key=os.fsencode)
    lines = hashlib.sha256()
    for name, digest in zip(ordered, _digests(root, ordered), strict=True):
        lines.update(digest.hex().encode() + b"  " + os.fsencode(name) + b"\n")
    return _named(lines.digest())


def _named(digest: bytes) -> str:
    return "sha256:" + digest.hex()


_Version = tuple[int, int, int, int]
_File = tuple[str, _Version]
"""A name and what tells the file's versions apart."""


def _digests(root: Path, names: Sequence[str]) -> Iterator[bytes]:
    """The SHA-256 of each file, read where it is not kept."""
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
                log.warning("%s: %.0f GB are read once, to tell them from other contents", folder, size / 1e9)
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
    """The files with their versions; asked for side by side, as a network's disk takes long to answer."""
    for start in range(0, len(names), AT_ONCE):
        chunks = [names[i : i + 256] for i in range(start, min(start + AT_ONCE, len(names)), 256)]
        for chunk, versions in zip(chunks, pool.map(partial(_versions, folder), chunks), strict=True):
            yield from zip(chunk, versions, strict=True)


def _versions(folder: str, names: Sequence[str]) -> list[_Version]:
    return [_version(os.stat(path), path) for path in (os.path.join(folder, name) for name in names)]


def _version(status: os.stat_result, path: str) -> _Version:
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError(f"{path} is no file")
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _groups(files: Iterable[_File]) -> Iterator[list[_File]]:
    """Neighbours, up to some size. A name in 256 ends a group, so that an added file moves few others."""
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
    """What tells a group of files and their versions from others."""
    digest = hashlib.sha256(os.fsencode(folder))
    for name, version in group:
        digest.update(b"\n%s\0%d %d %d %d" % (os.fsencode(name), *version))
    return digest.digest()


def _read(folder: str, group: Sequence[_File]) -> tuple[bytes, bool]:
    """The SHA-256 of each file, and whether they belong to the versions that were found, for good."""
    digests, settled, start = [], True, time.time_ns()
    for name, version in group:
        path = os.path.join(folder, name)
        with open(path, "rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").digest())
            settled &= _version(os.fstat(file.fileno()), path) == version
        settled &= max(version[2:]) < start - UNSETTLED_NS
    return b"".join(digests), settled


class _Kept:
    """What was read: in a file of the user's cache folder, or in the process where that cannot be written."""

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
            log.info("%s: %s; files are read by each process anew", path, error)

    def get(self, key: bytes, files: int) -> bytes | None:
        """The digests of a group of so many files."""
        digests = self.in_process.get(key)
        if digests is None and self.connection is not None:
            try:
                rows = self.connection.execute(
                    "SELECT digests FROM contents WHERE key = ?", (key,)
                ).fetchall()
            except sqlite3.Error:  # damaged, or busy for long
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

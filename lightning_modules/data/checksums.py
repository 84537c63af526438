r"""Checksums of a dataset's contents: tables, images, shards. Imports at most pandas.

For a user's own files, `dataset.checksums` is null. Resolving a run replaces it by the SHA-256 of the
contents, so changed contents make another run. For a table this is the file's own; for `images` and `shards`,
that of the output of `sha256sum`::

    cd ROOT; find train val -name '*.JPEG' | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum

Every file is read once (140 GB for ImageNet), and all again when one of them changes. Results are cached in
the user's cache folder by path, inode, size and times of all files; checking 1.28 million files on a local
disk takes about ten seconds. Without a writable cache, each process reads them again. Streamed shards are
identified by their addresses.
"""

import hashlib
import logging
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

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

TOLD_BYTES = 4 * 2**30
"""Reading this many bytes or more is announced."""

UNSETTLED_NS = 2 * 10**9
"""A file changed this shortly before reading is not cached: it may change again with the same time."""

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
    return _cached("file", path.parent, [path.name], lambda digests: digests)


def contents_checksum(root: Path, names: Iterable[str]) -> str:
    """`sha256:...` of `sha256sum`'s output for files, sorted by the bytes of their names."""
    ordered = sorted(set(names), key=os.fsencode)

    def of_listing(digests: bytes) -> bytes:
        lines = hashlib.sha256()
        for number, name in enumerate(ordered):
            digest = digests[32 * number : 32 * (number + 1)]
            lines.update(digest.hex().encode() + b"  " + os.fsencode(name) + b"\n")
        return lines.digest()

    return _cached("listing", root, ordered, of_listing)


def _named(digest: bytes) -> str:
    return "sha256:" + digest.hex()


_in_process: dict[str, str] = {}
"""The cache where the user's cache folder cannot be written."""


def _cached(kind: str, root: Path, names: Sequence[str], combine: Callable[[bytes], bytes]) -> str:
    """The checksum of this kind, which `combine` makes of the files' SHA-256; read once until one changes."""
    folder = os.path.abspath(root)
    chunks = [names[start : start + 256] for start in range(0, len(names), 256)]
    pool = ThreadPoolExecutor(THREADS)
    try:
        state, size, newest = _status_of(folder, chunks, pool)
        key = hashlib.sha256(f"{kind} {state}".encode()).hexdigest()
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        file = Path(cache, "xception_ablations", "contents", key)
        if (known := _in_process.get(key) or _read_text(file)) and re.fullmatch(CHECKSUM, known):
            return known
        if size >= TOLD_BYTES:
            log.warning("%s: reading %.0f GB once to identify the contents", folder, size / 1e9)
        start = time.time_ns()
        checksum = _named(combine(b"".join(pool.map(partial(_digests, folder), chunks))))
        if newest < start - UNSETTLED_NS and _status_of(folder, chunks, pool)[0] == state:
            try:
                _write_text(file, checksum)
            except OSError as error:
                log.info("%s: %s; each process reads all files", file, error)
                _in_process[key] = checksum
        return checksum
    finally:
        pool.shutdown(cancel_futures=True)


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _write_text(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f"{file.name}.{os.getpid()}")
    new.write_text(text, encoding="ascii")
    new.replace(file)


def _status_of(
    folder: str, chunks: Sequence[Sequence[str]], pool: ThreadPoolExecutor
) -> tuple[str, int, int]:
    """A digest of all names and versions, the bytes in total, and when the last one changed (ns)."""
    found = list(pool.map(partial(_status, folder), chunks))  # network disks respond slowly
    state = hashlib.sha256(os.fsencode(folder) + b"\n" + b"".join(digest for digest, *_ in found))
    return state.hexdigest(), sum(size for _, size, _ in found), max((last for *_, last in found), default=0)


def _status(folder: str, names: Sequence[str]) -> tuple[bytes, int, int]:
    digest, size, newest = hashlib.sha256(), 0, 0
    for name in names:
        found = os.stat(path := os.path.join(folder, name))
        if not stat.S_ISREG(found.st_mode):
            raise FileNotFoundError(f"{path} is not a file")
        version = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        digest.update(b"%s\0%d %d %d %d\n" % (os.fsencode(name), *version))
        size, newest = size + found.st_size, max(newest, *version[2:])
    return digest.digest(), size, newest


def _digests(folder: str, names: Sequence[str]) -> bytes:
    """The SHA-256 of each file, joined."""
    digests = []
    for name in names:
        with open(os.path.join(folder, name), "rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").digest())
    return b"".join(digests)

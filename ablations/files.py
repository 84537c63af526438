"""Atomic writing of files, and checks that folders can be written."""

import csv
import io
import os
import secrets
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ablations.errors import UserError

ROOM_FOR_FILE = 256
"""Bytes of a path reserved for the name of a file."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that readers always see either the old content or the new.

    Args:
        path: Where the file goes; its folder must exist.
        content: Text is written as UTF-8, with unchanged line ends.

    Raises:
        OSError: The folder is missing, full or not writable. The old file is untouched and no temporary file
            is left.
    """
    data = content.encode() if isinstance(content, str) else content
    # In the same folder: a rename is atomic only within a file system. Not by tempfile, whose files no
    # other user can read.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:  # also KeyboardInterrupt
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):  # which names no file or the temporary one
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def write_forms(folder: Path, name: str, contents: Mapping[str, str | bytes]) -> list[Path]:
    """Write one thing in several forms, by suffix, each atomically, into a folder that may be new.

    Raises:
        OSError: As `write_atomically`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}{suffix}" for suffix in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        write_atomically(path, content)
    return paths


def rows_as_csv(columns: Iterable[str], rows: Iterable[Mapping[str, Any]], missing: str = "") -> str:
    """Rows as CSV; floats read back exactly."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), restval=missing, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def check_writable(what: str, folder: Path, within: Iterable[str], instead: str = "") -> None:
    """Check that files can be written in folders, which need not exist; leaves nothing behind.

    Args:
        what: What the user chose, "results_dir=results".
        folder: The folder that it names.
        within: The folders in it to be written.
        instead: What else the user can do.

    Raises:
        UserError: A place is a file, has too long a name, or is not writable.
    """
    for name in within:
        if reason := _why_not_writable((folder / name).absolute()):
            raise UserError(f"{what}: cannot be written ({reason}){instead}")


def _why_not_writable(folder: Path) -> str | None:
    existing = folder
    while not os.path.lexists(existing) and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        return f"{existing} is not a folder"
    longest = max(len(os.fsencode(part)) for part in folder.parts)
    length = len(os.fsencode(folder)) + ROOM_FOR_FILE
    try:
        if longest > os.pathconf(existing, "PC_NAME_MAX") or length > os.pathconf(existing, "PC_PATH_MAX"):
            return "File name too long"
        with tempfile.TemporaryFile(dir=existing):
            return None
    except OSError as error:
        return f"{existing}: {error.strerror}"

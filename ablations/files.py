"""Files that are never half there: written beside their place, then renamed into it."""

import os
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ablations.errors import UserError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old content or the new, at whatever instant it is
    read.

    Args:
        path: Where the file goes; its folder must exist.
        content: Text is written as UTF-8 with line ends as they are.

    Raises:
        OSError: The folder is missing, full or not writable. The old file is then untouched and no
            temporary file is left.
    """
    data = content.encode() if isinstance(content, str) else content
    # Same folder, because a rename is atomic only within a file system. A plain open() and not
    # tempfile, whose files no other user could read.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:  # also KeyboardInterrupt
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):  # a full disk names no file, other errors the temporary one
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def write_forms(folder: Path, name: str, contents: Mapping[str, str | bytes]) -> list[Path]:
    """Write one thing in its forms, each whole or not at all.

    Args:
        folder: Where they go; made where it is not there.
        name: Of the files, without a suffix.
        contents: By suffix, ".csv".

    Returns:
        The paths, in the order of `contents`.

    Raises:
        OSError: As `write_atomically`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}{suffix}" for suffix in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        write_atomically(path, content)
    return paths


def check_results_dir(results_dir: Path) -> None:
    """Check that files can be written there, leaving nothing behind.

    Raises:
        UserError: They cannot.
    """
    existing = results_dir.absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UserError(f"results_dir={results_dir}: cannot be written ({error.strerror})") from error

"""`ablations new NAME`: a small project that works, to be changed into one's own."""

import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from ablations.errors import UserError

NAME = re.compile(r"[A-Za-z][\w-]{0,63}")

RENAMED = {"gitignore": ".gitignore"}
"""Files whose own name would have an effect where the template lies."""


def create_project(folder: Path) -> list[Path]:
    """Write a project: configuration, a network, a factor, a study, a claim, `run.py` and a README.

    Args:
        folder: Made here; its name is the project's.

    Returns:
        The files.

    Raises:
        UserError: The name cannot be used, or something is there already.
        OSError: The folder cannot be written.
    """
    if not NAME.fullmatch(folder.name):
        raise UserError(f"new {folder.name}: use letters, digits, - and _, and begin with a letter")
    if folder.exists():
        raise UserError(f"new {folder}: exists already; choose another name")
    return _copy(files("experiments") / "template", folder, folder.name)


def _copy(source: Traversable, target: Path, name: str) -> list[Path]:
    target.mkdir(parents=True)
    written = []
    for entry in sorted(source.iterdir(), key=lambda entry: entry.name):
        if entry.name == "__pycache__":
            continue
        path = target / RENAMED.get(entry.name, entry.name)
        if entry.is_dir():
            written += _copy(entry, path, name)
        else:
            path.write_text(entry.read_text(encoding="utf-8").replace("$name", name), encoding="utf-8")
            written.append(path)
    return written

"""`ablations new NAME`: writes a small working project to change into your own."""

import os
import re
import tempfile
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from ablations.errors import UserError
from ablations.files import check_writable
from experiments.project import Project

NAME = re.compile(r"[A-Za-z][\w-]{0,63}", re.ASCII)

RENAMED = {"gitignore": ".gitignore"}
"""Files whose real name would have an effect in the template."""


def create_project(folder: Path) -> list[Path]:
    """Write a project into a new folder, named like the project; returns its files.

    Raises:
        UserError: The name is invalid, the folder exists, cannot be written or is in another project.
        OSError: The disk is full or fails; nothing is left behind.
    """
    if not NAME.fullmatch(folder.name):
        raise UserError(
            f"new {folder}: a name starts with a letter and has at most 64 ASCII letters, digits, - and _; "
            "choose another"
        )
    if os.path.lexists(folder):
        raise UserError(f"new {folder}: already exists; choose another name")
    if (around := Project.around(folder.absolute().parent)) is not None:
        raise UserError(f"new {folder}: inside the project {around.root}; choose a folder outside it")
    check_writable(f"new {folder}", folder, [""])
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as half:
        written = _copy(files("experiments") / "template", Path(half, folder.name), folder.name)
        Path(half, folder.name).rename(folder)  # whole or not at all
    return [folder / file.relative_to(Path(half, folder.name)) for file in written]


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

"""`ablations new NAME`: a small project that works, to be changed into one's own."""

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
"""Files whose own name would have an effect where the template lies."""


def create_project(folder: Path) -> list[Path]:
    """Write a project: configuration, a network, a factor, a study, a claim, `run.py` and a README.

    Args:
        folder: Made here; its name is the project's.

    Returns:
        The files.

    Raises:
        UserError: The name cannot be used, something is there already, the folder cannot be written or lies
            in another project.
        OSError: The disk is full or fails; then nothing is there.
    """
    if not NAME.fullmatch(folder.name):
        raise UserError(
            f"new {folder}: a name has letters of ASCII, digits, - and _, begins with a letter and has at "
            "most 64 characters; choose another"
        )
    if os.path.lexists(folder):
        raise UserError(f"new {folder}: exists already; choose another name")
    if (around := Project.around(folder.absolute().parent)) is not None:
        raise UserError(f"new {folder}: {around.root} is a project; make the new one outside of it")
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

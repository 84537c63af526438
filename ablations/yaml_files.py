"""YAML files that a user writes."""

import itertools
import math
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ablations.errors import UserError

LARGEST_FILE = 100_000
"""Nodes of a YAML file after expanding its aliases; a few lines can make billions."""


def read_yaml(path: Path, name: str = "") -> Any:
    """The content of a YAML file.

    Args:
        name: For messages; default: the path.

    Raises:
        UserError: It cannot be read.
    """
    check_aliases(path)
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{name or path}: cannot be read: {' '.join(str(error).split())}") from error


def check_aliases(path: Path) -> None:
    """Check that a YAML file, or each below a folder, does not expand to a huge one by its aliases.

    Raises:
        UserError: One does.
    """
    for file in path.rglob("*.yaml") if path.is_dir() else (path,):
        if file.is_file():
            _check_aliases(file, file.stat().st_mtime_ns)


@cache
def _check_aliases(file: Path, written: int) -> None:
    content = file.read_bytes()
    if re.search(rb"(^|[\s\[{,:-])\*[^\s*]", content) is None:  # no alias: not worth parsing
        return
    sizes: dict[int, float] = {}

    def size(node: yaml.Node) -> float:
        if id(node) not in sizes:
            sizes[id(node)] = math.inf  # in case it contains itself
            below = node.value if isinstance(node, yaml.CollectionNode) else ()
            parts = itertools.chain(*(part if isinstance(part, tuple) else (part,) for part in below))
            sizes[id(node)] = 1 + sum(map(size, parts))
        return sizes[id(node)]

    try:
        node = yaml.compose(content, yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        return  # its reader reports the error
    if node is not None and (nodes := size(node)) > LARGEST_FILE:
        raise UserError(
            f"{file}: aliases (*name) expand it to {nodes:.4g} values; at most {LARGEST_FILE} are allowed"
        )

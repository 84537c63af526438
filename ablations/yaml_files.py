"""YAML files that a user writes."""

from pathlib import Path
from typing import Any

import yaml

from ablations.errors import UserError


def read_yaml(path: Path, name: str = "") -> Any:
    """The content of a YAML file.

    Args:
        name: For messages; default: the path.

    Raises:
        UserError: It cannot be read.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{name or path}: cannot be read: {' '.join(str(error).split())}") from error

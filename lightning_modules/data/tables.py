"""Tables that list images. Does not import torch, so that naming a run stays fast."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lightning_modules.data.checksums import file_path


def listed_images(
    root: str | os.PathLike[str], files: Mapping[str, Any], image_paths: Mapping[str, str], image_column: str
) -> list[str]:
    """The existing images that tables list, relative to the root; ValueError if a table cannot be read."""
    root, names = os.path.expanduser(root), set[str]()
    for part, pattern in image_paths.items():
        if (name := files.get(part)) is not None:
            table = read_table(f"dataset.files.{part}={name}", file_path(root, str(name)), [image_column])
            names |= {pattern.replace("{}", str(entry)) for entry in table[image_column].unique()}
    return [name for name in names if os.path.isfile(os.path.join(root, name))]


def read_table(key: str, path: Path, columns: list[str]) -> pd.DataFrame:
    """Columns of a .parquet or (compressed) CSV file with a header; those of a CSV file are text.

    Raises:
        ValueError: The file cannot be read or lacks a column; starts with `key`.
    """
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path, columns=columns).reset_index(drop=True)
        header = pd.read_csv(path, nrows=0)
        if missing := [column for column in columns if column not in header]:
            raise ValueError(f"no column {missing[0]}; columns: {', '.join(map(str, header))}")
        # No value means "missing": a class may be called NA.
        return pd.read_csv(path, usecols=columns, dtype=str, keep_default_na=False)
    except ImportError:
        raise ValueError(f"{key}: needs pyarrow: pip install 'xception-ablations[parquet]'") from None
    except (OSError, ValueError, UnicodeError) as error:  # those of pandas and pyarrow are ValueErrors
        raise ValueError(f"{key}: {path}: {' '.join(str(error).split())}") from None

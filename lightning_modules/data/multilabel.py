"""Images with any number of labels each, listed in tables: the paper's JFT, or Open Images.

A table (CSV, gzipped or not, or Parquet) has a column of images and a column of labels, with a row per image
or per image and label. Labels are classes' names or indices. A table of class weights (columns `class` and
`weight`) weighs the classes in the evaluation.

JFT, paper, sections 4.1 and 4.2: 350 million images of 17,000 classes, internal to Google, evaluated on
FastEval14k: 14,000 images with 36.5 labels each on average, classes weighted by how common they are in
social media images. Tables are held in memory.
"""

import itertools
import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_modules.data.files import FilePart, ImageFilesDataModule, as_names
from lightning_modules.data.images import frozen_permutation
from lightning_modules.data.tables import read_table
from lightning_modules.validation import require_boolean, require_integer, require_one_of

PARTS = ("train", "validation", "test")
CLASS_WEIGHTS = "class_weights"


class MultiHot:
    """Labels of images, kept as lists of classes; those of some positions as float32 (B, num_classes)."""

    def __init__(self, starts: NDArray[np.int64], classes: NDArray[np.int64], num_classes: int) -> None:
        self.starts = torch.from_numpy(starts)  # (N + 1,)
        self.classes = torch.from_numpy(classes)  # those of image i from starts[i] to starts[i + 1]
        self.num_classes = num_classes

    def __getitem__(self, positions: Tensor) -> Tensor:
        labels = torch.zeros(len(positions), self.num_classes)
        for row, position in enumerate(positions.tolist()):
            labels[row, self.classes[self.starts[position] : self.starts[position + 1]]] = 1
        return labels


class Table(NamedTuple):
    """What a table says: paths relative to the root (N,), and the classes of each."""

    names: NDArray[np.bytes_]
    starts: NDArray[np.int64]
    classes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.names)

    def part(self, num_classes: int, positions: NDArray[np.int64] | None = None) -> FilePart:
        """The images at some positions; None: all of them."""
        if positions is None:
            return FilePart(self.names, MultiHot(self.starts, self.classes, num_classes))
        sizes = np.diff(self.starts)[positions]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        entries = np.arange(starts[-1]) + np.repeat(self.starts[positions] - starts[:-1], sizes)
        return FilePart(self.names[positions], MultiHot(starts, self.classes[entries], num_classes))


class MultiLabelImages(ImageFilesDataModule):
    """Reads tables. Batches: images, and labels as float32 (B, num_classes) of 0 and 1.

    Args:
        validation_images: Drawn from the training table; 0 with a validation table.
        image_paths: Path of an image relative to the root per part; {} stands for its column's entry.
        image_column: The tables' column of images.
        label_column: The tables' column of labels.
        label_separator: Between labels of one entry; None: an entry is one label, or a list (Parquet).
        confidence_column: Only rows that have a 1 there are labels; None: all are.
        labels_are: "names" (as in the table of weights) or "indices".
        ignore_other_labels: Whether other labels are left out instead of refused.
        **settings: As `ImageFilesDataModule`; `files` names the tables.

    Attributes:
        class_weights: float32 (num_classes,) after `setup`; None without a table of them.

    Raises:
        ValueError: An argument has the wrong type or is out of range.
    """

    file_keys: ClassVar = (*PARTS, CLASS_WEIGHTS)

    def __init__(
        self,
        *,
        validation_images: int,
        image_paths: Mapping[str, str],
        image_column: str,
        label_column: str,
        label_separator: str | None,
        confidence_column: str | None,
        labels_are: str,
        ignore_other_labels: bool,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        require_one_of("dataset.labels_are", labels_are, ("names", "indices"))
        require_boolean("dataset.ignore_other_labels", ignore_other_labels)
        for key in ("train", "test"):
            if self.files[key] is None:
                raise ValueError(f"dataset.files.{key}=null: must be a table")
        if labels_are == "names" and self.files[CLASS_WEIGHTS] is None:
            raise ValueError(
                "dataset.files.class_weights=null: must be a table where dataset.labels_are=names, as it "
                "lists the classes"
            )
        if self.files["validation"] is None:
            require_integer("dataset.validation_images", validation_images, 1)
        elif validation_images != 0:
            raise ValueError(
                f"dataset.validation_images={validation_images}: must be 0, as dataset.files.validation is "
                "set"
            )
        for key, value, maybe in (
            ("image_column", image_column, ""),
            ("label_column", label_column, ""),
            ("confidence_column", confidence_column, ", or null"),
            ("label_separator", label_separator, ", or null"),
        ):
            if not (isinstance(value, str) and value) and not (maybe and value is None):
                raise ValueError(f"dataset.{key}={value}: must be a text{maybe}")
        if not isinstance(image_paths, Mapping) or set(image_paths) != set(PARTS):
            raise ValueError(f"dataset.image_paths={image_paths}: must have {', '.join(PARTS)}")
        for part, pattern in image_paths.items():
            if not isinstance(pattern, str) or pattern.count("{}") != 1:
                raise ValueError(f"dataset.image_paths.{part}={pattern}: must have {{}} once")
        self.validation_images = validation_images
        self.image_paths = dict(image_paths)
        self.image_column = image_column
        self.label_column = label_column
        self.label_separator = label_separator
        self.confidence_column = confidence_column
        self.labels_are = labels_are
        self.ignore_other_labels = ignore_other_labels
        self.class_weights: Tensor | None = None

    @property
    def tables(self) -> Mapping[str, Any]:
        return {"files": self.files, "image_paths": self.image_paths, "image_column": self.image_column}

    def read(self) -> dict[str, FilePart]:
        classes = self._read_classes()
        tables = {part: self._read(part, classes) for part in PARTS if self.files[part] is not None}
        for first, second in itertools.combinations(tables, 2):
            if len(shared := np.intersect1d(tables[first].names, tables[second].names)):
                raise ValueError(f"{self._key(second)}: {os.fsdecode(shared[0])} is in {first} as well")
        for part, table in tables.items():
            self._require_images(part, table)
        parts = {part: table.part(self.num_classes) for part, table in tables.items()}
        if "validation" not in parts:
            train = tables["train"]
            if self.validation_images >= len(train):
                raise ValueError(
                    f"dataset.validation_images={self.validation_images}: must be below {len(train)}, the "
                    f"images of {self.file('train')}"
                )
            order = frozen_permutation(len(train), self.split_seed)
            held_out, trained_on = (
                np.sort(order[: self.validation_images]),
                np.sort(order[self.validation_images :]),
            )
            parts["train"] = train.part(self.num_classes, trained_on)
            parts["validation"] = train.part(self.num_classes, held_out)
        for part in ("validation", "test"):
            self._require_ranked(part, parts[part])
        return {part: parts[part] for part in PARTS}

    def _require_ranked(self, part: str, images: FilePart) -> None:
        """Require an image that MAP can be measured on: one with a label of positive weight.

        Raises:
            ValueError: There is none.
        """
        assert isinstance(images.labels, MultiHot)
        weights = self.class_weights
        if weights is not None and not weights[images.labels.classes].any():
            raise ValueError(
                f"{self._key(CLASS_WEIGHTS)}: every label of the {part} images has weight 0, so there is "
                "nothing to rank; give one of their classes a weight above 0"
            )

    def _key(self, key: str) -> str:
        return f"dataset.files.{key}={self.files[key]}"

    def _read_classes(self) -> pd.Index:
        """The classes as the tables write them, in the order of their indices; sets the weights."""
        every = [str(index) for index in range(self.num_classes)]
        if self.files[CLASS_WEIGHTS] is None:
            return pd.Index(every)
        key = self._key(CLASS_WEIGHTS)
        table = read_table(key, self.file(CLASS_WEIGHTS), ["class", "weight"])
        table["class"] = table["class"].astype(str)
        if repeated := table["class"][table["class"].duplicated()].tolist():
            raise ValueError(f"{key}: class {repeated[0]} is there more than once")
        if self.labels_are == "indices":
            if missing := sorted(set(every) - set(table["class"]), key=int):
                raise ValueError(f"{key}: no weight for {_some(missing, 'classes')}")
            table = table.set_index("class", drop=False).reindex(every)
        if len(table) != self.num_classes:
            raise ValueError(f"{key}: {len(table)} classes, must be {self.num_classes} (dataset.num_classes)")
        weights = pd.to_numeric(table["weight"], errors="coerce").to_numpy(np.float32)
        wrong = ~(np.isfinite(weights) & (weights >= 0))
        if wrong.any():
            row = table[wrong].iloc[0]
            raise ValueError(f"{key}: class {row['class']}: weight {row['weight']!s:.40}: must be 0 or more")
        if not weights.any():
            raise ValueError(f"{key}: every weight is 0")
        if weights.sum(dtype=np.float64) > np.finfo(np.float32).max:
            raise ValueError(f"{key}: the weights are too large to be added; divide them by their sum")
        self.class_weights = torch.from_numpy(weights)
        return pd.Index(table["class"])

    def _read(self, part: str, classes: pd.Index) -> Table:
        key = self._key(part)
        columns = [self.image_column, self.label_column]
        if self.confidence_column is not None:
            columns.append(self.confidence_column)
        table = read_table(key, self.file(part), columns)
        if self.confidence_column is not None:
            table = table[pd.to_numeric(table[self.confidence_column], errors="coerce") == 1]
        labels = table[self.label_column].dropna()
        if self.label_separator is not None and not labels.head(1).map(pd.api.types.is_list_like).any():
            labels = labels.astype(str).str.split(self.label_separator)
        # An image without a label vanishes here: it can neither be ranked for nor be told from an image
        # that nobody labelled.
        labels = labels.explode().dropna().astype(str).str.strip()
        labels = labels[labels != ""]
        images = table[self.image_column].astype(str).reindex(labels.index)
        indices = classes.get_indexer(pd.Index(labels))
        if (indices < 0).any():
            if not self.ignore_other_labels:
                other = int(np.flatnonzero(indices < 0)[0])
                raise ValueError(
                    f"{key}: {images.iloc[other]}: label {labels.iloc[other]}: must be one of the "
                    f"{self.num_classes} classes, {classes[0]} to {classes[-1]}"
                )
            images, indices = images[indices >= 0], indices[indices >= 0]
        codes, entries = pd.factorize(images)
        if not len(entries):
            raise ValueError(f"{key}: lists no image with a label")
        pairs = np.unique(codes.astype(np.int64) * self.num_classes + indices)  # a label may be there twice
        starts = np.searchsorted(pairs, np.arange(len(entries) + 1) * self.num_classes)
        names = as_names(self.image_paths[part].replace("{}", entry) for entry in entries)
        return Table(names, starts, pairs % self.num_classes)

    def _require_images(self, part: str, table: Table) -> None:
        """Require that every image exists; a folder is listed once, as asking for each file takes long.

        Raises:
            ValueError: an image does not exist.
        """
        by_folder: dict[str, list[str]] = defaultdict(list)
        for name in map(os.fsdecode, table.names):
            by_folder[os.path.dirname(name)].append(name)
        missing = []
        for folder, names in by_folder.items():
            there = _files_in(self.root / folder)
            missing += [name for name in names if os.path.basename(name) not in there]
        if missing:
            raise ValueError(
                f"{self._key(part)}: {self.root} has not {_some(missing, 'images that it lists')} "
                f"(dataset.root, dataset.image_paths.{part})"
            )


def _files_in(folder: Path) -> set[str]:
    if not folder.is_dir():
        return set()
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.is_file()}


def _some(items: list[str], of_what: str) -> str:
    """The first and how many more there are, e.g. "a.jpg and 2 more images"."""
    return items[0] if len(items) == 1 else f"{items[0]} and {len(items) - 1} more {of_what}"

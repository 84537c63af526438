"""Images with any number of labels, listed in tables: the paper's JFT, or Open Images.

A table (CSV, perhaps gzipped, or Parquet) has an image column and a label column, with a row per image or per
image and label. Labels are class names or indices. A table of class weights (columns `class` and `weight`)
weighs classes in evaluation. Tables are held in memory.

JFT (sections 4.1 and 4.2): 350 million images of 17,000 classes, internal to Google. FastEval14k: 14,000
images with 36.5 labels on average, classes weighted by how common they are in social media images.
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
    """Labels stored as lists of classes; indexing gives float32 (B, num_classes)."""

    def __init__(self, starts: NDArray[np.int64], classes: NDArray[np.int64], num_classes: int) -> None:
        self.starts = torch.from_numpy(starts)  # (N + 1,)
        self.classes = torch.from_numpy(classes)  # image i has starts[i] to starts[i + 1]
        self.num_classes = num_classes

    def __getitem__(self, positions: Tensor) -> Tensor:
        labels = torch.zeros(len(positions), self.num_classes)
        for row, position in enumerate(positions.tolist()):
            labels[row, self.classes[self.starts[position] : self.starts[position + 1]]] = 1
        return labels


class Table(NamedTuple):
    """Images of a table: paths relative to the root (N,), and the classes of each."""

    names: NDArray[np.bytes_]
    starts: NDArray[np.int64]
    classes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.names)

    def part(self, num_classes: int, positions: NDArray[np.int64] | None = None) -> FilePart:
        """The images at some positions, or all."""
        if positions is None:
            return FilePart(self.names, MultiHot(self.starts, self.classes, num_classes))
        sizes = np.diff(self.starts)[positions]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        entries = np.arange(starts[-1]) + np.repeat(self.starts[positions] - starts[:-1], sizes)
        return FilePart(self.names[positions], MultiHot(starts, self.classes[entries], num_classes))


class MultiLabelImages(ImageFilesDataModule):
    """Reads tables. Batches: images, and labels as float32 (B, num_classes) of 0 and 1.

    The arguments are explained in conf/dataset/multilabel.yaml.

    Attributes:
        class_weights: float32 (num_classes,) after `setup`; None without their table.

    Raises:
        ValueError: An argument is invalid.
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
                "dataset.files.class_weights=null: must be a table with dataset.labels_are=names, because "
                "it lists the classes"
            )
        if self.files["validation"] is None:
            require_integer("dataset.validation_images", validation_images, 1)
        elif validation_images != 0:
            raise ValueError(
                f"dataset.validation_images={validation_images}: must be 0, because "
                "dataset.files.validation is set"
            )
        for key, value, maybe in (
            ("image_column", image_column, ""),
            ("label_column", label_column, ""),
            ("confidence_column", confidence_column, ", or null"),
            ("label_separator", label_separator, ", or null"),
        ):
            if not (isinstance(value, str) and value) and not (maybe and value is None):
                raise ValueError(f"dataset.{key}={value}: must be text{maybe}")
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
                raise ValueError(f"{self._key(second)}: {os.fsdecode(shared[0])} is also in {first}")
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
        """Raise ValueError if no image has a label of positive weight, because MAP would be undefined."""
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
        """Class names as in the tables, by index; sets the weights."""
        every = [str(index) for index in range(self.num_classes)]
        if self.files[CLASS_WEIGHTS] is None:
            return pd.Index(every)
        key = self._key(CLASS_WEIGHTS)
        table = read_table(key, self.file(CLASS_WEIGHTS), ["class", "weight"])
        table["class"] = table["class"].astype(str)
        if repeated := table["class"][table["class"].duplicated()].tolist():
            raise ValueError(f"{key}: duplicate class {repeated[0]}")
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
        # Drops images without labels, which look like images that nobody labelled.
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
        pairs = np.unique(codes.astype(np.int64) * self.num_classes + indices)  # without duplicate labels
        starts = np.searchsorted(pairs, np.arange(len(entries) + 1) * self.num_classes)
        names = as_names(self.image_paths[part].replace("{}", entry) for entry in entries)
        return Table(names, starts, pairs % self.num_classes)

    def _require_images(self, part: str, table: Table) -> None:
        """Raise ValueError if an image is missing. Lists folders, because a check per file is slow."""
        by_folder: dict[str, list[str]] = defaultdict(list)
        for name in map(os.fsdecode, table.names):
            by_folder[os.path.dirname(name)].append(name)
        missing = []
        for folder, names in by_folder.items():
            there = _files_in(self.root / folder)
            missing += [name for name in names if os.path.basename(name) not in there]
        if missing:
            raise ValueError(
                f"{self._key(part)}: {self.root} lacks {_some(missing, 'listed images')} "
                f"(dataset.root, dataset.image_paths.{part})"
            )


def _files_in(folder: Path) -> set[str]:
    if not folder.is_dir():
        return set()
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.is_file()}


def _some(items: list[str], of_what: str) -> str:
    """E.g. "a.jpg and 2 more images"."""
    return items[0] if len(items) == 1 else f"{items[0]} and {len(items) - 1} more {of_what}"

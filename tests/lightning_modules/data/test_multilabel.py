"""Tables of labels in every form, class weights, held-out validation, bad input."""

import re

import pandas as pd
import pytest
import torch
from PIL import Image

from lightning_modules.checks import DataToCheck, check_batches_do_not_depend_on_the_workers
from lightning_modules.data.checksums import images_checksum
from lightning_modules.data.multilabel import MultiLabelImages

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on one core

SETTINGS = {
    "files": {
        "train": "train.csv",
        "validation": None,
        "test": "test.csv",
        "class_weights": "class_weights.csv",
    },
    "image_paths": {"train": "{}", "validation": "{}", "test": "{}"},
    "image_column": "path",
    "label_column": "labels",
    "label_separator": " ",
    "confidence_column": None,
    "labels_are": "names",
    "ignore_other_labels": False,
    "num_classes": 3,
    "channels": 3,
    "image_size": 4,
    "validation_images": 2,
    "split_seed": 0,
    "batch_size": 2,
    "eval_batch_size": 4,
    "seed": 0,
    "horizontal_flip": True,
    "min_crop_area": 0.2,
    "max_aspect_ratio": 4 / 3,
    "eval_crop_share": 0.875,
    "max_undecodable_share": 0.2,
    "num_workers": 0,
}
LABELS = {
    f"a/{number}.png": labels
    for number, labels in enumerate(["cat", "dog NA", "NA cat", "dog", "cat dog NA"])
}
TEST = {"b/0.png": "NA", "b/1.png": "cat dog"}
MULTI_HOT = {
    "cat": [1, 0, 0],
    "dog NA": [0, 1, 1],
    "NA cat": [1, 0, 1],
    "dog": [0, 1, 0],
    "cat dog NA": [1, 1, 1],
}


def write_csv(path, rows, header="path,labels"):
    path.write_text("\n".join([header, *rows]) + "\n")


@pytest.fixture
def folder(tmp_path):
    """5 training and 2 test images of the classes cat, dog and NA."""
    for table, labels in (("train", LABELS), ("test", TEST)):
        for number, name in enumerate(labels):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            Image.new("RGB", (8, 6), (40 * number, 0, 0)).save(tmp_path / name)
        write_csv(tmp_path / f"{table}.csv", [f"{name},{of_name}" for name, of_name in labels.items()])
    write_csv(tmp_path / "class_weights.csv", ["cat,0.5", "dog,2", "NA,0"], "class,weight")
    return tmp_path


@pytest.fixture
def make(folder):
    """Makes a loaded data module on the folder, with some settings and files changed."""

    def make(files=None, **changes):
        files = SETTINGS["files"] | (files or {})
        settings = SETTINGS | {"root": folder, "checksums": dict.fromkeys([*files, "images"])} | changes
        data = MultiLabelImages(**(settings | {"files": files}))
        data.prepare_data()
        return data

    return make


def labels_by_name(*parts):
    return {
        name.decode(): part.labels[torch.tensor([position])][0].tolist()
        for part in parts
        for position, name in enumerate(part.names.tolist())
    }


EXPECTED = {name: MULTI_HOT[labels] for name, labels in LABELS.items()}


def test_batches_are_images_and_multi_hot_labels(make):
    data = make()
    loader = data.train_dataloader()
    ((images, labels),) = list(loader)
    assert images.shape == (2, 3, 4, 4)
    assert (images.dtype, labels.dtype) == (torch.uint8, torch.float32)
    assert labels.shape == (2, 3)
    order = next(iter(loader.sampler)).indices
    names = [data.parts["train"].names[position].decode() for position in order.tolist()]
    assert labels.tolist() == [EXPECTED[name] for name in names]
    ((images, labels),) = list(data.test_dataloader())
    assert labels.tolist() == [[0, 0, 1], [1, 1, 0]]
    assert images[:, 0].float().mean(dim=(1, 2)).tolist() == [0, 40]


def test_class_weights_are_in_the_order_of_the_classes(make):
    assert make().class_weights.dtype == torch.float32
    assert make().class_weights.tolist() == [0.5, 2, 0]


def test_validation_is_held_out_of_train(make):
    data = make()
    train, held_out = data.parts["train"], data.parts["validation"]
    assert (len(train), len(held_out), len(data.parts["test"])) == (3, 2, 2)
    assert labels_by_name(train, held_out) == EXPECTED
    assert make(seed=1).parts["validation"].names.tolist() == held_out.names.tolist()
    others = {tuple(make(split_seed=seed).parts["validation"].names.tolist()) for seed in range(5)}
    assert len(others) > 1


def test_validation_may_have_a_table(make, folder):
    write_csv(folder / "validation.csv", ["a/4.png,cat dog NA"])
    write_csv(folder / "train.csv", ["a/0.png,cat", "a/1.png,dog NA"])
    data = make({"validation": "validation.csv"}, validation_images=0)
    assert data.parts["validation"].names.tolist() == [b"a/4.png"]
    assert len(data.parts["train"]) == 2


def both(data):
    return labels_by_name(data.parts["train"], data.parts["validation"])


def test_one_row_per_image_and_label_says_the_same(make, folder):
    rows = [f"{name},{label},1" for name, labels in LABELS.items() for label in labels.split()]
    rows += ["a/0.png,dog,0", "a/3.png,NA,0.5", "a/3.png,dog,1", "lost.png,cat,0"]
    write_csv(folder / "train.csv", rows[::-1], "path,labels,Confidence")
    write_csv(folder / "test.csv", ["b/0.png,cat,1"], "path,labels,Confidence")
    data = make(label_separator=None, confidence_column="Confidence")
    assert both(data) == EXPECTED


def test_parquet_with_lists_says_the_same(make, folder):
    pytest.importorskip("pyarrow")
    lists = [labels.split() for labels in LABELS.values()]
    pd.DataFrame({"path": list(LABELS), "labels": lists}, index=[0] * 5).to_parquet(folder / "train.parquet")
    pd.DataFrame({"class": ["cat", "dog", "NA"], "weight": [0.5, 2, 0]}).to_parquet(
        folder / "weights.parquet"
    )
    data = make({"train": "train.parquet", "class_weights": "weights.parquet"})
    assert both(data) == EXPECTED
    assert data.class_weights.tolist() == [0.5, 2, 0]


def test_labels_may_be_indices(make, folder):
    index = {"cat": "0", "dog": "1", "NA": "2"}
    for table, labels in (("train", LABELS), ("test", TEST)):
        rows = [f"{n},{';'.join(index[one] for one in ls.split())}" for n, ls in labels.items()]
        write_csv(folder / f"{table}.csv", rows)
    settings = {"labels_are": "indices", "label_separator": ";"}
    unweighted = make({"class_weights": None}, **settings)
    assert both(unweighted) == EXPECTED
    assert unweighted.class_weights is None
    write_csv(folder / "class_weights.csv", ["2,0", "0,0.5", "1,2"], "class,weight")
    weighted = make(**settings)
    assert both(weighted) == EXPECTED
    assert weighted.class_weights.tolist() == [0.5, 2, 0]


def test_paths_are_made_of_identifiers(make, folder):
    write_csv(folder / "train.csv", [f"{number},cat" for number in range(5)])
    write_csv(folder / "test.csv", ["1,dog"])
    data = make(image_paths={"train": "a/{}.png", "validation": "{}", "test": "b/{}.png"})
    assert data.parts["test"].names.tolist() == [b"b/1.png"]
    assert set(both(data)) == set(LABELS)


def test_labels_that_are_no_class_are_left_out_if_told_so(make, folder):
    write_csv(
        folder / "train.csv", [f"{name},{labels} bird" for name, labels in LABELS.items()] + ["x.png,bird"]
    )
    assert both(make(ignore_other_labels=True)) == EXPECTED


def test_an_image_without_a_label_is_left_out(make, folder):
    with (folder / "train.csv").open("a") as file:
        file.write("a/5.png,\n")
    assert both(make()) == EXPECTED


def test_workers_change_nothing(make):
    check_batches_do_not_depend_on_the_workers(DataToCheck(make, num_classes=3, channels=3, image_size=4))


def test_the_replacement_of_an_undecodable_image_brings_its_labels(make, folder):
    (folder / "a/0.png").write_bytes(b"")
    data = make(max_undecodable_share=0.5, batch_size=3, split_seed=1)
    names = data.parts["train"].names.tolist()
    assert b"a/0.png" in names
    ((_, labels),) = list(data.train_dataloader())
    after = names[(names.index(b"a/0.png") + 1) % 3]
    shown = [EXPECTED[name.decode()] for name in names if name != b"a/0.png"] + [EXPECTED[after.decode()]]
    assert sorted(labels.tolist()) == sorted(shown)


def test_other_images_than_those_that_name_the_run_are_refused(make, folder):
    tables = dict.fromkeys(SETTINGS["files"])
    images = images_checksum(folder, make().tables)
    make(checksums=tables | {"images": images})
    Image.new("RGB", (20, 20)).save(folder / "a/0.png")
    with pytest.raises(ValueError, match=r"^dataset.checksums.images="):
        make(checksums=tables | {"images": images})


BAD_TABLES = {
    "other.csv": ["path,labels", "a/0.png,cat", "a/1.png,bird"],
    "lost.csv": ["path,labels", "a/0.png,cat", "a/8.png,cat", "c/9.png,cat"],
    "empty.csv": ["path,labels"],
    "columns.csv": ["image,labels", "a/0.png,cat"],
    "negative.csv": ["class,weight", "cat,1", "dog,-1", "NA,1"],
    "zero.csv": ["class,weight", "cat,0", "dog,0", "NA,0"],
    "twice.csv": ["class,weight", "cat,1", "dog,1", "cat,1"],
    "broken.parquet": ["no parquet"],
    "shared.csv": ["path,labels", "a/0.png,cat"],
}


@pytest.mark.parametrize(
    ("files", "changes", "message"),
    [
        ({"train": "x.csv"}, {}, "dataset.files.train=x.csv: "),
        ({"class_weights": None}, {}, "dataset.files.class_weights=null: must be a table"),
        ({"train": "other.csv"}, {}, "dataset.files.train=other.csv: a/1.png: label bird: must be one"),
        ({"train": "lost.csv"}, {}, "dataset.files.train=lost.csv: "),
        ({"train": "empty.csv"}, {}, "dataset.files.train=empty.csv: lists no image"),
        ({"train": "broken.parquet"}, {}, "dataset.files.train=broken.parquet: "),
        ({"test": "shared.csv"}, {}, "dataset.files.test=shared.csv: a/0.png is also in train"),
        (
            {"class_weights": "negative.csv"},
            {},
            "dataset.files.class_weights=negative.csv: class dog: weight -1",
        ),
        ({"class_weights": "zero.csv"}, {}, "dataset.files.class_weights=zero.csv: every weight is 0"),
        (
            {"class_weights": "twice.csv"},
            {},
            "dataset.files.class_weights=twice.csv: duplicate class cat",
        ),
        (
            {},
            {"labels_are": "indices"},
            "dataset.files.class_weights=class_weights.csv: no weight for 0 and 2 more",
        ),
        ({}, {"validation_images": 5}, "dataset.validation_images=5: must be below 5"),
        ({"validation": "test.csv"}, {}, "dataset.validation_images=2: must be 0"),
        ({}, {"image_paths": {}}, "dataset.image_paths={}: must have train"),
        (
            {},
            {"image_paths": SETTINGS["image_paths"] | {"test": 3}},
            "dataset.image_paths.test=3: must have {} once",
        ),
        ({}, {"label_separator": ""}, "dataset.label_separator=: must be text, or null"),
        ({}, {"confidence_column": "c"}, "dataset.files.train=train.csv: "),
    ],
)
def test_bad_input_is_one_clear_line(make, folder, files, changes, message):
    for name, lines in BAD_TABLES.items():
        (folder / name).write_text("\n".join(lines))
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as error:
        make(files, **changes)
    assert "\n" not in str(error.value)


def test_missing_images_and_columns_are_named(make, folder):
    for name, lines in BAD_TABLES.items():
        (folder / name).write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"lacks a/8\.png and 1 more listed images"):
        make({"train": "lost.csv"})
    with pytest.raises(ValueError, match=r"no column path; .* image, labels$"):
        make({"train": "columns.csv"})


@pytest.mark.parametrize("part", ["validation", "test"])
def test_what_is_evaluated_has_something_to_rank(make, folder, part):
    """NA weighs nothing, so of images with no other label there is no average precision."""
    Image.new("RGB", (8, 6)).save(folder / "c.png")
    write_csv(folder / "only_na.csv", ["c.png,NA"])
    changes = {"validation_images": 0} if part == "validation" else {}
    with pytest.raises(ValueError, match=f"every label of the {part} images has weight 0"):
        make({part: "only_na.csv"}, **changes)
    write_csv(folder / "only_na.csv", ["c.png,NA cat"])
    assert make({part: "only_na.csv"}, **changes)


def test_weights_that_add_to_no_number_are_refused(make, folder):
    write_csv(folder / "large.csv", ["cat,3e38", "dog,3e38", "NA,1"], "class,weight")
    with pytest.raises(ValueError, match=r"large\.csv: the weights are too large"):
        make({"class_weights": "large.csv"})


def test_a_changed_table_is_refused(make):
    files = SETTINGS["files"]
    with pytest.raises(ValueError, match=r"^dataset\.checksums\.test=sha256:0: "):
        make(checksums=dict.fromkeys([*files, "images"]) | {"test": "sha256:0"})

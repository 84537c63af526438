"""Runs as the page holds them."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from ablations.report.runs import (
    ABSENT,
    LONGEST_ERROR,
    MAX_POINTS,
    Grids,
    curves,
    flat_record,
    flatten,
    pool,
    quantities,
    quantity_label,
    short,
)


def restored(common, difference):
    """The flat record of a run again."""
    found = {}
    for place, path in enumerate(common["paths"]):
        at = difference.get(place, 0)
        if at != ABSENT:
            found[path] = common["values"][place][at]
    return found


def test_flatten() -> None:
    assert dict(flatten({"a": {"b": 1, "c": {}}, "d": [1, {"e": 2}], "f": None})) == {
        "a.b": 1,
        "a.c": {},
        "d": [1, {"e": 2}],
        "f": None,
    }


def test_pool_gives_every_record_back_and_tells_what_is_common_once() -> None:
    records = [
        {"a": 1, "b": "x", "c": [1, 2]},
        {"a": 2, "b": "x", "c": [1, 2]},
        {},
        {"a": 2, "c": [1, 2], "d": None},
        {"a": 1.0, "b": "x", "c": [1, 2]},
        {"a": 2, "b": "1", "c": [1, 2]},
    ]
    common, differences = pool(records)
    assert common["values"][common["paths"].index("a")] == [2, 1, 1.0]
    assert differences[1] == {common["paths"].index("d"): ABSENT}
    for record, difference in zip(records, differences, strict=True):
        if record:
            assert restored(common, difference) == record
    assert differences[2] == {}


def test_a_thousand_records_that_differ_in_their_seed_are_small() -> None:
    record = {f"config.key{i}": f"a value of some length {i}" for i in range(150)}
    common, differences = pool([record | {"config.seed": seed} for seed in range(1000)])
    assert len(json.dumps([common, differences])) < 40_000


def test_flat_record_leaves_out_what_each_run_has_for_itself() -> None:
    record = {"config": {"seed": 1}, "versions": {"torch": "2"}, "process": {"host": "h"}, "metrics": {}}
    assert flat_record(record | {"git": None, "error": None}) == {"config.seed": 1, "versions.torch": "2"}
    assert flat_record(None) == {}


def test_of_a_long_error_the_end_is_kept() -> None:
    error = flat_record({"error": "x" * LONGEST_ERROR + "OSError: disk full"})["error"]
    assert error.endswith("OSError: disk full")
    assert len(error) == LONGEST_ERROR + 1


def history(epochs: int) -> pd.DataFrame:
    rows = np.arange(1, epochs + 1)
    return pd.DataFrame(
        {"epoch": rows, "step": 10 * rows, "val_top1": rows / 3, "val_loss": 1.0, "seconds": 0.5}
    )


def test_curves_share_their_grid() -> None:
    grids = Grids()
    first = curves(history(3), ["val_top1", "train_loss"], grids)
    second = curves(history(3), ["val_top1"], grids)
    third = curves(history(2), ["val_top1"], grids)
    assert (first["grid"], second["grid"], third["grid"]) == (0, 0, 1)
    assert grids.all[0] == {"epochs": [1, 2, 3], "steps": [10, 20, 30]}
    assert first["seconds"] == [0.5, 1.0, 1.5]
    assert first["curves"] == {"val_top1": [0.333333, 0.666667, 1.0]}
    assert curves(None, ["val_top1"], grids) == {}
    assert curves(history(0), ["val_top1"], grids) == {}


def test_of_many_epochs_some_are_kept_with_the_first_and_the_last() -> None:
    grids = Grids()
    found = curves(history(5000), ["val_top1"], grids)
    assert len(found["curves"]["val_top1"]) == len(found["seconds"]) == MAX_POINTS
    assert grids.all[0]["epochs"][0] == 1
    assert grids.all[0]["epochs"][-1] == 5000
    assert found["seconds"][-1] == 2500


def test_a_number_that_json_has_no_word_for_is_none() -> None:
    assert [short(value) for value in (math.nan, math.inf, 1 / 3, 2.0)] == [None, None, 0.333333, 2.0]


def test_quantities_begin_with_the_studys_metrics(residual_study) -> None:
    columns = ["epoch", "step", "train_loss", "train_top1", "val_loss", "val_top5", "val_top1", "seconds"]
    frame = pd.DataFrame(columns=[*columns, "learning_rate"])
    found = quantities(residual_study, {"a": frame})
    assert [each["key"] for each in found] == [
        *("val_top1", "val_top5", "val_loss", "train_loss", "train_top1"),
    ]
    assert [each["percent"] for each in found] == [True, True, False, False, True]
    assert quantities(residual_study, {}) == []


@pytest.mark.parametrize(
    ("column", "label"),
    [("val_top1", "validation top-1"), ("train_loss", "training loss"), ("val_map100", "validation MAP@100")],
)
def test_quantity_label(column: str, label: str) -> None:
    assert quantity_label(column) == label

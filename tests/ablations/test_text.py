import math

import pandas as pd
import pytest

from ablations import text


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (None, "–"),
        (54.9, "54 s"),
        (180, "3 min 00 s"),
        (7500, "2 h 05 min"),
        (4 * 86400 - 20 * 3600, "3 d 04 h"),
    ],
)
def test_duration(seconds: float | None, written: str) -> None:
    assert text.duration(seconds) == written


def test_one_of_something_is_no_plural() -> None:
    assert text.amount(1, "epoch") == "1 epoch"
    assert text.amount(0, "epoch") == "0 epochs"
    assert text.amount(2000, "study", "studies") == "2,000 studies"


def test_seeds_are_named_up_to_a_point() -> None:
    assert text.named_seeds({3}) == "seed 3"
    assert text.named_seeds([3, 0]) == "seeds 0, 3"
    assert text.named_seeds(range(20)).endswith("18, 19")
    assert text.named_seeds(range(5, 5000)) == "4,995 seeds (5, 6, 7, ...)"


def test_a_number_has_no_minus_before_zero_and_a_half_is_no_matter_of_its_last_bit() -> None:
    assert text.decimals(-0.04, "+") == "+0.0"
    assert text.decimals(0.25 + 1e-12) == text.decimals(0.25 - 1e-12)


@pytest.mark.parametrize("nothing", [None, math.nan, pd.NA])
def test_what_there_is_no_number_for(nothing: object) -> None:
    assert {text.decimals(nothing), text.integer(nothing), text.p_value(nothing)} == {text.NO_VALUE}
    assert text.with_interval(2.0, nothing, nothing, "+") == "+2.0"


def test_interval() -> None:
    assert text.with_interval(2.71, -2, 3.44, "+") == "+2.7 [-2.0, +3.4]"


def test_p_value() -> None:
    assert [text.p_value(p) for p in (0.03125, 0.0004)] == ["0.031", "< 0.001"]
    assert [text.p_value(p, "p") for p in (0.03125, 0.0004)] == ["p = 0.031", "p < 0.001"]


def test_shares_and_sizes() -> None:
    assert [text.per_cent(0.8), text.per_cent(0.7134, 1)] == ["80 %", "71.3 %"]
    assert [text.memory_size(0), text.memory_size(3 * 2**29)] == ["0 bytes", "1.5 GiB"]


def test_speeds_and_hours_have_three_digits() -> None:
    assert [text.three_digits(value) for value in (0.2136, 17.64, 1204.4)] == ["0.214", "17.6", "1204"]
    assert [text.core_time(hours) for hours in (0.0585, 2.56, None)] == ["3 min 30 s", "2 h 33 min", "–"]


def test_contrast_adds_before_it_subtracts() -> None:
    labels = {"a": "one", "b": "two"}
    assert text.contrast_label({"a": -1, "b": 1}, labels) == "two − one"
    assert text.contrast_label({"a": 1, "b": -0.5, "c": -0.5}, labels) == "one − 0.5 × two − 0.5 × c"


def test_settings() -> None:
    settings = {"learning_rate": 0.25, "weight_decay": 1e-05, "kind": "a", "layers": 3}
    assert text.shown_settings(settings) == "learning rate 0.25, weight decay 1e-05, kind a, layers 3"


def test_only_numbers_get_minus_signs() -> None:
    assert text.true_minus("-1.5 [-2, -1], top-1, 2-3") == "−1.5 [−2, −1], top-1, 2-3"


def test_what_is_too_long_is_cut_to_what_there_is_room_for() -> None:
    assert text.cut("abcdef", 6) == "abcdef"
    assert text.cut("abcdefg", 6) == "abcde…"
    assert text.listed(list("abcdefghijklm")) == "a, b, c, d, e, f, g, h, i, j, k, l, ..."

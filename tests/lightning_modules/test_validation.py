"""What is allowed, and the one line that says so."""

import math
import re

import pytest

from lightning_modules.validation import require_boolean, require_integer, require_number, require_one_of


@pytest.mark.parametrize(
    ("check", "good"),
    [
        (lambda value: require_integer("key", value, 1), (1, 10**9)),
        (lambda value: require_integer("key", value, 0, 3), (0, 3)),
        (lambda value: require_number("key", value, 0), (0, 0.0, 2, 1e30)),
        (lambda value: require_number("key", value, 0, 1), (0, 0.999)),
        (lambda value: require_number("key", value, 0, open_below=True), (1e-9, 3)),
        (lambda value: require_one_of("key", value, (1, 2)), (1, 2)),
        (lambda value: require_one_of("key", value, ("a", "b")), ("a",)),
        (lambda value: require_boolean("key", value), (True, False)),
    ],
)
def test_allowed_values_pass(check, good):
    for value in good:
        check(value)


@pytest.mark.parametrize(
    ("check", "bad", "allowed"),
    [
        (
            lambda value: require_integer("key", value, 1),
            (0, -1, 1.0, 1.5, "1", None, True),
            "a whole number of at least 1",
        ),
        (
            lambda value: require_integer("key", value, 0, 3),
            (-1, 4, 2.0, False, []),
            "a whole number from 0 to 3",
        ),
        (
            lambda value: require_number("key", value, 0),
            (-1e-9, math.nan, math.inf, -math.inf, "0", None, True, [1]),
            "a number of at least 0",
        ),
        (
            lambda value: require_number("key", value, 0, 1),
            (1, 1.0, -0.1, math.nan),
            "a number of at least 0 and below 1",
        ),
        (
            lambda value: require_number("key", value, 0, open_below=True),
            (0, 0.0, -1, math.inf),
            "a number above 0",
        ),
        (lambda value: require_one_of("key", value, (1, 2)), (0, 3, "1", None, True, 2.0), "one of 1, 2"),
        (lambda value: require_boolean("key", value), (0, 1, "true", None), "true or false"),
    ],
)
def test_other_values_are_refused_in_one_line(check, bad, allowed):
    for value in bad:
        with pytest.raises(ValueError, match=re.escape(f"key={value}: must be {allowed}") + "$"):
            check(value)

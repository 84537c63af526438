"""Checks of values that a user chooses: `ValueError` with the key, the value and what is allowed."""

import math

MAX_SEED = 2**32 - 1
"""The largest seed that every library takes."""


def require_integer(key: str, value: object, minimum: int, maximum: int | None = None) -> None:
    """Require a whole number in [minimum, maximum].

    Raises:
        ValueError: `value` is not a whole number in the range; a boolean is none.
    """
    allowed = (
        f"a whole number of at least {minimum}"
        if maximum is None
        else f"a whole number from {minimum} to {maximum}"
    )
    inside = (
        isinstance(value, int)
        and not isinstance(value, bool)
        and minimum <= value <= (math.inf if maximum is None else maximum)
    )
    if not inside:
        raise ValueError(f"{key}={value}: must be {allowed}")


def require_number(
    key: str, value: object, minimum: float, below: float = math.inf, *, open_below: bool = False
) -> None:
    """Require a finite number in [minimum, below), or in (minimum, below) with `open_below`.

    Raises:
        ValueError: `value` is not a finite number in the range; a boolean is none.
    """
    allowed = "a number above " if open_below else "a number of at least "
    allowed += f"{minimum:g}" + ("" if below == math.inf else f" and below {below:g}")
    inside = (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and minimum <= value < below
        and not (open_below and value == minimum)
    )
    if not inside:
        raise ValueError(f"{key}={value}: must be {allowed}")


def require_width(width: object) -> None:
    """Require a width: above 0, and not so large that building the network takes minutes.

    Raises:
        ValueError: It is out of range.
    """
    require_number("model.width", width, 0, 2048, open_below=True)


def require_one_of(key: str, value: object, allowed: tuple[object, ...]) -> None:
    """Require one of the allowed values.

    Raises:
        ValueError: `value` is none of them.
    """
    if value not in allowed or type(value) not in map(type, allowed):  # True and 2.0 are not integers
        raise ValueError(f"{key}={value}: must be one of {', '.join(map(str, allowed))}")


def require_boolean(key: str, value: object) -> None:
    """Require true or false.

    Raises:
        ValueError: `value` is neither.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{key}={value}: must be true or false")

"""Checks of user values: `ValueError` with the key, the value and what is allowed."""

import math

MAX_SEED = 2**32 - 1
"""The largest seed that every library takes."""


def require_integer(key: str, value: object, minimum: int, maximum: int | None = None) -> None:
    """Raise ValueError unless `value` is a whole number in [minimum, maximum], not a boolean."""
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
    """Raise ValueError unless `value` is in [minimum, below), or in (minimum, below) with `open_below`."""
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
    """Raise ValueError unless the width is above 0 and small enough to build the network in seconds."""
    require_number("model.width", width, 0, 2048, open_below=True)


def require_one_of(key: str, value: object, allowed: tuple[object, ...]) -> None:
    """Raise ValueError unless `value` is one of `allowed`, with its type."""
    if value not in allowed or type(value) not in map(type, allowed):  # True and 2.0 are not integers
        raise ValueError(f"{key}={value}: must be one of {', '.join(map(str, allowed))}")


def require_boolean(key: str, value: object) -> None:
    """Raise ValueError unless `value` is true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{key}={value}: must be true or false")

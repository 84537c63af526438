"""What ends a command without a traceback."""

import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import TypeVar

from hydra.errors import InstantiationException

Built = TypeVar("Built")


class UserError(ValueError):
    """Something that a user chose cannot be: one line with the key, the value and what is allowed.

    The command ends with exit code 2 and has written nothing.
    """


class RunsFailed(RuntimeError):
    """Runs failed, or are missing for another reason that was told: the command exits with 1."""


class VerdictsDiffer(RuntimeError):
    """Verdicts are not the recorded ones, a line each: the command exits with 1."""


def explained(what: str, build: Callable[[], Built]) -> Built:
    """Call `build`; an exception of a part that got a wrong value becomes one line.

    Raises:
        ValueError: `build` refused a value; the line names the key, or at least `what` was built.
    """
    try:
        return build()
    except (InstantiationException, ValueError, TypeError, RuntimeError) as error:
        cause: BaseException = error
        while isinstance(cause, InstantiationException) and cause.__cause__ is not None:
            cause = cause.__cause__
        text = " ".join(str(cause).split())
        raise ValueError(text if re.match(r"[\w.]+=", text) else f"{what}: {text}") from error


def first_cause(traceback: str) -> str:
    """The last line of a traceback's first exception: others arose while that one was handled."""
    first, *_ = traceback.split("\nDuring handling of the above exception, another exception occurred:\n")
    return first.strip().splitlines()[-1]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """What to say of a word that nobody knows: "; did you mean residual?", or "" where none is near."""
    near = get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""

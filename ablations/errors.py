"""What ends a command without a traceback."""

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST_WORDS = 400
"""Characters of another library's error in a line of ours."""


class UserError(ValueError):
    """Something that a user chose cannot be: one line with the key, the value and what is allowed.

    The command ends with exit code 2 and has written nothing.
    """


class RunsFailed(RuntimeError):
    """Runs failed, or are missing for another reason that was told: the command exits with 1."""


class VerdictsDiffer(RuntimeError):
    """Verdicts are not the recorded ones, a line each: the command exits with 1."""


def first_cause(traceback: str) -> str:
    """The last line of a traceback's first exception: others arose while that one was handled."""
    first, *_ = traceback.split("\nDuring handling of the above exception, another exception occurred:\n")
    return first.strip().splitlines()[-1]


def words_of(error: BaseException) -> str:
    """The text of an error in one line, with its type where the text alone is no sentence."""
    text = " ".join(str(error).split())
    text = text if len(text) <= LONGEST_WORDS else f"{text[:LONGEST_WORDS].rpartition(' ')[0]} ..."
    worded = isinstance(error, ValueError | TypeError | RuntimeError | ImportError) and text
    return text if worded else f"{type(error).__name__}: {text}".removesuffix(": ")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """What to say of a word that nobody knows: "; did you mean residual?", or "" where none is near."""
    near = get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""

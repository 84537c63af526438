"""Errors that end a command without a traceback."""

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST_WORDS = 400
"""Characters of another library's error that a message of ours quotes."""


class UserError(ValueError):
    """A choice is invalid: one line with the key, the value and what is allowed.

    The command ends with exit code 2 and has written nothing.
    """


class RunsFailed(RuntimeError):
    """Runs failed or are missing: the command exits with 1."""


class VerdictsDiffer(RuntimeError):
    """Verdicts differ from the recorded ones, a line each: the command exits with 1."""


def first_cause(traceback: str) -> str:
    """The last line of a traceback's first exception."""
    first, *_ = traceback.split("\nDuring handling of the above exception, another exception occurred:\n")
    return first.strip().splitlines()[-1]


def words_of(error: BaseException) -> str:
    """The text of an error in one line, with its type unless the text is a sentence."""
    text = " ".join(str(error).split())
    text = text if len(text) <= LONGEST_WORDS else f"{text[:LONGEST_WORDS].rpartition(' ')[0]} ..."
    worded = isinstance(error, ValueError | TypeError | RuntimeError | ImportError) and text
    return text if worded else f"{type(error).__name__}: {text}".removesuffix(": ")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A suggestion for an unknown word: "; did you mean residual?"; "" if no known word is similar."""
    near = get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""

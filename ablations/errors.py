"""Errors that end a command without a traceback."""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

CONNECTING = re.compile(
    r"\n(?:During handling of the above exception, another exception occurred"
    r"|The above exception was the direct cause of the following exception):\n"
)
"""What Python writes between the tracebacks of two exceptions."""

HEADER = "Traceback (most recent call last):"

FRAME = re.compile(r'^\s+File "(.+)", line (\d+)', re.MULTILINE)

LIBRARIES = re.compile(r"^<|[/\\](site-packages|dist-packages|lib[/\\]python3[^/\\]*)[/\\]")

FRAMEWORK = tuple(
    str(Path(__file__).parents[1] / package) + os.sep
    for package in ("ablations", "experiments", "lightning_modules")
)

LONGEST_WORDS = 400
"""Characters of another library's error that a message of ours quotes."""


class UserError(ValueError):
    """A choice is invalid: one line with the key, the value and what is allowed.

    The command ends with exit code 2 and has written nothing.
    """


@contextmanager
def as_user_error() -> Iterator[None]:
    """Turn a `ValueError` into a `UserError` with the same text."""
    try:
        yield
    except ValueError as error:
        raise UserError(str(error)) from error


class RunsFailed(RuntimeError):
    """Runs failed or are missing: the command exits with 1."""


class VerdictsDiffer(RuntimeError):
    """Claims are not reproduced: the command exits with 1."""


def first_cause(traceback: str) -> str:
    """The type and the first line of the message of a traceback's first exception, and its place in the
    user's own code.
    """
    first = CONNECTING.split(traceback)[0].rstrip()
    # A worker's exception quotes the traceback that caused it.
    lines = first.rpartition(HEADER)[2].splitlines()
    # Frames are indented. The message's last lines may be advice, as in CUDA's errors.
    starts = [number for number, line in enumerate(lines) if number and line and not line[0].isspace()]
    if not starts:
        return first.splitlines()[-1]
    told = lines[starts[0] :]
    frames = [(path, int(line)) for path, line in FRAME.findall("\n".join(lines[: starts[0]]))]
    return " ".join(map(str.strip, told[:2] if told[0].endswith(":") else told[:1])) + in_own_code(frames)


def in_own_code(frames: Iterable[tuple[str, int]]) -> str:
    """The last of these files and lines that is the user's own: " (networks.py, line 12)"; "" without one."""
    for path, line in reversed(list(frames)):
        if not LIBRARIES.search(path) and not path.startswith(FRAMEWORK):
            near = os.path.relpath(path)
            return f" ({path if near.startswith('..') else near}, line {line})"
    return ""


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

"""What ends a command without a traceback."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from traceback import walk_tb
from typing import TypeVar

import yaml
from hydra.errors import HydraException, InstantiationException
from omegaconf.errors import OmegaConfBaseException

Built = TypeVar("Built")

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


def explained(what: str, build: Callable[[], Built]) -> Built:
    """Call `build`; an exception of a part that got a wrong value becomes one line.

    Raises:
        ValueError: `build` refused a value; the line names the key, or at least `what` was built.
    """
    try:
        return build()
    except Exception as error:  # a part may raise anything; HYDRA_FULL_ERROR=1 shows where
        cause: BaseException = error
        while isinstance(cause, InstantiationException) and cause.__cause__ is not None:
            cause = cause.__cause__
        text = words_of(cause)
        raise ValueError(text if re.match(r"[\w.]+=", text) else f"{what}: {text}") from error


def first_cause(traceback: str) -> str:
    """The last line of a traceback's first exception: others arose while that one was handled."""
    first, *_ = traceback.split("\nDuring handling of the above exception, another exception occurred:\n")
    return first.strip().splitlines()[-1]


def words_of(error: BaseException) -> str:
    """The text of an error in one line, with its type where the text alone is no sentence."""
    text = " ".join(str(error).split())
    text = text if len(text) <= LONGEST_WORDS else f"{text[:LONGEST_WORDS].rpartition(' ')[0]} ..."
    worded = isinstance(error, ValueError | TypeError | RuntimeError | HydraException | ImportError) and text
    return text if worded else f"{type(error).__name__}: {text}".removesuffix(": ")


@contextmanager
def refused_by_hydra(*ours: str) -> Iterator[None]:
    """Hydra raises whatever it happens upon where a command line is wrong: that becomes a line.

    Args:
        ours: Modules, or packages, that Hydra calls: what comes from there is a bug and stays as it is.

    Raises:
        UserError: Hydra raised an exception that is not of its own kind.
    """
    try:
        yield
    except (UserError, RunsFailed, HydraException, OmegaConfBaseException, yaml.YAMLError):
        raise
    except Exception as error:
        frames = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
        if ours and any(name.startswith(ours) for name in frames[2:]):  # behind this file and its caller
            raise
        raise UserError(f"Hydra refuses what was typed: {words_of(error)}") from error


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """What to say of a word that nobody knows: "; did you mean residual?", or "" where none is near."""
    near = get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""

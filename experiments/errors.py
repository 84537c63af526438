"""Errors of Hydra and of the parts that it builds, in one line."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import TypeVar

import yaml
from hydra.errors import HydraException, InstantiationException
from omegaconf.errors import OmegaConfBaseException

from ablations.errors import RunsFailed, UserError, words_of

Built = TypeVar("Built")


def explained(what: str, build: Callable[[], Built]) -> Built:
    """Call `build`; turn an exception of a part into one line.

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
        named = re.match(r"[\w.]+=", text) or text.startswith(f"{what}: ")
        raise ValueError(text if named else f"{what}: {text}") from error


@contextmanager
def refused_by_hydra(*ours: str) -> Iterator[None]:
    """Turn any exception that Hydra raises about a command line into a `UserError`.

    Args:
        ours: Modules that Hydra calls; their exceptions are bugs and stay.
    """
    try:
        yield
    except (UserError, RunsFailed, HydraException, OmegaConfBaseException, yaml.YAMLError):
        raise
    except Exception as error:
        frames = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
        if ours and any(name.startswith(ours) for name in frames[2:]):  # below this file and its caller
            raise
        raise UserError(f"invalid command line: {words_of(error)}") from error

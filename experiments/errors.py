"""What Hydra, or a part that it builds, says of a wrong value, in one line."""

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
        named = re.match(r"[\w.]+=", text) or text.startswith(f"{what}: ")
        raise ValueError(text if named else f"{what}: {text}") from error


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

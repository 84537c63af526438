"""Errors of Hydra and of the parts that it builds, in one line."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import TypeVar

import yaml
from hydra.errors import HydraException, InstantiationException
from omegaconf.errors import OmegaConfBaseException

from ablations.errors import RunsFailed, UserError, in_own_code, words_of
from experiments.project import current
from lightning_modules import classes

Built = TypeVar("Built")

NOT_LOCATED = re.compile(r"Error locating target '(.*?)'(?:.*full_key: (\S+))?", re.DOTALL)
"""Hydra's words for a `_target_` that does not exist or cannot be imported."""


def explained(what: str, build: Callable[[], Built]) -> Built:
    """Call `build`; turn an exception of a part into one line.

    Raises:
        ValueError: `build` refused a value; the line names the key, or at least `what` was built.
    """
    try:
        return build()
    except Exception as error:  # a part may raise anything; HYDRA_FULL_ERROR=1 shows where
        cause: BaseException = error
        while isinstance(cause, InstantiationException) and (inner := cause.__cause__) is not None:
            if target := NOT_LOCATED.match(str(cause)):
                cause = _not_located(".".join(filter(None, (what, target[2]))), target[1])
            else:
                cause = inner
        text = words_of(cause)
        named = re.match(r"[\w.]+=", text) or text.startswith(f"{what}: ")
        raise ValueError(with_file(text if named else f"{what}: {text}") + _in_own_code(cause)) from error


def _not_located(key: str, target: str) -> ValueError:
    """Why the class or function that a `_target_` names cannot be imported."""
    try:
        classes.named(key, target)
    except ValueError as error:
        return error
    return ValueError(f"{key}._target_={target}: cannot be imported")


def _in_own_code(error: BaseException | None) -> str:
    """Where the user's own module raised an error; a syntax error says it itself."""
    frames = []
    while error is not None and not isinstance(error, SyntaxError):
        frames += [(frame.f_code.co_filename, line) for frame, line in walk_tb(error.__traceback__)]
        error = error.__cause__
    return in_own_code(frames)


def with_file(text: str) -> str:
    """A message about a `_target_` that cannot be resolved, after the project's file that has it."""
    if not (found := re.match(r"[\w.]*_target_=(\S+): (no such|importing) ", text)):
        return text
    conf = current().conf
    for file in sorted(conf.rglob("*.yaml")):
        content = file.read_text(encoding="utf-8", errors="replace")
        if re.search(rf"_target_:\s*['\"]?{re.escape(found[1])}(?![\w.])", content):
            return f"{os.path.relpath(file)}: {text}"
    return text


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

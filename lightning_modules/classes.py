"""Classes and functions named by `_target_`: whether they exist, and their arguments."""

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

HYDRAS = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")


def named(key: str, name: object) -> Callable[..., Any]:
    """The class or function that a `_target_` names.

    Raises:
        ValueError: It does not exist, or cannot be called.
    """
    try:
        found = pkgutil.resolve_name(str(name))
    except Exception as error:  # importing a module may raise anything
        module, _, last = str(name).rpartition(".")
        try:
            if module and not module.startswith("."):
                importlib.import_module(module)
        except ModuleNotFoundError as missing:
            if not f"{module}.".startswith(f"{missing.name}."):  # an import of that module's
                raise ValueError(f"{key}._target_={name}: importing {module} fails: {missing}") from missing
        except Exception as broken:
            told = f"{type(broken).__name__}: {broken}"
            raise ValueError(f"{key}._target_={name}: importing {module} fails: {told}") from broken
        try:
            names = {each.lower(): each for each in dir(pkgutil.resolve_name(module))}
        except Exception:  # the module does not exist either
            names = {}
        near = difflib.get_close_matches(last.lower(), names, 1)
        hint = f"; did you mean {module}.{names[near[0]]}?" if near else ""
        raise ValueError(f"{key}._target_={name}: no such class or function{hint}") from error
    if not callable(found):
        raise ValueError(f"{key}._target_={name}: is a {type(found).__name__}; must be a class or function")
    return found


def arguments_of(name: str) -> dict[str, Any]:
    """Arguments of a class or function, with defaults; empty if unknown."""
    try:
        return {
            parameter.name: parameter.default
            for parameter in inspect.signature(named("", name)).parameters.values()
        }
    except (ValueError, TypeError):
        return {}


def require_arguments(
    key: str, node: Mapping[str, Any], first: tuple[str, ...] = (), kind: type = object
) -> None:
    """Require that the class of a node takes all of its arguments.

    Args:
        key: Of the node, such as "recipe.optimizer".
        node: Has `_target_`.
        first: Positional arguments of the call.
        kind: Required base class.

    Raises:
        ValueError: It does not, or is missing or of another kind.
    """
    if "_target_" not in node:
        raise ValueError(f"{key}._target_: missing; name the class or function")
    target = named(key, node["_target_"])
    if isinstance(target, type) and not issubclass(target, kind):
        raise ValueError(f"{key}._target_={node['_target_']}: must be a {kind.__name__}")
    try:
        parameters = inspect.signature(target).parameters
    except (ValueError, TypeError):  # unknown signature; the call will fail
        return
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    takes = [name for name in list(parameters)[len(first) :] if name not in first]
    for name, value in node.items():
        if name not in HYDRAS and name not in parameters:
            raise ValueError(
                f"{key}.{name}={value}: {node['_target_']} does not take it; "
                f"it takes: {', '.join(takes) or 'nothing'}"
            )

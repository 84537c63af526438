"""Imports at the top of a file that are done when they are first used.

Commands take what they need from many modules, and none should wait for what only another one needs: torch,
Lightning, matplotlib, pydantic's schemas. `import` in a function would hide who depends on whom.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType


class _LazyFinder:
    """Finds modules as Python does, and has them executed when an attribute is asked for."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None and spec.submodule_search_locations is None:
            spec.loader = LazyLoader(spec.loader)
        return spec


@contextmanager
def lazily() -> Iterator[None]:
    """A context in which `from package import module` does not execute the module before it is used.

    Packages themselves are executed. A module that cannot be imported says so where it is used.
    """
    sys.meta_path.insert(0, _LazyFinder)
    try:
        yield
    finally:
        sys.meta_path.remove(_LazyFinder)

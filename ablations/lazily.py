"""Imports at the top of a file that are executed at first use.

Commands should not wait for modules that they do not need: torch, Lightning, matplotlib, SciPy. `import` in a
function would hide dependencies from readers and tools.

The standard library's `importlib.util.LazyLoader` executes a module at any access, even to its file.
`inspect.getmodule`, which pydantic calls, would execute all of them during another import.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any


class _LazyModule(ModuleType):
    """A module that is executed when a missing name is accessed."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or self.__spec__ is None or self.__spec__.loader is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        object.__setattr__(self, "__class__", ModuleType)
        try:
            self.__spec__.loader.exec_module(self)
        except BaseException:
            self.__class__ = _LazyModule  # the next access raises the error again
            raise
        return getattr(self, name)


class _LazyLoader(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _LazyModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader


class _LazyFinder:
    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None and spec.submodule_search_locations is None:
            spec.loader = _LazyLoader(spec.loader)
        return spec


@contextmanager
def lazily() -> Iterator[None]:
    """A context in which `from package import module` defers executing the module.

    Packages themselves are executed, so use it for modules of this project, whose packages are empty.
    """
    sys.meta_path.insert(0, _LazyFinder)
    try:
        yield
    finally:
        sys.meta_path.remove(_LazyFinder)

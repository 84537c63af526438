import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ablations.lazily import lazily


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the package `lazy_example`, which can be imported."""
    folder = tmp_path / "lazy_example"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.startswith("lazy_example")]:
        del sys.modules[name]


def test_a_module_is_executed_when_a_name_in_it_is_used(package: Path, capsys: pytest.CaptureFixture) -> None:
    (package / "part.py").write_text("print('executed')\nVALUE = 3\n")
    with lazily():
        part = importlib.import_module("lazy_example.part")
    assert inspect.getmodule(lazily) is not None  # which looks at every module
    assert part.__file__ == str(package / "part.py")
    assert capsys.readouterr().out == ""
    assert part.VALUE == 3
    assert part.VALUE == 3
    assert capsys.readouterr().out == "executed\n"
    with pytest.raises(AttributeError, match="OTHER"):
        _ = part.OTHER


def test_a_module_that_cannot_be_imported_says_so_whenever_it_is_used(package: Path) -> None:
    (package / "broken.py").write_text("import no_such_package\nVALUE = 3\n")
    with lazily():
        broken = importlib.import_module("lazy_example.broken")
    for _ in range(2):
        with pytest.raises(ImportError, match="no_such_package"):
            _ = broken.VALUE


def test_imports_after_the_context_are_as_always(package: Path, capsys: pytest.CaptureFixture) -> None:
    (package / "part.py").write_text("print('executed')\n")
    with lazily():
        pass
    importlib.import_module("lazy_example.part")
    assert capsys.readouterr().out == "executed\n"

"""Where the shared fixtures are, and which tests come first."""

from pathlib import Path

import pytest

FIRST = (
    *("test_launchers.py", "test_commands.py", "test_two_sweeps.py", "test_interrupted_sweep.py"),
    *("test_wrong_command_lines.py", "test_tuning.py"),
    *("test_installed.py", "test_blocks.py"),
)
"""Files whose tests start commands, then files whose tests take longest."""


def pytest_configure(config: pytest.Config) -> None:
    """Load the fixtures, but not where pytest-xdist only deals tests out to other processes.

    They import torch, which takes seconds, and the other processes start after that.
    """
    if config.getoption("dist", "no") == "no":
        config.pluginmanager.import_plugin("tests.fixtures")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Of the slow tests, those in files that name the mark: importing the others takes seconds."""
    if config.getoption("markexpr") != "slow" or collection_path.suffix != ".py":
        return None
    return "mark.slow" not in collection_path.read_text(encoding="utf-8") or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests first, so that none of them is left for last.

    Of several processes the first begins with all that start commands, and others take over its last tests:
    so it alone has a server of them (tests/processes.py), which takes seconds to start.
    """
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))

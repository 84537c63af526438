"""Where the shared fixtures are, and which tests come first."""

import pytest

LONGEST = (
    "test_installed.py",
    "test_launchers.py",
    "test_two_sweeps.py",
    "test_commands.py",
    "test_blocks.py",
)
"""Files whose single tests take longest."""


def pytest_configure(config: pytest.Config) -> None:
    """Load the fixtures, but not where pytest-xdist only deals tests out to other processes.

    They import torch, which takes seconds, and the other processes start after that.
    """
    if config.getoption("dist", "no") == "no":
        config.pluginmanager.import_plugin("tests.fixtures")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests first, so that none of them is left for last."""
    items.sort(key=lambda item: item.path.name not in LONGEST)

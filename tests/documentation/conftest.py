"""The fixture that makes up a run's record, shared with the tests of ablations."""

from tests.ablations.conftest import write_run

__all__ = ["write_run"]

"""Checks what pairing relies on, for each option of the factor."""

from collections.abc import Callable

from experiments.to_check import configured_network
from lightning_modules.checks import NetworkToCheck, parametrize_with_checks


@parametrize_with_checks([configured_network(f"attention={name}") for name in ("none", "squeeze_excite")])
def test_network(subject: NetworkToCheck, check: Callable[[NetworkToCheck], None]) -> None:
    check(subject)

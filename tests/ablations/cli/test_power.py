"""`python -m ablations power`."""

import sys
from collections.abc import Callable

import pytest

from ablations import __main__ as command


@pytest.fixture
def power(monkeypatch, capsys, tmp_path) -> Callable[..., tuple[int, str]]:
    """Calls it outside of any project: exit code, and what it prints."""

    def call(*words: str) -> tuple[int, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["ablations", "power", *words])
        code = command.main()
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    return call


def test_seeds_before_the_runs(power) -> None:
    code, text = power("--effect", "0.004", "--spread", "0.006")
    assert code == 0
    assert text.startswith("20 seeds per arm detect a difference of 0.004 with a power of 81%\n")
    code, text = power("--effect", "1", "--spread", "0.1")
    assert text.startswith("6 seeds per arm")  # fewer would do, and give no verdict
    few = power("--effect", "0.004", "--spread", "0.006", "--comparisons", "4")[1]
    assert int(few.split()[0]) > 20


@pytest.mark.parametrize(
    "words",
    [
        ("--effect", "0", "--spread", "1"),
        ("--effect", "1", "--spread", "0"),
        ("--effect", "1e-9", "--spread", "1"),
        ("--effect", "1", "--spread", "1", "--comparisons", "0"),
        ("--effect", "1"),
        ("--effect", "1", "--spread", "1", "residual"),
    ],
)
def test_what_cannot_be_is_a_line(power, words: tuple[str, ...]) -> None:
    code, text = power(*words)
    assert code == 2
    assert text.startswith("error: ")
    assert text.count("\n") == 1

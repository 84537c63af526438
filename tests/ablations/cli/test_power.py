"""`python -m ablations power`."""

import re
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


def seeds_in(text: str) -> int:
    return int(re.findall(r"\d+", text)[0])


def test_seeds_before_the_runs(power) -> None:
    code, text = power("--effect", "0.004", "--spread", "0.006")
    assert code == 0
    seeds = seeds_in(text)
    assert seeds > 20  # as many as a t test needs
    assert "81 %" in text
    assert seeds_in(power("--effect", "1", "--spread", "0.1")[1]) == 6  # fewer would do, and give no verdict
    assert seeds_in(power("--effect", "0.004", "--spread", "0.006", "--comparisons", "4")[1]) > seeds
    assert seeds_in(power("--effect", "0.004", "--spread", "0.006", "--margin", "0.003")[1]) > seeds


@pytest.mark.parametrize(
    "words",
    [
        ("--effect", "0", "--spread", "1"),
        ("--effect", "1", "--spread", "0"),
        ("--effect", "1e-9", "--spread", "1"),
        ("--effect", "1", "--spread", "1", "--comparisons", "0"),
        ("--effect", "1", "--spread", "1", "--margin", "1"),  # which half of all means reach
        ("--effect", "1", "--spread", "1", "--margin", "-1"),
        ("--effect", "1"),
        ("--effect", "1", "--spread", "1", "residual"),
    ],
)
def test_what_cannot_be_is_a_line(power, words: tuple[str, ...]) -> None:
    code, text = power(*words)
    assert code == 2
    assert text.startswith("error: ")
    assert text.count("\n") == 1

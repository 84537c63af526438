"""Whether two sets of records say the same: made-up sets whose answer is known."""

import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from ablations.evidence.claims import Claim, Comparison
from ablations.evidence.reproduction import Reproduction, reproduce_study
from ablations.statistics.decisions import decision_interval, welch_interval
from ablations.studies.results import Study, StudyRun
from ablations.tables.reproduction import console_table, write_reproduction

PAIR = {"with": 1.0, "without": -1.0}
MARGIN = 0.01


def claim(direction: str = "higher", margin: float = MARGIN, name: str = "final") -> Claim:
    return Claim(name, "It is.", "Me", "residual", (Comparison(PAIR, "test_top1", direction, margin),))


@pytest.fixture
def set_of(make_run) -> Callable[..., list[StudyRun]]:
    """Runs of two arms whose test top-1 differ by the given numbers, of seeds from `first` on."""

    def make(differences: Sequence[float], first: int = 0, **record: object) -> list[StudyRun]:
        return [
            make_run(arm, seed, [0.3, 0.6], 0.6 + (arm == "with") * difference, **record)
            for seed, difference in enumerate(differences, start=first)
            for arm in ("with", "without")
        ]

    return make


@pytest.fixture
def compared(residual_study: Study) -> Callable[..., Reproduction]:
    def compare(one: list[StudyRun], other: list[StudyRun], *claims: Claim) -> Reproduction:
        return reproduce_study(claims or [claim()], residual_study, one, other)[0]

    return compare


EFFECT = 0.05 + 0.004 * np.array([-1.2, 1.1, 0.3, -0.4, 0.8, -0.6])
SHIFT = 0.001 * np.array([1.0, -1.5, 0.5, -0.5, 1.5, -1.0])
"""What another processor does to a seed."""


def test_seeds_that_both_have_are_compared_with_each_other(compared, set_of) -> None:
    found = compared(set_of(EFFECT), set_of(EFFECT + SHIFT))
    (twice,) = found.comparisons
    assert (found.outcome, twice.outcome, twice.counts) == ("reproduced", "reproduced", (6, 6))
    assert found.verdicts == twice.verdicts == ("holds", "holds")
    assert twice.estimates == (pytest.approx(EFFECT.mean()), pytest.approx((EFFECT + SHIFT).mean()))
    low, high = decision_interval(-SHIFT, 0.05)
    assert (twice.low, twice.high) == (pytest.approx(low), pytest.approx(high))
    assert twice.reason == "they agree within the margin"


def test_other_seeds_are_another_sample(compared, set_of) -> None:
    found = compared(set_of(EFFECT), set_of(EFFECT + SHIFT, first=6))
    (twice,) = found.comparisons
    expected = stats.ttest_ind(EFFECT, EFFECT + SHIFT, equal_var=False).confidence_interval(0.95)
    assert (twice.low, twice.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert found.outcome == "reproduced"


def test_a_few_common_seeds_are_left_out_of_independent_samples(compared, set_of) -> None:
    one, other = np.tile(EFFECT, 2), np.tile(EFFECT, 2) + 0.0001
    found = compared(set_of(one), set_of(other, first=9))  # seeds 9 to 11 are in both
    assert found.comparisons[0].counts == (9, 9)


@pytest.mark.parametrize("first", [0, 6])
@pytest.mark.parametrize("sign", [1, -1])
def test_more_than_matters_apart_is_not_reproduced_though_both_hold(
    first: int, sign: int, compared, set_of
) -> None:
    sets = set_of(EFFECT), set_of(EFFECT + 0.03 + SHIFT, first=first)
    found = compared(*sets[::sign])
    assert found.verdicts == ("holds", "holds")
    assert (found.outcome, found.comparisons[0].reason) == (
        "not reproduced",
        "they differ by more than the margin",
    )


def test_opposite_verdicts_are_not_reproduced(compared, set_of) -> None:
    found = compared(set_of(EFFECT), set_of(-EFFECT, first=6))
    assert found.verdicts == ("holds", "contradicted")
    assert found.outcome == "not reproduced"


def test_wide_intervals_that_include_zero_are_too_few_runs(compared, set_of) -> None:
    wide = 0.02 + 0.05 * np.array([-1.2, 1.1, 0.3, -0.4, 0.8, -0.6])
    found = compared(set_of(wide), set_of(wide[::-1]))
    assert found.verdicts == ("inconclusive", "inconclusive")
    assert found.outcome == "too few runs to tell"


@pytest.mark.parametrize(("effect", "outcome"), [(0.3, "reproduced"), (0.1, "too few runs to tell")])
@pytest.mark.parametrize("direction", ["higher", "lower"])
def test_the_same_decision_takes_an_interval_within_half_of_the_effect(
    direction: str, effect: float, outcome: str, compared, set_of
) -> None:
    values = effect + 0.05 * np.array([-1.2, 1.1, 0.3, -0.4, 0.8, -0.6])
    found = compared(set_of(values), set_of(values[::-1], first=6), claim(direction))
    (twice,) = found.comparisons
    assert twice.low < -0.05 < -MARGIN < MARGIN < 0.05 < twice.high < 0.15
    assert set(found.verdicts) == {"holds" if direction == "higher" else "contradicted"}
    assert found.outcome == outcome


def test_the_same_runs_again_are_reproduced_and_copies_are_not(compared, set_of) -> None:
    again = compared(set_of(EFFECT, started="2026-01-01"), set_of(EFFECT, started="2026-01-02"))
    assert (again.outcome, again.comparisons[0].reason) == ("reproduced", "identical")
    copied = compared(set_of(EFFECT, started="2026-01-01"), set_of(EFFECT, started="2026-01-01"))
    assert (copied.outcome, copied.comparisons[0].counts) == ("too few runs to tell", (0, 0))
    assert copied.verdicts == ("holds", "holds")
    both = np.concatenate([EFFECT, EFFECT + SHIFT])
    more = compared(set_of(both, started="2026-01-01"), set_of(EFFECT, started="2026-01-01"))
    assert more.comparisons[0].counts == (6, 0)


def test_five_seeds_and_none(compared, set_of) -> None:
    few = compared(set_of(EFFECT), set_of(EFFECT[:5]))
    assert few.outcome == "too few runs to tell"
    assert few.comparisons[0].reason == "5 seeds to compare; at least 6 needed"
    nothing = compared(set_of(EFFECT), [])
    assert (nothing.outcome, nothing.verdicts) == ("too few runs to tell", ("holds", "inconclusive"))


def test_a_claim_is_reproduced_where_each_comparison_is(residual_study: Study, set_of) -> None:
    two = Claim("two", "It is.", "Me", "residual", (*claim().comparisons, *claim("lower").comparisons))
    never = Claim("never", "It is.", "Me", "residual", (), "needs a year")
    one, other = set_of(EFFECT), set_of(EFFECT + SHIFT)
    (found,) = reproduce_study([two, never, replace(claim(), study="other")], residual_study, one, other)
    assert found.outcome == "reproduced"
    assert [twice.level for twice in found.comparisons] == [0.025, 0.025]
    assert reproduce_study([never], residual_study, one, other) == []


def test_a_claim_on_an_arm_that_was_not_tuned_is_left_out(tuned_study: Study, set_of) -> None:
    contrast = {"with": 1.0, "matched": -1.0}
    on_another = replace(claim(name="other"), comparisons=(Comparison(contrast, "area", "higher", MARGIN),))
    (found,) = reproduce_study([claim(), on_another], tuned_study, set_of(EFFECT), set_of(EFFECT + SHIFT))
    assert (found.claim.id, found.outcome) == ("final", "reproduced")
    assert found.comparisons[0].level == 0.05


def test_answers_are_wrong_in_5_per_cent_at_most(compared, set_of) -> None:
    """Not reproduced of one truth, or reproduced of two that differ by what matters."""
    generator = np.random.default_rng(0)
    seen = Counter[tuple[float, str]]()
    for _ in range(100):
        for apart in (0.0, 0.02):
            one, other = generator.normal(0.03, 0.012, 6), generator.normal(0.03 + apart, 0.012, 6)
            claims = [claim("no_difference", 0.02)]
            seen[apart, compared(set_of(one), set_of(other, first=6), *claims).outcome] += 1
    assert seen[0.0, "not reproduced"] <= 0.05 * 100 + 5
    assert seen[0.02, "reproduced"] <= 0.05 * 100 + 5
    assert seen[0.0, "reproduced"] > 12


def test_effects_apart_by_half_of_the_smaller_are_reproduced_in_5_per_cent_at_most(compared, set_of) -> None:
    generator = np.random.default_rng(0)
    seen = Counter[tuple[float, str]]()
    for _ in range(100):
        for apart in (0.0, 0.02):
            one, other = generator.normal(0.04, 0.012, 6), generator.normal(0.04 + apart, 0.012, 6)
            found = compared(set_of(one), set_of(other, first=6), claim(margin=0.005))
            if found.verdicts == ("holds", "holds"):
                seen[apart, found.outcome] += 1
    assert seen[0.02, "reproduced"] <= 0.05 * 100 + 5
    assert seen[0.0, "reproduced"] > 12


def test_welch_is_scipys() -> None:
    generator = np.random.default_rng(0)
    one, other = generator.normal(1, 1, 6), generator.normal(0, 3, 11)
    expected = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.99)
    assert welch_interval(one, other, 0.01) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert welch_interval([0.5, 0.5], [0.2, 0.2], 0.05) == (0.3, 0.3)


def test_seeds_that_failed_to_learn_are_counted_next_to_the_answer(
    residual_study: Study, set_of, make_run, tmp_path: Path
) -> None:
    failed = [make_run("with", 6, [0.3, 0.6], 0.6), make_run("without", 6, [0.1, 0.1], 0.1)]
    found = reproduce_study([claim()], residual_study, set_of(EFFECT), [*set_of(EFFECT + SHIFT), *failed])
    (twice,) = found[0].comparisons
    assert (twice.left_out, twice.counts, found[0].outcome) == ((0, 1), (6, 6), "reproduced")
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(console_table(found, ("yours", "reference")))
    assert "0 and 1 seeds" in " ".join(console.export_text().split())
    assert "| 0 and 1 " in write_reproduction(found, ("yours", "reference"), tmp_path).read_text()


def test_a_terminal_of_80_columns_and_a_page(residual_study: Study, set_of, tmp_path: Path) -> None:
    speed = Claim(
        "speed",
        "It is | faster.",
        "Me",
        "residual",
        (Comparison(PAIR, "steps_to_target", "lower", 0.05), Comparison(PAIR, "area", "higher", 0.01)),
    )
    sets = set_of(EFFECT), set_of(EFFECT + 0.03 + SHIFT)
    found = reproduce_study([claim(), speed], residual_study, *sets)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(console_table(found, ("yours", "reference")))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("Reproduction: 1 of 2 claims reproduced, 1 not reproduced")
    assert "final: not reproduced; yours holds, reference holds" in "\n".join(lines)
    path = write_reproduction(found, ("yours", "reference"), tmp_path)
    page = path.read_text()
    assert path.name == "reproduction.md"
    assert "they differ by more than the margin" in page
    assert "It is \\| faster." in page


def test_a_trend_is_compared_as_any_contrast(factorial_study: Study, trending: list[StudyRun]) -> None:
    slope = Comparison({}, "test_top1", "higher", 0.005, {"relu": 1, "none": -1})
    claims = [Claim("trend", "It grows.", "Me", factorial_study.name, (slope,))]
    (found,) = reproduce_study(claims, factorial_study, trending, trending)
    assert (found.outcome, found.comparisons[0].counts) == ("reproduced", (7, 7))
    assert found.comparisons[0].label == "ReLU − none, per doubling of channels per segment"

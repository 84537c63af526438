"""Looks and their levels: against published boundaries, and by simulation with and without an effect."""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest
from scipy import stats

from ablations.evidence.verdicts import ALPHA, MIN_PAIRS, decide
from ablations.statistics.decisions import decision_interval
from ablations.statistics.sequential import (
    FIRST_LOOK,
    looks,
    pocock_spending,
    t_levels,
)
from benchmarks.normal_boundaries import crossing_probabilities, nominal_levels
from benchmarks.verdict_error_rates import Draw, Rates, normal, simulate, t_level

BUDGET = 20
PAIRS = looks(BUDGET)


def equally_spaced(number: int) -> list[float]:
    return [look / number for look in range(1, number + 1)]


def obrien_fleming_spending(fraction: float, alpha: float) -> float:
    """Of Lan and DeMets 1983, each side by itself, as their program tabulates it."""
    return 4 * float(stats.norm.sf(stats.norm.isf(alpha / 4) / math.sqrt(fraction)))


def test_looks() -> None:
    assert looks(6) == (6,)
    assert looks(7) == (6, 7)
    assert looks(20) == (6, 8, 10, 12, 14, 16, 18, 20)
    assert looks(11) == (6, 8, 10, 11)
    assert FIRST_LOOK == MIN_PAIRS  # else no verdict could be given there
    with pytest.raises(ValueError, match="budget=5: must be at least 6"):
        looks(5)


# Jennison and Turnbull 2000, tables 2.1 and 2.3, two-sided alpha 0.05.


@pytest.mark.parametrize(("number", "constant"), [(2, 2.178), (3, 2.289), (4, 2.361), (5, 2.413)])
def test_pococks_constants(number: int, constant: float) -> None:
    crossed = crossing_probabilities(equally_spaced(number), [constant] * number)
    assert crossed.sum() == pytest.approx(0.05, abs=1e-4)
    assert crossed[0] == pytest.approx(2 * stats.norm.sf(constant))


@pytest.mark.parametrize(("number", "constant"), [(2, 1.977), (3, 2.004), (4, 2.024), (5, 2.040)])
def test_obrien_and_flemings_constants(number: int, constant: float) -> None:
    bounds = [constant / math.sqrt(fraction) for fraction in equally_spaced(number)]
    assert crossing_probabilities(equally_spaced(number), bounds).sum() == pytest.approx(0.05, abs=1e-4)


@pytest.mark.parametrize(
    ("spending", "bounds"),
    [
        (pocock_spending, [2.4380, 2.4268, 2.4101, 2.3966, 2.3859]),
        (obrien_fleming_spending, [4.8769, 3.3569, 2.6803, 2.2898, 2.0310]),
    ],
)
def test_lan_and_demets_boundaries_at_five_looks(spending, bounds: Sequence[float]) -> None:
    levels = nominal_levels(equally_spaced(5), 0.05, spending)
    assert stats.norm.isf(np.array(levels) / 2) == pytest.approx(bounds, abs=2e-4)


def test_what_is_spent_is_what_was_to_be_spent() -> None:
    fractions = [0.2, 0.25, 0.7, 0.9]
    bounds = stats.norm.isf(np.array(nominal_levels(fractions, 0.03)) / 2)
    spent = crossing_probabilities(fractions, bounds.tolist()).cumsum()
    assert spent == pytest.approx([pocock_spending(fraction, 0.03) for fraction in fractions], abs=1e-9)
    assert pocock_spending(1, 0.03) == pytest.approx(0.03)


@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_one_look_has_the_whole_level(alpha: float) -> None:
    assert nominal_levels([1.0], alpha) == pytest.approx([alpha])
    assert t_levels([6], alpha) == pytest.approx([alpha], rel=1e-4)


def test_levels_of_t_become_those_of_normal_statistics() -> None:
    def difference(pairs: Sequence[int]) -> float:
        exact, normal = t_levels(pairs, 0.05), nominal_levels([n / pairs[-1] for n in pairs], 0.05)
        assert exact[0] == pytest.approx(normal[0], rel=1e-3)  # the first look alone
        return max(1 - t / z for t, z in zip(exact, normal, strict=True))

    few, many = difference([6, 9, 12]), difference([60, 90, 120])
    assert few > 0.05
    assert 0 <= many < 0.03


def test_two_looks_of_t_by_hand() -> None:
    """With 2 and 3 pairs: by quadrature over the direction of three normal numbers, which is uniform."""
    levels = t_levels([2, 3], 0.05)
    height = (np.arange(1500) + 0.5) / 1500  # of one half of a sphere
    around = (np.arange(3000) + 0.5) / 3000 * 2 * np.pi
    third, angle = (axis.ravel() for axis in np.meshgrid(height, around))
    radius = np.sqrt(1 - third**2)
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle), third])
    out = np.zeros(len(third), bool)
    for n, level in zip((2, 3), levels, strict=True):
        t = x[:n].mean(axis=0) / (x[:n].std(axis=0, ddof=1) / math.sqrt(n))
        out |= np.abs(t) > stats.t.isf(level / 2, n - 1)
    assert out.mean() == pytest.approx(0.05, abs=6e-4)  # by cells, coarse where t has one degree


def test_levels_rise_with_alpha_at_every_look() -> None:
    """What Holm's procedure needs to hand a level on."""
    alphas = [0.05 / m for m in range(12, 0, -1)]
    levels = np.array([t_levels(PAIRS, alpha) for alpha in alphas])
    assert (np.diff(levels, axis=0) > 0).all()
    assert (levels > 0).all()
    assert (levels <= np.array(alphas)[:, None]).all()


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: nominal_levels([], 0.05), "must rise"),
        (lambda: nominal_levels([0.5, 0.5], 0.05), "must rise"),
        (lambda: nominal_levels([0.5, 1.1], 0.05), r"within \(0, 1\]"),
        (lambda: nominal_levels([1.0], 0), "alpha=0"),
        (lambda: crossing_probabilities([0.5, 1], [2.0]), "1 bounds for 2 looks"),
        (lambda: t_levels([], 0.05), "must rise, from 2 or more"),
        (lambda: t_levels([1, 2], 0.05), "must rise, from 2 or more"),
        (lambda: t_levels([6, 6], 0.05), "must rise, from 2 or more"),
        (lambda: t_levels([6], 1), "alpha=1"),
    ],
)
def test_what_is_no_schedule(call, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        call()


# By simulation


DRAWS = 8_000
NOISE = 4 * math.sqrt(0.05 * 0.95 / DRAWS)
"""Four standard errors of a rate of 5 %: one point."""


EXACT = partial(t_levels, PAIRS)


def rates(draw: Draw, *effects: float, levels=EXACT, pairs=PAIRS, **changes) -> Rates:
    generator = np.random.default_rng(3)
    differences = np.stack([effect + draw(generator, (DRAWS, BUDGET)) for effect in effects], axis=2)
    return simulate(differences, effects, pairs, levels, **changes)


def test_without_an_effect_the_whole_schedule_misses_in_5_per_cent() -> None:
    """By t intervals, whose levels they are; verdicts are read off wider ones."""
    by_t, found = rates(normal, 0.0, level_of=t_level), rates(normal, 0.0)
    assert by_t.missed == pytest.approx(ALPHA, abs=NOISE)
    # Not all that lies above 0 has a mean that matters, so that it is a little less than half.
    assert 0.8 * ALPHA / 2 - NOISE < by_t.wrong < ALPHA / 2 + NOISE
    assert 0.01 < found.wrong <= by_t.wrong


def test_looking_without_a_method_and_the_levels_of_normal_statistics_miss_more() -> None:
    assert rates(normal, 0.0, levels=lambda alpha: [alpha] * len(PAIRS)).missed > 0.14
    usual = rates(normal, 0.0, levels=partial(nominal_levels, [n / BUDGET for n in PAIRS]))
    assert 0 < usual.missed - rates(normal, 0.0).missed < 0.015  # of the same draws


def test_power_and_seeds() -> None:
    half, one, two = (rates(normal, effect) for effect in (0.5, 1.0, 2.0))
    assert 0.35 < half.holds < 0.45
    assert 0.92 < one.holds < 0.97
    assert two.holds > 0.999
    assert half.wrong < ALPHA  # an effect of the margin is not to be contradicted
    assert 16 < half.seeds < 17.5
    assert 10.5 < one.seeds < 12
    assert 6 <= two.seeds < 6.8


def test_several_comparisons_and_failed_seeds() -> None:
    assert rates(normal, 0.0, 0.0, 0.0).wrong < ALPHA / 2 + NOISE
    assert rates(normal, 2.0, 2.0, 0.0, 0.0).wrong < ALPHA / 2 + NOISE  # what two of them hand on
    failed = rates(normal, 0.0, left_out=2)
    assert failed.missed < 0.065
    assert failed.inconclusive > rates(normal, 0.0).inconclusive


def test_the_simulation_decides_by_the_rule_of_the_verdicts() -> None:
    generator = np.random.default_rng(4)
    for effect in (0.0, 0.5, 1.5):
        differences = effect + generator.standard_normal(6)
        low, high = decision_interval(differences, 0.05)
        found = simulate(differences[None, :, None], [effect], [6], lambda alpha: [alpha])
        verdict = decide("higher", 0.5, float(low), differences.mean(), float(high))
        expected = {
            "holds": found.holds,
            "contradicted": found.contradicted,
            "inconclusive": found.inconclusive,
        }
        assert [name for name, share in expected.items() if share] == [verdict]

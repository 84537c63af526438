"""The rule that decides, the correction over comparisons, and what a verdict says beside itself."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from ablations.evidence.claims import Claim, Comparison
from ablations.evidence.verdicts import (
    Compared,
    combine,
    compare,
    core_hours,
    decide,
    judge_study,
    untestable,
)
from ablations.studies.results import Arm, Study, StudyRun

CORE_HOURS = 90 / 3600
"""Of a run of `make_run`."""


@pytest.mark.parametrize(
    ("direction", "low", "estimate", "high", "verdict"),
    [
        ("higher", 0.001, 0.015, 0.03, "holds"),
        ("higher", 0.0, 0.015, 0.03, "inconclusive"),
        ("higher", 0.02, 0.025, 0.03, "holds"),
        ("higher", 0.001, 0.005, 0.009, "contradicted"),  # real, and too small to matter
        ("higher", 0.001, 0.006, 0.011, "inconclusive"),  # real, and it is open whether it matters
        ("higher", 0.001, 0.01, 0.019, "holds"),
        ("higher", -0.01, 0.0, 0.009, "contradicted"),
        ("higher", -0.03, -0.025, -0.02, "contradicted"),
        ("higher", -0.03, -0.01, 0.01, "inconclusive"),
        ("lower", -0.03, -0.015, -0.001, "holds"),
        ("lower", -0.019, -0.01, -0.001, "holds"),
        ("lower", -0.011, -0.006, -0.001, "inconclusive"),
        ("lower", -0.009, 0.0, 0.01, "contradicted"),
        ("lower", -0.03, -0.015, 0.0, "inconclusive"),
        ("lower", 0.02, 0.025, 0.03, "contradicted"),
        ("no_difference", -0.009, 0.0, 0.009, "holds"),
        ("no_difference", 0.001, 0.005, 0.009, "holds"),
        ("no_difference", -0.01, 0.0, 0.009, "inconclusive"),
        ("no_difference", 0.0, 0.01, 0.02, "inconclusive"),
        ("no_difference", 0.011, 0.015, 0.02, "contradicted"),
        ("no_difference", -0.02, -0.015, -0.011, "contradicted"),
    ],
)
def test_the_rule(direction: str, low: float, estimate: float, high: float, verdict: str) -> None:
    assert decide(direction, 0.01, low, estimate, high) == verdict


@pytest.mark.parametrize("direction", ["higher", "lower", "no_difference"])
def test_a_wider_interval_only_moves_towards_inconclusive(direction: str) -> None:
    """Whatever widens it: Holm's correction, the level of a look."""
    generator = np.random.default_rng(0)
    seen = Counter[tuple[str, str]]()
    for _ in range(3000):
        estimate = generator.uniform(-0.03, 0.03)
        below, above = generator.exponential(0.01, 2)
        wider = 1 + generator.exponential(0.5)
        found = [
            decide(direction, 0.01, estimate - below * width, estimate, estimate + above * width)
            for width in (1.0, wider)
        ]
        assert found[1] in (found[0], "inconclusive")
        seen[found[0], found[1]] += 1
    decided = ("holds", "contradicted")
    assert min(seen[verdict, after] for verdict in decided for after in (verdict, "inconclusive")) > 10


def test_a_stricter_level_only_moves_towards_inconclusive() -> None:
    """Families of runs at falling levels; what is in them is decided in every way."""
    generator = np.random.default_rng(0)
    directions = ("higher", "lower", "no_difference")
    seen = Counter[tuple[str, str]]()
    for _ in range(150):
        family = [comparison(str(generator.choice(directions)), 0.01) for _ in range(3)]
        means = generator.choice([-0.02, -0.008, -0.004, 0.004, 0.008, 0.02], 3)
        differences = [generator.normal(mean, 0.006, 8) for mean in means]
        before = [one.verdict for one in compare(family, differences, 0.4)]
        for alpha in (0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.001):
            now = [one.verdict for one in compare(family, differences, alpha)]
            assert all(new in (old, "inconclusive") for old, new in zip(before, now, strict=True))
            seen.update(zip(before, now, strict=True))
            before = now
    assert min(seen[verdict, "inconclusive"] for verdict in ("holds", "contradicted")) > 50


def test_a_real_difference_below_the_margin_is_not_made_to_hold_by_a_correction() -> None:
    small = 0.003 + 0.001 * np.array([-1.2, 1.2, -0.8, 0.8, -0.4, 0.4])
    alone, corrected = (compare([comparison("higher", 0.0045)], [small], alpha)[0] for alpha in (0.05, 0.01))
    assert (alone.verdict, corrected.verdict) == ("contradicted", "inconclusive")
    assert corrected.low > 0  # and it reaches the margin
    assert corrected.high > 0.0045
    assert corrected.reason == "the estimate is below the margin, but its interval includes the margin"
    (mirrored,) = compare([comparison("lower", 0.0045)], [-small], 0.01)
    assert (mirrored.verdict, mirrored.reason) == ("inconclusive", corrected.reason)


def test_a_mean_that_is_the_margin_but_for_rounding_is_as_large_as_the_margin() -> None:
    differences = np.array([0.001, 0.007, 0.002, 0.006, 0.003, 0.005])  # of mean 0.004
    less = np.nextafter(0.004 / differences.mean(), 0) * differences
    assert less.mean() < 0.004
    for direction, sign in (("higher", 1), ("lower", -1)):
        (one,) = compare([comparison(direction, 0.004)], [sign * less])
        assert one.verdict == "holds"


def test_a_claim_needs_all_of_its_comparisons() -> None:
    assert combine(["holds", "holds"]) == "holds"
    assert combine(["holds", "inconclusive"]) == "inconclusive"
    assert combine(["holds", "inconclusive", "contradicted"]) == "contradicted"


def comparison(direction: str = "higher", margin: float = 0.01, metric: str = "test_top1") -> Comparison:
    return Comparison({"with": 1.0, "without": -1.0}, metric, direction, margin)


def claim(*comparisons: Comparison, name: str = "mine", study: str = "residual") -> Claim:
    return Claim(name, "It is.", "Me", study, comparisons or (comparison(),))


@pytest.fixture
def pairs(make_run) -> Callable[[Sequence[float]], list[StudyRun]]:
    """Runs of "with" and "without" whose test top-1 differ by the given differences, one per seed."""

    def make(differences: Sequence[float]) -> list[StudyRun]:
        return [
            make_run(arm, seed, [0.3, 0.6], 0.6 + (arm == "with") * difference)
            for seed, difference in enumerate(differences)
            for arm in ("with", "without")
        ]

    return make


SIX = (0.01, 0.02, 0.03, 0.04, 0.05, 0.06)
"""Mean 0.035, variance 17.5e-4 / 5."""


def test_a_verdict_by_hand(residual_study: Study, pairs) -> None:
    (verdict,) = judge_study([claim()], residual_study, pairs(SIX))
    (one,) = verdict.comparisons
    half = 2.570582 * math.sqrt(17.5e-4 / 5 / 6)
    assert (verdict.verdict, verdict.reason, one.verdict, one.n, one.level) == ("holds", "", "holds", 6, 0.05)
    assert one.estimate == pytest.approx(0.035)
    assert (one.low, one.high) == (0.01, 0.06)  # ranks: wider than 0.0154 to 0.0546, the t interval
    (strict,) = compare([comparison()], [np.array(SIX)], alpha=0.01)
    half *= 4.032143 / 2.570582  # now the t interval is the wider one
    assert (strict.low, strict.high) == (pytest.approx(0.035 - half), pytest.approx(0.035 + half))
    assert one.p == pytest.approx(stats.ttest_1samp(SIX, 0).pvalue)
    assert verdict.scale == residual_study.scale
    assert verdict.core_hours == pytest.approx(12 * CORE_HOURS)
    assert (verdict.seeds_needed, verdict.core_hours_needed) == (None, None)


def test_every_verdict(residual_study: Study, pairs) -> None:
    def judged(direction: str, margin: float, differences: Sequence[float]) -> str:
        one = claim(comparison(direction, margin))
        return judge_study([one], residual_study, pairs(differences))[0].verdict

    down = [-value for value in SIX]
    assert judged("higher", 0.07, SIX) == "contradicted"
    assert judged("higher", 0.01, down) == "contradicted"
    assert judged("lower", 0.01, down) == "holds"
    assert judged("higher", 0.01, (0.05, -0.05, 0.04, -0.04, 0.03, 0.01)) == "inconclusive"
    assert judged("no_difference", 0.01, (0.001, -0.002, 0.003, 0.0, -0.001, 0.001)) == "holds"
    assert judged("no_difference", 0.005, SIX) == "contradicted"
    assert judged("no_difference", 0.03, SIX) == "inconclusive"


def test_equivalence_is_judged_by_two_one_sided_tests(residual_study: Study, pairs) -> None:
    differences = (0.001, -0.002, 0.003, 0.0, -0.001, 0.001)
    one = claim(comparison("no_difference", 0.01))
    (compared,) = judge_study([one], residual_study, pairs(differences))[0].comparisons
    upper = stats.ttest_1samp(differences, 0.01, alternative="less").pvalue
    lower = stats.ttest_1samp(differences, -0.01, alternative="greater").pvalue
    assert compared.p == pytest.approx(2 * max(upper, lower), rel=1e-6)


def test_what_is_shown_of_equivalence_is_what_decides() -> None:
    generator = np.random.default_rng(0)
    seen = Counter[tuple[str, bool]]()
    for _ in range(200):
        differences = generator.normal(generator.choice([0.0, 0.004]), 0.008, 8)
        (one,) = compare([comparison("no_difference", 0.01)], [differences])
        assert (one.p <= one.level) == (one.verdict == "holds")
        seen[one.verdict, 0.025 < one.p <= 0.1] += 1
    assert seen["inconclusive", True] > 10  # where the p of one side would have held
    assert seen["holds", True] > 10


def test_holm_steps_through_the_comparisons_of_all_claims(residual_study: Study, pairs) -> None:
    # p of SIX against 0 is 0.0059: above 0.05 / 9, below 0.05 / 8.
    p = stats.ttest_1samp(SIX, 0).pvalue
    assert 0.05 / 9 < p < 0.05 / 8

    def judged(others: int) -> tuple[list[str], list[float]]:
        never = Comparison({"with": 1.0, "without": -1.0}, "area", "higher", 0.0)  # equal in all seeds
        claims = [claim(never, name=f"other{number}") for number in range(others)]
        verdicts = judge_study([*claims, claim()], residual_study, pairs(SIX))
        return [v.verdict for v in verdicts], [c.level for v in verdicts for c in v.comparisons]

    verdicts, levels = judged(7)
    assert verdicts == ["inconclusive"] * 7 + ["holds"]
    assert levels == pytest.approx([0.05 / 7] * 7 + [0.05 / 8])
    verdicts, levels = judged(8)
    assert verdicts == ["inconclusive"] * 9
    assert levels == pytest.approx([0.05 / 9] * 9)


def test_the_level_of_a_look_is_that_of_nominal(residual_study: Study, pairs) -> None:
    claims = [claim(name="a"), claim(comparison("higher", 0.02), name="b")]
    verdicts = judge_study(claims, residual_study, pairs(SIX), nominal=lambda level: level / 2)
    assert [v.comparisons[0].level for v in verdicts] == pytest.approx([0.0125, 0.025])
    assert [v.verdict for v in verdicts] == ["holds", "holds"]
    strict = judge_study(claims, residual_study, pairs(SIX), nominal=lambda level: level / 10)
    assert [v.verdict for v in strict] == ["inconclusive", "inconclusive"]
    assert [v.verdict for v in judge_study(claims, residual_study, pairs(SIX), alpha=0.001)] == [
        "inconclusive",
        "inconclusive",
    ]


def test_what_it_would_take_to_decide(residual_study: Study, pairs) -> None:
    differences = (0.05, -0.05, 0.04, -0.04, 0.03, 0.01)
    mean, sd = np.mean(differences), np.std(differences, ddof=1)
    wider = math.sqrt(math.pi / 3)  # the rank interval than the t interval, of many normal differences
    (verdict,) = judge_study([claim(comparison("higher", 0.04))], residual_study, pairs(differences))
    needed = verdict.seeds_needed
    assert needed is not None
    distance = 0.04 - mean  # farther than from the mean to 0

    def half(n: int) -> float:
        return wider * stats.t.ppf(0.975, n - 1) * sd / math.sqrt(n)

    assert half(needed) < distance <= half(needed - 2)  # ranks have steps
    assert verdict.core_hours_needed == pytest.approx(2 * (needed - 6) * CORE_HOURS)
    assert verdict.reason == "the estimate is below the margin, but its interval includes the margin"
    with_more = [mean + sd * z for z in stats.norm.ppf((np.arange(needed + 20) + 0.5) / (needed + 20))]
    assert judge_study([claim(comparison("higher", 0.04))], residual_study, pairs(with_more))[0].verdict == (
        "contradicted"
    )


def test_holm_takes_each_comparison_at_the_level_at_which_its_interval_decides() -> None:
    """Of k decided among m the levels are 0.05 / m to 0.05 / (m - k + 1), of the others 0.05 / (m - k)."""
    generator = np.random.default_rng(0)
    directions = ("higher", "lower", "no_difference")
    seen = Counter[tuple[str, str]]()
    for _ in range(300):
        family = [comparison(str(generator.choice(directions)), 0.01) for _ in range(4)]
        means = generator.choice([-0.04, -0.006, 0.0, 0.006, 0.04], 4)
        differences = [generator.normal(mean, 0.008, 8) for mean in means]
        compared = compare(family, differences, 0.05)
        decided = sorted(one.level for one in compared if one.verdict != "inconclusive")
        assert decided == pytest.approx([0.05 / (4 - place) for place in range(len(decided))])
        left = [one.level for one in compared if one.verdict == "inconclusive"]
        assert left == pytest.approx([0.05 / (4 - len(decided)) for _ in left])
        seen.update((one.comparison.direction, one.verdict) for one in compared)
    assert min(seen[d, v] for d in directions for v in ("holds", "contradicted", "inconclusive")) > 10


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize(
    ("mean", "no_difference", "decision"),
    [
        (0.03, False, "holds"),
        (0.002, False, "contradicted"),
        (-0.01, False, "contradicted"),
        (0.004, True, "holds"),
        (-0.004, True, "holds"),
        (0.018, True, "contradicted"),
        (-0.018, True, "contradicted"),
    ],
)
def test_as_many_pairs_as_needed_decide_and_fewer_do_not(
    mean: float, no_difference: bool, decision: str, side: int
) -> None:
    """In every direction; of pairs that have mean and spread as seen."""

    def judged(n: int) -> Compared:
        z = stats.norm.ppf((np.arange(n) + 0.5) / n)
        direction = "no_difference" if no_difference else "higher" if side > 0 else "lower"
        differences = side * (mean + 0.05 * (z - z.mean()) / z.std(ddof=1))
        (one,) = compare([comparison(direction, 0.01)], [differences])
        return one

    needed = judged(8).needed
    assert needed is not None
    assert needed > 8
    assert judged(math.ceil(1.05 * needed)).verdict == decision  # ranks have steps
    assert judged(int(0.95 * needed) - 1).verdict == "inconclusive"


@pytest.mark.parametrize("level", [0.05, 0.01, 0.003, 0.0005])
@pytest.mark.parametrize("n", [6, 8, 10, 20])
def test_more_pairs_than_there_are_are_needed(level: float, n: int) -> None:
    """At a strict level, such as that of a look, the interval of few pairs is their range."""
    generator = np.random.default_rng(0)
    family = [comparison(direction, 0.01) for direction in ("higher", "lower", "no_difference")]
    inconclusive = 0
    for _ in range(40):
        differences = generator.normal(generator.choice([0.0, 0.01, 0.02]), 0.008, n)
        for one in family:
            (compared,) = compare([one], [differences], level)
            if compared.verdict == "inconclusive" and compared.needed is not None:
                assert compared.needed > n
                inconclusive += 1
    assert inconclusive > 10


def test_pairs_that_are_left_out_are_also_trained() -> None:
    differences = [np.array((0.05, -0.05, 0.04, -0.04, 0.03, 0.01))]
    (whole,) = compare([comparison(margin=0.04)], differences)
    (half,) = compare([comparison(margin=0.04)], differences, left_out=[6])
    assert whole.needed is not None
    assert half.needed == 2 * whole.needed


def test_a_claim_needs_the_pairs_of_its_least_decided_comparison(residual_study: Study, pairs) -> None:
    runs = pairs((0.05, -0.05, 0.04, -0.04, 0.03, 0.01))
    clear, open_ = comparison(margin=0.06), comparison(margin=0.03)
    (both,) = judge_study([claim(clear, open_)], residual_study, runs)
    needed = [one.needed for one in both.comparisons]
    assert None not in needed
    assert needed[0] < needed[1] == both.seeds_needed
    (other_order,) = judge_study([claim(open_, clear)], residual_study, runs)
    assert other_order.seeds_needed == both.seeds_needed


def test_no_verdict_with_five_pairs(residual_study: Study, pairs, make_run) -> None:
    runs = [*pairs(SIX[:5]), make_run("with", 5, [0.3, 0.5]), make_run("without", 5, status="failed")]
    (verdict,) = judge_study([claim()], residual_study, runs)
    (one,) = verdict.comparisons
    assert (verdict.verdict, verdict.reason) == ("inconclusive", "5 pairs; a verdict needs 6")
    assert one.low > 0
    assert verdict.n_missing == 1
    assert verdict.core_hours == pytest.approx(10 * CORE_HOURS)  # of the pairs alone
    assert verdict.seeds_needed == 6
    assert verdict.core_hours_needed == pytest.approx(CORE_HOURS)  # of the arm that lacks one


@pytest.mark.parametrize(("n", "reason"), [(0, "no pair of results yet"), (1, "1 pair; a verdict ")])
def test_no_variance_no_forecast(n: int, reason: str, residual_study: Study, pairs) -> None:
    (verdict,) = judge_study([claim()], residual_study, pairs(SIX[:n]))
    assert verdict.verdict == "inconclusive"
    assert verdict.reason.startswith(reason)
    assert (verdict.seeds_needed, verdict.core_hours_needed) == (None, None)
    assert math.isnan(verdict.comparisons[0].low)
    assert math.isnan(verdict.comparisons[0].p)


def test_equal_differences_are_decided_by_the_exact_test(residual_study: Study, pairs) -> None:
    def judged(direction: str, margin: float, difference: float, n: int, alpha: float = 0.05) -> list[str]:
        one = claim(comparison(direction, margin))
        (verdict,) = judge_study([one], residual_study, pairs([difference] * n), alpha=alpha)
        return [verdict.verdict, verdict.reason]

    assert judged("higher", 0.01, 0.02, 6) == ["holds", ""]
    assert judged("higher", 0.03, 0.02, 6) == ["contradicted", ""]
    assert judged("lower", 0.01, 0.02, 6) == ["contradicted", ""]
    assert judged("no_difference", 0.03, 0.02, 6) == ["holds", ""]
    few = "all differences are equal, and 6 pairs are too few for the exact test"
    assert judged("higher", 0.01, 0.02, 6, alpha=0.025) == ["inconclusive", few]
    assert judged("higher", 0.01, 0.02, 7, alpha=0.025) == ["holds", ""]
    (verdict,) = judge_study([claim()], residual_study, pairs([0.02] * 6), alpha=0.025)
    assert verdict.seeds_needed == 7
    (one,) = judge_study([claim()], residual_study, pairs([0.02] * 6))[0].comparisons
    assert one.reason == "all differences are equal: by the exact test"
    assert math.isnan(one.low)
    assert math.isnan(one.p)


@pytest.mark.parametrize("direction", ["higher", "lower", "no_difference"])
def test_differences_of_zero_decide_nothing(direction: str, residual_study: Study, pairs) -> None:
    (verdict,) = judge_study([claim(comparison(direction))], residual_study, pairs([0.0] * 8))
    assert (verdict.verdict, verdict.seeds_needed) == ("inconclusive", None)
    assert verdict.reason == "all differences are zero, which decides nothing"


CHANCE = 0.1
"""Of the study's ten classes; five points from it count as near."""


@pytest.fixture
def failing(make_run, pairs) -> Callable[..., list[StudyRun]]:
    """Runs as of `pairs`, but some seeds of an arm end near chance in validation, or diverge."""

    def make(differences: Sequence[float], arm: str, near: Sequence[int], diverged: Sequence[int] = ()):
        runs = [run for run in pairs(differences) if run.arm != arm or run.seed not in (*near, *diverged)]
        runs += [make_run(arm, seed, [0.1, CHANCE + 0.049], 0.12) for seed in near]
        return runs + [make_run(arm, seed, [], status="diverged") for seed in diverged]

    return make


def test_verdicts_are_about_the_seeds_that_learned(residual_study: Study, failing) -> None:
    eight = (*SIX, 0.035, 0.03)
    faster = claim(comparison("lower", 0.05, "steps_to_target"), name="faster")
    runs = failing(eight, "without", near=[6], diverged=[7])
    final, speed = judge_study([claim(), faster], residual_study, runs)
    (one,) = final.comparisons
    assert (final.n_failed_to_learn, final.n_diverged, final.n_missing) == (2, 1, 0)
    assert (final.verdict, one.n, one.left_out) == ("holds", 6, 2)
    assert one.estimate == pytest.approx(np.mean(SIX))  # and not 0.5 from those at chance
    assert speed.comparisons[0].left_out == 2


def test_five_seeds_that_learned_decide_nothing(residual_study: Study, failing) -> None:
    (verdict,) = judge_study([claim()], residual_study, failing(SIX, "with", near=[0]))
    assert (verdict.verdict, verdict.comparisons[0].n) == ("inconclusive", 5)
    assert verdict.reason == "5 pairs; a verdict needs 6; an arm failed to learn in 1 more"
    (verdict,) = judge_study([claim()], residual_study, failing(SIX, "with", near=range(6)))
    assert verdict.reason == "an arm failed to learn in each of 6 pairs"


def test_a_run_a_little_farther_from_chance_learned(residual_study: Study, make_run, pairs) -> None:
    runs = [run for run in pairs(SIX) if run.arm == "with" or run.seed > 0]
    runs.append(make_run("without", 0, [0.1, CHANCE + 0.051], 0.16))
    assert judge_study([claim()], residual_study, runs)[0].comparisons[0].n == 6


@pytest.mark.parametrize(
    ("direction", "margin", "near", "verdict"),
    [
        ("lower", 0.1, range(6), "holds"),  # six of ten seeds fail without: p = 2 / 2**6
        ("lower", 0.1, range(5), "inconclusive"),
        ("higher", 0.1, range(8), "contradicted"),
        ("no_difference", 0.1, [], "inconclusive"),  # ten seeds of which none fails say little
        ("no_difference", 0.4, [], "holds"),
        ("lower", 0.4, [], "contradicted"),
    ],
)
def test_a_claim_on_failures_is_judged_by_the_exact_paired_test(
    direction: str, margin: float, near: Sequence[int], verdict: str, residual_study: Study, failing
) -> None:
    failures = claim(comparison(direction, margin, "failed_to_learn"))
    (found,) = judge_study([failures], residual_study, failing([0.03] * 10, "without", near))
    (one,) = found.comparisons
    assert (found.verdict, one.n, one.left_out) == (verdict, 10, 0)
    assert one.estimate == pytest.approx(-len(near) / 10)
    if direction == "lower" and near:
        assert one.p == pytest.approx(stats.binomtest(0, len(near), 0.5).pvalue)
    assert one.low <= one.estimate <= one.high


def test_a_contrast_of_four_arms(residual_study: Study, make_run) -> None:
    names = ("a", "b", "c", "d")
    arms = tuple(Arm(name, name, {"residual": name}, "") for name in names)
    study = replace(residual_study, arms=arms, baseline="a")
    luck = np.random.default_rng(0).normal(0, 0.1, 6)  # what a seed's arms share falls out
    runs = [
        make_run(name, seed, [0.5], 0.5 + luck[seed] + 0.01 * place * (seed + 1))
        for place, name in enumerate(names)
        for seed in range(6)
    ]
    interaction = Comparison({"d": 1, "c": -1, "b": -1, "a": 1}, "test_top1", "higher", 0.01)
    slope = Comparison({"d": 1, "a": -1}, "test_top1", "higher", 0.01)
    none, verdict = judge_study([claim(interaction, name="none"), claim(slope, name="slope")], study, runs)
    assert none.reason == "all differences are zero, which decides nothing"  # and no noise of rounding
    np.testing.assert_allclose(verdict.comparisons[0].differences, 0.03 * np.arange(1, 7))
    assert none.core_hours == pytest.approx(24 * CORE_HOURS)
    assert verdict.core_hours == pytest.approx(12 * CORE_HOURS)


def test_claims_of_other_studies_and_untestable_ones(residual_study: Study, pairs) -> None:
    never = Claim("never", "It is.", "Me", "residual", (), "needs a year")
    verdicts = judge_study([claim(study="other", name="x"), never, claim()], residual_study, pairs(SIX))
    assert [(v.claim.id, v.verdict) for v in verdicts] == [("never", "not testable"), ("mine", "holds")]
    assert verdicts[0].reason == "needs a year"
    assert verdicts[1].comparisons[0].level == 0.05  # what is not compared does not count
    assert judge_study([], residual_study, pairs(SIX)) == []
    assert untestable(never, reason="not today").reason == "not today"


def test_a_claim_on_what_the_study_has_not(residual_study: Study, pairs) -> None:
    with pytest.raises(ValueError, match="metric=val_top5"):
        judge_study([claim(comparison(metric="val_top5"))], residual_study, pairs(SIX))
    other = Comparison({"other": 1.0, "with": -1.0}, "area", "higher", 0)
    with pytest.raises(ValueError, match="arm=other"):
        judge_study([claim(other)], residual_study, pairs(SIX))


def test_the_margin_and_the_mean_at_zero(residual_study: Study, pairs) -> None:
    balanced = (0.01, -0.01, 0.02, -0.02, 0.03, -0.03)
    (verdict,) = judge_study([claim(comparison(margin=0.0))], residual_study, pairs(balanced))
    assert (verdict.verdict, verdict.seeds_needed) == ("inconclusive", None)


def test_core_hours() -> None:
    record = {"wall_time_s": 1800, "device": {"threads": 4, "processes": 2}}
    assert core_hours(record) == 4
    assert core_hours(record | {"device": {"threads": 1}}) == 0.5  # before processes were recorded
    assert math.isnan(core_hours(record | {"wall_time_s": None}))
    assert math.isnan(core_hours(record | {"device": None}))


def test_a_run_of_unknown_cost_leaves_the_cost_unknown(residual_study: Study, pairs) -> None:
    runs = pairs((0.05, -0.05, 0.04, -0.04, 0.03, 0.01))
    assert runs[0].record is not None
    runs[0] = replace(runs[0], record={**runs[0].record, "wall_time_s": None})
    (verdict,) = judge_study([claim()], residual_study, runs)
    assert verdict.seeds_needed is not None
    assert (verdict.core_hours, verdict.core_hours_needed) == (None, None)


def test_wrong_verdicts_are_as_rare_as_promised() -> None:
    """Two comparisons without a difference, six pairs: one of them is decided in 5 % of the families."""
    generator = np.random.default_rng(0)
    family = [comparison(margin=0.0), comparison(margin=0.0)]
    wrong = 0
    for _ in range(500):
        differences = list(generator.normal(0, 0.02, (2, 6)))
        wrong += any(one.verdict != "inconclusive" for one in compare(family, differences, 0.05))
    assert 0.02 < wrong / 500 < 0.08  # a standard error of 1 %


def test_a_claim_on_an_arm_that_was_not_tuned_is_not_testable(tuned_study: Study, pairs) -> None:
    runs = pairs([0.1, 0.11, 0.12, 0.1, 0.09, 0.1])
    on_another = Claim(
        "other",
        "It is.",
        "Me",
        "residual",
        (Comparison({"with": 1.0, "matched": -1.0}, "area", "higher", 0.1),),
    )
    alone, left_out = judge_study([claim(), on_another], tuned_study, runs)
    assert (left_out.verdict, left_out.reason) == ("not testable", "not tuned: matched")
    assert alone == judge_study([claim()], tuned_study, runs)[0]  # it corrects nothing
    with pytest.raises(ValueError, match="arm=matched: must be one of"):
        judge_study([on_another], replace(tuned_study, tuning=None), runs)

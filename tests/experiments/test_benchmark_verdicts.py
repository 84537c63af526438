"""Claims about size and speed: counted from the configuration, read from the benchmark's table."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from ablations.evidence.claims import Claim, Comparison
from experiments.benchmark_verdicts import judge_benchmark
from experiments.study_file import project_claims

CONTROL, TREATMENT = "inception_v3_table3", "xception"


def claim(metric: str, direction: str, margin: float, name: str = "mine", **arms: str) -> Claim:
    contrast = {arms.get("treatment", TREATMENT): 1.0, arms.get("control", CONTROL): -1.0}
    return Claim(name, "It is.", "Me", "benchmark", (Comparison(contrast, metric, direction, margin),))


def write(results_dir: Path, ratios: Sequence[float]) -> None:
    """The benchmark's table: ratios as given in the setting that counts, others in the other."""
    rows = []
    for order, shift in (("contiguous", 3.0), ("channels-last", 0.0)):
        row = {"memory_order": order, "precision": "float32", "device_name": "Some CPU", "batch_size": 4}
        rows.append(row | {"model": CONTROL})
        rows.append(row | {"model": TREATMENT, "ratios": " ".join(str(ratio + shift) for ratio in ratios)})
    (results_dir / "tables").mkdir(parents=True)
    pd.DataFrame(rows).to_csv(results_dir / "tables/table03_size_and_speed.csv", index=False)


def spread(low: float, middle: float, high: float, rounds: int) -> list[float]:
    """Ratios of that range and median, not in order."""
    return [high, *[middle] * (rounds - 2), low]


def test_sizes_are_those_of_table_3(results_dir: Path) -> None:
    size, speed = judge_benchmark(project_claims(), results_dir)
    (one,) = size.comparisons
    assert one.estimate == pytest.approx(22_855_952 / 23_626_728 - 1, rel=1e-12)
    assert (one.low, one.high) == (one.estimate, one.estimate)
    assert (size.claim.id, size.verdict) == ("size", "holds")
    assert size.scale == "full size, 299x299 pixels, 1000 classes, counted"
    assert (speed.claim.id, speed.verdict) == ("speed", "not testable")
    assert speed.reason == "speed was not measured here yet: python -m ablations benchmark"


def test_sizes_by_every_direction(results_dir: Path) -> None:
    claims = [
        claim("parameters", "no_difference", 0.03, "equal"),
        claim("parameters", "lower", 0.03, "smaller"),
        claim("parameters", "higher", 0.03, "larger"),
    ]
    verdicts = [verdict.verdict for verdict in judge_benchmark(claims, results_dir)]
    assert verdicts == ["contradicted", "holds", "contradicted"]


@pytest.mark.parametrize(
    ("ratios", "rounds", "verdict", "needed"),
    [
        ((0.85, 0.9, 0.95), 6, "holds", None),
        ((1.05, 1.1, 1.2), 6, "contradicted", None),
        ((0.985, 0.99, 0.995), 6, "contradicted", None),  # slower, by less than 2 %
        ((0.9, 0.99, 1.01), 6, "undecided", None),
        ((0.85, 0.9, 0.95), 5, "undecided", 6),  # the range of five is a 93.75 % interval
    ],
)
def test_speed_by_the_range_of_six_rounds(
    ratios: tuple[float, float, float], rounds: int, verdict: str, needed: int | None, results_dir: Path
) -> None:
    write(results_dir, spread(*ratios, rounds))
    (found,) = judge_benchmark([claim("steps_per_second", "lower", 0.02)], results_dir)
    (one,) = found.comparisons
    assert (found.verdict, found.seeds_needed, one.n) == (verdict, needed, rounds)
    assert (one.low, one.estimate, one.high) == pytest.approx(tuple(ratio - 1 for ratio in ratios))
    assert 1 - one.level == pytest.approx(1 - 2 / 2**rounds)
    assert "training steps of 4 images" in found.scale
    assert found.scale.endswith("on Some CPU")


def test_more_rounds_narrow_the_interval(results_dir: Path) -> None:
    """Of twelve the third smallest to the third largest: one round that was disturbed does not count."""
    ratios = [0.88, 0.91, 0.9, 0.87, 0.92, 0.89, 0.9, 0.93, 0.86, 1.3, 0.9, 0.85]
    write(results_dir, ratios)
    (found,) = judge_benchmark([claim("steps_per_second", "lower", 0.02)], results_dir)
    (one,) = found.comparisons
    assert (found.verdict, one.n) == ("holds", 12)
    assert (one.low, one.estimate, one.high) == pytest.approx((-0.13, -0.1, -0.08))
    assert one.level == pytest.approx(2 * (1 + 12 + 66) / 2**12)


def test_speeds_share_the_level_and_sizes_do_not(results_dir: Path) -> None:
    write(results_dir, spread(0.85, 0.9, 0.95, 6))
    claims = [
        claim("steps_per_second", "lower", 0.02, "absent", treatment="mobilenet"),
        claim("steps_per_second", "lower", 0.02, "a"),
        claim("parameters", "lower", 0.02, "size"),
    ]
    absent, a, size = judge_benchmark(claims, results_dir)
    assert absent.verdict == "not testable"
    assert "does not compare mobilenet, inception_v3_table3" in absent.reason
    assert (a.verdict, a.reason) == ("undecided", "6 rounds, where a verdict takes 7")  # level 0.05 / 2
    assert a.seeds_needed == 7
    assert size.verdict == "holds"


def test_what_the_table_does_not_have(results_dir: Path) -> None:
    write(results_dir, spread(0.85, 0.9, 0.95, 6))
    other = claim("steps_per_second", "lower", 0.02, treatment=CONTROL, control=TREATMENT)
    (found,) = judge_benchmark([other], results_dir)
    assert found.verdict == "not testable"  # ratios are to the first network alone
    path = results_dir / "tables/table03_size_and_speed.csv"
    pd.read_csv(path).drop(columns="ratios").to_csv(path, index=False)
    (found,) = judge_benchmark([claim("steps_per_second", "lower", 0.02)], results_dir)
    assert found.verdict == "not testable"  # of a version that did not write them


def test_untestable_and_foreign_claims(results_dir: Path) -> None:
    never = Claim("never", "It is.", "Me", "benchmark", (), "no such GPU")
    foreign = Claim("foreign", "It is.", "Me", "residual", (), "x")
    (found,) = judge_benchmark([never, foreign], results_dir)
    assert (found.claim.id, found.verdict, found.reason) == ("never", "not testable", "no such GPU")

"""Claims about table 3: size and speed of networks at the paper's scale, as shares of another network's.

Sizes are counted from the configuration as `python -m ablations benchmark` builds the networks; a count has
no error, so that its interval is the count itself. Speeds are read from the table that this command wrote on
the machine it ran on: the ratio of the two networks' steps/second in each round. Two of these, as far from
the ends as the level allows, are an interval of the median ratio, whatever the distribution
(`ablations.statistics.paired.median_interval_rank`): six rounds are the fewest for 95 %, and more narrow it.
Each of m comparisons of speed is judged at alpha / m.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from ablations.evidence.claims import BENCHMARK, PARAMETERS, SETTING, Claim, Comparison
from ablations.evidence.contrasts import quantity_of
from ablations.evidence.verdicts import ALPHA, UNDECIDED, Compared, Verdict, combine, decide, untestable
from ablations.statistics.paired import median_interval_level, median_interval_rank
from ablations.text import amount

COLUMNS = {"model", "memory_order", "precision", "device_name", "batch_size", "ratios"}


def judge_benchmark(claims: Sequence[Claim], results_dir: Path, *, alpha: float = ALPHA) -> list[Verdict]:
    """Judge the claims of the benchmark.

    Args:
        claims: Any; those of studies are left out.
        results_dir: Where the benchmark wrote its table.
        alpha: The chance of a wrong decision among all comparisons of speed.

    Returns:
        A verdict per claim of the benchmark, in the order of `claims`.
    """
    own = [claim for claim in claims if claim.study == BENCHMARK]
    if not own:
        return []
    from experiments.benchmark import FILE_NAME  # imports torch, which verdicts on records do not need

    path = results_dir / "tables" / f"{FILE_NAME}.csv"
    speeds = _Speeds(pd.read_csv(path)) if path.is_file() else None
    models = {arm for claim in own for c in claim.comparisons if c.metric == PARAMETERS for arm in c.contrast}
    counts = _parameters(sorted(models))
    level = alpha / max(1, sum(c.metric != PARAMETERS for claim in own for c in claim.comparisons))
    verdicts = []
    for claim in own:
        if claim.not_testable is not None:
            verdicts.append(untestable(claim))
            continue
        timed = [c for c in claim.comparisons if c.metric != PARAMETERS]
        if timed and (reason := _why_no_speed(timed, speeds)):
            verdicts.append(untestable(claim, reason=reason))
            continue
        compared, scales = [], []
        for comparison in claim.comparisons:
            if comparison.metric == PARAMETERS:
                compared.append(_compared_size(comparison, counts))
                scales.append(f"{_networks()}, counted")
            else:
                assert speeds is not None
                compared.append(speeds.compared(comparison, level))
                scales.append(speeds.scale(comparison))
        verdict = combine([one.verdict for one in compared])
        needed = [one.needed for one in compared if one.verdict == UNDECIDED]
        reasons = dict.fromkeys(one.reason for one in compared if one.verdict == UNDECIDED)
        verdicts.append(
            Verdict(
                claim,
                verdict,
                "; ".join(reasons) if verdict == UNDECIDED else "",
                tuple(compared),
                "; ".join(dict.fromkeys(scales)),
                seeds_needed=None
                if verdict != UNDECIDED or None in needed
                else max(count for count in needed if count is not None),
            )
        )
    return verdicts


def _pair(comparison: Comparison) -> tuple[str, str]:
    """Treatment and control."""
    return (
        next(arm for arm, weight in comparison.contrast.items() if weight > 0),
        next(arm for arm, weight in comparison.contrast.items() if weight < 0),
    )


def _networks() -> str:
    from experiments.benchmark import Options

    return f"full size, {Options.image_size}x{Options.image_size} pixels, {Options.num_classes} classes"


def _parameters(models: Sequence[str]) -> dict[str, int]:
    from experiments.benchmark import Options, compose_networks
    from experiments.sizes.network_cost import count_parameters

    configurations = compose_networks(Options(models=tuple(models)))
    return {model: count_parameters(run.resolved["model"]) for model, run in configurations.items()}


def _compared_size(comparison: Comparison, counts: Mapping[str, int]) -> Compared:
    treatment, control = _pair(comparison)
    share = counts[treatment] / counts[control] - 1
    return Compared(
        comparison,
        decide(comparison.direction, comparison.margin, share, share, share),
        share,
        share,
        share,
        level=0.0,
        n=1,
        p=math.nan,
        needed=None,
        reason="counted, without error",
        differences=np.empty(0),
        quantity=quantity_of(comparison.metric),
    )


class _Speeds:
    """The benchmark's table as it was written."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.complete = set(table.columns) >= COLUMNS and len(table) > 0
        if self.complete:
            self.control = table["model"].iloc[0]  # ratios are to the first network
            in_setting = (table["memory_order"] == SETTING[0]) & (table["precision"] == SETTING[1])
            self.rows = table[in_setting].set_index("model")

    def has(self, comparison: Comparison) -> bool:
        treatment, control = _pair(comparison)
        return self.complete and control == self.control and treatment in self.rows.index

    def scale(self, comparison: Comparison) -> str:
        row = self.rows.loc[_pair(comparison)[0]]
        return (
            f"{_networks()}, training steps of {row['batch_size']} images, {SETTING[0]} memory, "
            f"{SETTING[1]}, on {row['device_name']}"
        )

    def compared(self, comparison: Comparison, level: float) -> Compared:
        row: Any = self.rows.loc[_pair(comparison)[0]]
        shares = sorted(float(ratio) - 1 for ratio in str(row["ratios"]).split())
        rounds, middle = len(shares), median(shares)
        # Too few for an interval of that level: the range is shown.
        rank = median_interval_rank(rounds, level)
        low, high = shares[max(rank, 1) - 1], shares[-max(rank, 1)]
        verdict, reason, needed = UNDECIDED, "", None
        if rank == 0:
            needed = math.ceil(math.log2(2 / level))
            reason = f"{amount(rounds, 'round')}, where a verdict takes {needed}"
        else:
            verdict = decide(comparison.direction, comparison.margin, low, middle, high)
            reason = "the interval of the rounds does not decide" if verdict == UNDECIDED else ""
        return Compared(
            comparison,
            verdict,
            middle,
            low,
            high,
            level=median_interval_level(rounds, max(rank, 1)),
            n=rounds,
            p=math.nan,
            needed=needed,
            reason=reason,
            differences=np.empty(0),
            quantity=quantity_of(comparison.metric),
        )


def _why_no_speed(timed: Sequence[Comparison], speeds: _Speeds | None) -> str:
    measure = "python -m ablations benchmark"
    if speeds is None:
        return f"speed was not measured here yet: {measure}"
    if not all(speeds.has(comparison) for comparison in timed):
        named = ", ".join(dict.fromkeys(arm for comparison in timed for arm in comparison.contrast))
        return f"the table of the benchmark does not compare {named} over rounds: {measure}"
    return ""

"""`seeds=auto`: adds seeds until the verdicts of a study are decided.

The first look is at six seeds per arm. Then arms of inconclusive comparisons get more seeds, until every
claim about the study is decided or the budget is spent. The error rate stays at 5 % of studies:
`ablations.statistics.sequential`.

- Seeds are 0, 1, 2, ..., so a study's own six are the first look.
- A look needs an outcome of each of its runs: completed, diverged or failed. A failed run leaves its pair
  out; the look keeps its level. By simulation, two of 20 pairs missing from the start raise 5 % to 5.5 %. The
  next command retries the failed run, which counts from its seed's look on.
- A decided comparison stays decided. A contradicted claim's other comparisons get no more seeds but still
  count in Holm's correction.
- Decisions are recomputed from records look by look, so the same records give the same decisions.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hydra.plugins.launcher import Launcher

from ablations.errors import RunsFailed, UserError
from ablations.evidence.claims import Claim
from ablations.evidence.contrasts import claims_about
from ablations.evidence.verdicts import ALPHA, INCONCLUSIVE, Compared, Verdict, combine, judge_study
from ablations.runs.records import DONE
from ablations.runs.schema import FAILED
from ablations.statistics.sequential import looks, t_levels
from ablations.studies.results import Study, StudyRun
from ablations.text import amount
from experiments.overrides import seed_budget, split_studies
from experiments.planned_run import PlannedRun
from experiments.planning import plan_study
from experiments.standing import standing
from experiments.study_file import project_claims
from experiments.sweep import bring_to_outcome, check_missing


@dataclass(frozen=True)
class JudgedByLooks:
    """The claims about a study after the looks so far.

    Attributes:
        news: Per look, what was decided: "residual-final holds".
        arms: Arms that need more seeds.
        verdicts: On every claim, as of the last look.
        notes: Method, looks, levels and seeds, for tables.
    """

    news: list[list[str]]
    arms: tuple[str, ...]
    verdicts: list[Verdict]
    notes: tuple[str, ...]


def sweep_auto_seeds(arguments: Sequence[str], launcher: Launcher) -> None:
    """Train until the verdicts of each study are decided; print a line per look.

    Raises:
        UserError: No study, a study without claims, or an invalid run; nothing was written.
        RunsFailed: Runs failed or were lost; looks continued as far as possible.
    """
    names, overrides = split_studies(arguments)
    if not names:
        raise UserError("seeds=auto: needs a study: add study=NAME")
    claims = project_claims()
    first = range(looks(_budget(overrides))[0])
    planned = [run for name in names for run in plan_study(name, overrides, auto_seeds=first)[1]]
    for name in names:
        if not any(claim.comparisons for claim in claims if (claim.study, claim.tuning) == (name, None)):
            raise UserError(f"seeds=auto: no claim compares arms of study={name}; add one to conf/claims")
    check_missing(planned)
    failures: list[str] = []

    def reach(runs: Sequence[PlannedRun]) -> None:
        try:
            bring_to_outcome(runs, launcher)
        except RunsFailed as failed:
            failures.append(str(failed))

    for name in names:
        follow_study(name, overrides, reach=reach, tell=lambda line: print(line, flush=True))
    if failures:
        raise RunsFailed("\n".join(failures))


def follow_study(
    name: str,
    overrides: Sequence[str],
    *,
    reach: Callable[[Sequence[PlannedRun]], None] = lambda runs: None,
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[Study, list[PlannedRun], list[StudyRun], list[str]]:
    """Take the looks of a study for which there are runs; Hydra must be initialized.

    `reach` trains the runs that a look adds; `tell` gets a line per look.

    Returns:
        The study with the last look's seeds and notes; the runs of all looks; their status; a line per
        unusable record.

    Raises:
        UserError: As `plan_study`.
    """
    budget, claims = _budget(overrides), project_claims()
    pairs = looks(budget)
    study, every = plan_study(name, overrides, auto_seeds=range(pairs[-1]))
    every.sort(key=lambda run: run.seed)  # an interrupted sweep leaves whole pairs
    planned: list[PlannedRun] = []
    arms = tuple(arm.name for arm in study.arms)
    for number, upto in enumerate(pairs, start=1):
        seeds = range(pairs[number - 2] if number > 1 else 0, upto)
        added = [run for run in every if run.seed in seeds and run.arm in arms]
        planned += added
        reach(added)
        runs, problems = standing(planned, [study.metric])
        study = replace(study, seeds=tuple(range(upto)))
        judged = judge_by_looks(claims, study, runs, budget)
        arms = judged.arms
        look = f"{name}: look {number} of {len(pairs)}, {amount(upto, 'seed')}"
        if len(judged.news) < number:
            tell(f"{look}: waiting for {waiting_for(runs)} of {amount(len(runs), 'run')}")
            break
        tell(f"{look}: {', '.join(judged.news[-1]) or 'nothing decided'}; {_outlook(arms, pairs[number:])}")
        if not arms:
            break
    return replace(study, notes=(*study.notes, *judged.notes)), planned, runs, problems


def waiting_for(runs: Sequence[StudyRun]) -> int:
    """The number of runs without an outcome, for which a look waits."""
    return sum(run.status not in (*DONE, FAILED) for run in runs)


def judge_by_looks(
    claims: Sequence[Claim], study: Study, runs: Sequence[StudyRun], budget: int
) -> JudgedByLooks:
    """Judge the claims about a study look by look, each by the runs of its seeds.

    Raises:
        ValueError: As `judge_study`, or the budget is below the first look.
    """
    judging = _Judging(claims_about(study, claims), looks(budget))
    ended = {(run.arm, run.seed) for run in runs if run.status in (*DONE, FAILED)}
    needed = tuple(arm.name for arm in study.arms)
    news = []
    for pairs in looks(budget):
        if not needed or not all((arm, seed) in ended for arm in needed for seed in range(pairs)):
            break
        news.append(judging.look(study, [run for run in runs if run.seed < pairs]))
        needed = judging.arms()
    return JudgedByLooks(news, needed, judging.verdicts(study, runs), judging.notes(study, runs))


class _Judging:
    """The state of the claims about a study; `pairs` of each look."""

    def __init__(self, claims: Sequence[Claim], pairs: Sequence[int]) -> None:
        self._claims = claims
        self._pairs = pairs
        self._taken = 0
        # Per claim, as of the last look at its open comparisons.
        self._compared: dict[str, list[Compared]] = {}
        self._last: dict[str, Verdict] = {}
        self._judged_with: dict[str, int] = {}  # pairs of that look
        self._decided_at: dict[tuple[str, int], int] = {}  # claim, index of the comparison -> pairs

    def arms(self) -> tuple[str, ...]:
        """The arms of the open comparisons of open claims, in their order."""
        left = [claim.comparisons[index] for claim in self._open() for index in self._left(claim)]
        return tuple(dict.fromkeys(arm for comparison in left for arm in comparison.contrast))

    def look(self, study: Study, runs: Sequence[StudyRun]) -> list[str]:
        """Judge open claims by the runs of the next look; returns the decided claims with their verdicts."""
        claims, number = self._open(), self._taken
        self._taken += 1
        left = {claim.id: self._left(claim) for claim in claims}
        given_up = sum(len(self._left(claim)) for claim in self._claims) - sum(map(len, left.values()))

        def nominal(level: float) -> float:
            # The level is alpha / (m - k); m also counts comparisons that were given up.
            return t_levels(self._pairs, 1 / (1 / level + given_up / ALPHA))[number]

        judged = [
            replace(claim, comparisons=tuple(claim.comparisons[index] for index in left[claim.id]))
            for claim in claims
        ]
        news = []
        for verdict in judge_study(judged, study, runs, nominal=nominal):
            name = verdict.claim.id
            self._last[name], self._judged_with[name] = verdict, self._pairs[number]
            compared = self._compared.setdefault(name, list(verdict.comparisons))
            for index, one in zip(left[name], verdict.comparisons, strict=True):
                compared[index] = one
                if one.verdict != INCONCLUSIVE:
                    self._decided_at[name, index] = self._pairs[number]
            if (found := combine([one.verdict for one in compared])) != INCONCLUSIVE:
                news.append(f"{name} {found}")
        return news

    def verdicts(self, study: Study, runs: Sequence[StudyRun]) -> list[Verdict]:
        """Every claim as of the last look at it."""
        found = []
        for claim in self._claims:
            name = claim.id
            upto = self._judged_with.get(name, self._pairs[0])
            (verdict,) = judge_study([claim], study, [run for run in runs if run.seed < upto])
            if name in self._last:
                decision = combine([one.verdict for one in self._compared[name]])
                last = replace(self._last[name], reason="") if decision != INCONCLUSIVE else self._last[name]
            else:
                decision, last = (
                    INCONCLUSIVE,
                    replace(verdict, reason="waiting for the runs of the first look"),
                )
            if verdict.claim.comparisons:
                verdict = replace(
                    verdict,
                    verdict=decision,
                    reason=last.reason,
                    comparisons=tuple(self._compared.get(name, ())),
                    seeds_needed=last.seeds_needed if decision == INCONCLUSIVE else None,
                    core_hours_needed=last.core_hours_needed if decision == INCONCLUSIVE else None,
                )
            found.append(verdict)
        return found

    def notes(self, study: Study, runs: Sequence[StudyRun]) -> tuple[str, ...]:
        ended = Counter(run.arm for run in runs if run.status in (*DONE, FAILED))
        seeds = [f"{arm.name} {ended[arm.name]}" for arm in study.arms]
        family = max(1, sum(len(claim.comparisons) for claim in self._claims))
        first, last = (
            ", ".join(f"{level:.2g}" for level in t_levels(self._pairs, alpha))
            for alpha in (ALPHA / family, ALPHA)
        )
        decided = []
        for (name, index), pairs in self._decided_at.items():
            one = self._compared[name][index]
            what = f"{name}, {one.comparison.label} in {one.comparison.metric}"
            decided.append(f"{what}: at {pairs} (level {one.level:.2g})")
        return (
            f"Seeds of study {study.name}: added until its claims were decided (seeds=auto), at most "
            f"{self._pairs[-1]} per arm; looks at {', '.join(map(str, self._pairs))} seeds, of which the "
            f"first {self._taken} took place. Seeds run per arm: {', '.join(seeds)}.",
            "Method: group-sequential intervals. A comparison's level is spent over the looks in the "
            "manner of Pocock (Lan and DeMets 1983), exactly for normal differences of unknown variance. "
            "Each of Holm's levels is spent this way, and a decided comparison stays decided (Ye, Li, Liu "
            "and Yao 2013; Maurer and Bretz 2013). Two-sided levels, look by look, of the first of "
            f"{family} comparisons: {first}; of the last: {last}. A seed whose run failed leaves its pair "
            "out.",
            f"Decided at: {'; '.join(decided) or 'nothing'}. Intervals and p that are not "
            "from verdicts do not account for the looks.",
        )

    def _open(self) -> list[Claim]:
        return [
            claim
            for claim in self._claims
            if claim.comparisons
            and combine([one.verdict for one in self._compared.get(claim.id, ())]) == INCONCLUSIVE
        ]

    def _left(self, claim: Claim) -> list[int]:
        """Indices of its comparisons that are inconclusive."""
        return [index for index in range(len(claim.comparisons)) if (claim.id, index) not in self._decided_at]


def _budget(overrides: Sequence[str]) -> int:
    budget = seed_budget(overrides)
    assert budget is not None, "seeds=auto"
    return budget


def _outlook(arms: Sequence[str], following: Sequence[int]) -> str:
    if not arms:
        return "all is decided"
    if not following:
        return "the budget is spent"
    return f"continues to {amount(following[0], 'seed')} of {', '.join(arms)}"

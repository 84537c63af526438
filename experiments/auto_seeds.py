"""`seeds=auto`: as many seeds as the verdicts of a study need, and no more.

The first look is at six seeds of every arm. Whatever is inconclusive then gets the next look's seeds, and
only the arms that it compares, until every claim about the study is decided or the budget is spent. How often
one may look so and still be wrong in 5 % of all studies at most: `ablations.statistics.sequential`.

- Seeds are 0, 1, 2, ..., so a study's own six are the first look, and nothing is trained twice.
- A look takes place when each of its runs is completed, diverged or failed. A diverged run is an outcome. A
  failed one leaves its pair out: the interval has fewer degrees of freedom, the look its planned level;
  two of 20 pairs missing from the start raise 5 % to 5.5 % by simulation. The next command tries it
  again, and what comes of it counts from the look of its seed on.
- A comparison that is decided stays as it was at that look. So do those that are left of a claim which one
  comparison contradicts: no seed is added for them, and they go on counting in Holm's correction.
- Nothing is stored but the records of the runs: decisions are taken anew from them, look by look, each from
  its own seeds alone. So the same records have the same looks and decisions, whoever reads them and whenever.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hydra.plugins.launcher import Launcher

from ablations.errors import RunsFailed, UserError
from ablations.evidence.claims import Claim
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
    """The claims about a study, as far as its looks have come.

    Attributes:
        news: What was decided at each look that took place, "residual-final holds", a list per look.
        arms: Those that the next look needs seeds of; empty where all is decided.
        verdicts: On every claim, as of the last look that took place.
        notes: Method, looks, levels and seeds, for tables.
    """

    news: list[list[str]]
    arms: tuple[str, ...]
    verdicts: list[Verdict]
    notes: tuple[str, ...]


def sweep_auto_seeds(arguments: Sequence[str], launcher: Launcher) -> None:
    """Train what the verdicts of studies need, one study after the other, a line per look.

    Args:
        arguments: As on the command line, with seeds=auto.
        launcher: Hydra's.

    Raises:
        UserError: No study, one without a claim that its runs could decide, or a run that cannot be as it is
            configured; nothing was written.
        RunsFailed: Runs failed or were lost; the looks went on as far as they could.
    """
    names, overrides = split_studies(arguments)
    if not names:
        raise UserError("seeds=auto: needs a study: study=NAME")
    claims = project_claims()
    first = range(looks(_budget(overrides))[0])
    planned = [run for name in names for run in plan_study(name, overrides, auto_seeds=first)[1]]
    for name in names:
        if not any(claim.comparisons for claim in claims if claim.study == name):
            raise UserError(f"seeds=auto: no claim in conf/claims compares arms of study={name}")
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
    """Take the looks of a study, as far as there are runs; Hydra must be initialized.

    Args:
        name: Of the file in conf/study.
        overrides: What the user sets with it, with seeds=auto.
        reach: Brings the runs that a look adds to an outcome; by default what is not there stays missing.
        tell: Is told every look in a line.

    Returns:
        The study with the last look's seeds and notes on the looks; the runs of all looks, the one under
        way included; how they stand; a line per record that cannot be used.

    Raises:
        UserError: As `plan_study`.
    """
    budget, claims = _budget(overrides), project_claims()
    pairs = looks(budget)
    planned: list[PlannedRun] = []
    arms: tuple[str, ...] | None = None  # all
    for number, upto in enumerate(pairs, start=1):
        seeds = range(pairs[number - 2] if number > 1 else 0, upto)
        study, added = plan_study(name, overrides, auto_seeds=seeds)
        added = [run for run in added if arms is None or run.arm in arms]
        added.sort(key=lambda run: run.seed)  # as a sweep: one that is cut short leaves whole pairs
        planned += added
        reach(added)
        runs, problems = standing(planned, [study.metric])
        study = replace(study, seeds=tuple(range(upto)))
        judged = judge_by_looks(claims, study, runs, budget)
        arms = judged.arms
        look = f"{name}: look {number} of {len(pairs)}, {amount(upto, 'seed')}"
        if len(judged.news) < number:
            waiting = sum(run.status not in (*DONE, FAILED) for run in runs)
            tell(f"{look}: not taken, {waiting} of {amount(len(runs), 'run')} without an outcome")
            break
        tell(f"{look}: {', '.join(judged.news[-1]) or 'nothing decided'}; {_outlook(arms, pairs[number:])}")
        if not arms:
            break
    return replace(study, notes=(*study.notes, *judged.notes)), planned, runs, problems


def judge_by_looks(
    claims: Sequence[Claim], study: Study, runs: Sequence[StudyRun], budget: int
) -> JudgedByLooks:
    """Judge the claims about a study look by look, each by the runs of its own seeds alone.

    Args:
        claims: Any; those of other studies are left out.
        study: The study.
        runs: Of seeds 0, 1, 2, ... of each arm, as many as there are.
        budget: The largest number of seeds per arm.

    Raises:
        ValueError: As `judge_study`, or a budget below the first look.
    """
    judging = _Judging([claim for claim in claims if claim.study == study.name], looks(budget))
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
    """The claims about a study in the course of its looks.

    Args:
        claims: Those about the study.
        pairs: Of each look.
    """

    def __init__(self, claims: Sequence[Claim], pairs: Sequence[int]) -> None:
        self._claims = claims
        self._pairs = pairs
        self._taken = 0
        # Per claim, as of the last look that judged it; the verdict is of what was left of it then.
        self._compared: dict[str, list[Compared]] = {}
        self._last: dict[str, Verdict] = {}
        self._judged_with: dict[str, int] = {}  # pairs of that look
        self._decided_at: dict[tuple[str, int], int] = {}  # claim and place of the comparison -> pairs

    def arms(self) -> tuple[str, ...]:
        """The arms of inconclusive comparisons of inconclusive claims, in their order."""
        left = [claim.comparisons[place] for claim in self._open() for place in self._left(claim)]
        return tuple(dict.fromkeys(arm for comparison in left for arm in comparison.contrast))

    def look(self, study: Study, runs: Sequence[StudyRun]) -> list[str]:
        """Judge what is open by the runs of the next look.

        Returns:
            The claims that were decided, with their verdicts.
        """
        claims, number = self._open(), self._taken
        self._taken += 1
        left = {claim.id: self._left(claim) for claim in claims}
        given_up = sum(len(self._left(claim)) for claim in self._claims) - sum(map(len, left.values()))

        def nominal(level: float) -> float:
            # From alpha / (m - k) with the m that are judged to the same with what was given up among them.
            return t_levels(self._pairs, 1 / (1 / level + given_up / ALPHA))[number]

        judged = [
            replace(claim, comparisons=tuple(claim.comparisons[place] for place in left[claim.id]))
            for claim in claims
        ]
        news = []
        for verdict in judge_study(judged, study, runs, nominal=nominal):
            name = verdict.claim.id
            self._last[name], self._judged_with[name] = verdict, self._pairs[number]
            compared = self._compared.setdefault(name, list(verdict.comparisons))
            for place, one in zip(left[name], verdict.comparisons, strict=True):
                compared[place] = one
                if one.verdict != INCONCLUSIVE:
                    self._decided_at[name, place] = self._pairs[number]
            if (found := combine([one.verdict for one in compared])) != INCONCLUSIVE:
                news.append(f"{name} {found}")
        return news

    def verdicts(self, study: Study, runs: Sequence[StudyRun]) -> list[Verdict]:
        """On every claim, as of the last look that judged it: its decision, its runs and their cost."""
        found = []
        for claim in self._claims:
            name = claim.id
            upto = self._judged_with.get(name, self._pairs[0])
            (verdict,) = judge_study([claim], study, [run for run in runs if run.seed < upto])
            if name in self._last:
                decision = combine([one.verdict for one in self._compared[name]])
                last = replace(self._last[name], reason="") if decision != INCONCLUSIVE else self._last[name]
            else:
                decision, last = INCONCLUSIVE, replace(verdict, reason="the first look has not taken place")
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
        """Method, looks, levels and seeds."""
        ended = Counter(run.arm for run in runs if run.status in (*DONE, FAILED))
        seeds = [f"{arm.name} {ended[arm.name]}" for arm in study.arms]
        family = max(1, sum(len(claim.comparisons) for claim in self._claims))
        first, last = (
            ", ".join(f"{level:.2g}" for level in t_levels(self._pairs, alpha))
            for alpha in (ALPHA / family, ALPHA)
        )
        decided = []
        for (name, place), pairs in self._decided_at.items():
            one = self._compared[name][place]
            what = f"{name}, {one.comparison.label} in {one.comparison.metric}"
            decided.append(f"{what}: at {pairs} (level {one.level:.2g})")
        return (
            f"Seeds of study {study.name}: added until its claims were decided (seeds=auto), at most "
            f"{self._pairs[-1]} per arm; looks at {', '.join(map(str, self._pairs))} seeds, of which the "
            f"first {self._taken} took place. Seeds run per arm: {', '.join(seeds)}.",
            "Method: group-sequential t intervals. A comparison's level is spent over the looks in the "
            "manner of Pocock (Lan and DeMets 1983), exactly for normal differences of unknown variance. "
            "Holm's levels are spent in that way each, and a comparison stays as decided (Ye, Li, Liu and "
            "Yao 2013; Maurer and Bretz 2013). Two-sided levels, look by look, of the first of "
            f"{family} comparisons: {first}; of the last: {last}. A seed whose run failed leaves its pair "
            "out.",
            f"Decided, at how many seeds: {'; '.join(decided) or 'nothing'}. Intervals and p that are not "
            "those of verdicts take no account of the looks.",
        )

    def _open(self) -> list[Claim]:
        """The claims that no look has decided."""
        return [
            claim
            for claim in self._claims
            if claim.comparisons
            and combine([one.verdict for one in self._compared.get(claim.id, ())]) == INCONCLUSIVE
        ]

    def _left(self, claim: Claim) -> list[int]:
        """Places of its comparisons that are inconclusive."""
        return [place for place in range(len(claim.comparisons)) if (claim.id, place) not in self._decided_at]


def _budget(overrides: Sequence[str]) -> int:
    budget = seed_budget(overrides)
    assert budget is not None, "seeds=auto"
    return budget


def _outlook(arms: Sequence[str], following: Sequence[int]) -> str:
    if not arms:
        return "all is decided"
    return f"next {amount(following[0], 'seed')} of {', '.join(arms)}" if following else "the budget is spent"

"""Read what a command names: studies with their runs, claims with verdicts."""

import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from ablations.errors import UserError, did_you_mean
from ablations.lazily import lazily
from ablations.runs.schema import COMPLETED
from ablations.studies.results import CONFIGURED
from ablations.text import amount
from experiments.configuration import parse_override
from experiments.overrides import (
    AUTO_KEYS,
    output_suffix,
    seed_budget,
    studies_suffix,
    sweeps_choices,
    tuning_option,
)
from experiments.project import current

with lazily():
    from ablations.evidence import claims as claiming
    from ablations.evidence import timings as timing_records
    from ablations.evidence import verdicts as judging
    from experiments import auto_seeds, check, plan, planning, standing, study_file

if TYPE_CHECKING:
    from ablations.evidence.claims import Claim
    from ablations.evidence.verdicts import Judged, Verdict
    from ablations.studies.results import Study, StudyRun
    from experiments.planned_run import PlannedRun


def names_and_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    return [word for word in words if "=" not in word], [word for word in words if "=" in word]


def require_known(names: Sequence[str], known: Sequence[str], others: Collection[str] = ()) -> None:
    """Require known names.

    Raises:
        UserError: One is not.
    """
    for name in names:
        if name not in known:
            near = did_you_mean(name, [*known, *others])
            raise UserError(f"study={name}: no such study; available: {', '.join(known)}{near}")


def results_folder(overrides: Sequence[str], *, may_be_new: bool = False) -> Path:
    """The results folder.

    Raises:
        UserError: A named folder does not exist.
    """
    with planning.hydra_configuration():
        folder = planning.compose_runs(_folders(overrides))[0].results_dir
    if not may_be_new:
        _require_there(folder, overrides)
    return folder


def _folders(overrides: Sequence[str]) -> list[str]:
    return [word for word in overrides if word.partition("=")[0] == "results_dir"]


def _require_there(folder: Path, overrides: Sequence[str]) -> None:
    # The project's own folder need not exist before any training.
    if _folders(overrides) and not folder.exists():
        raise UserError(f"results_dir={folder}: no such folder; name one with runs")


def title_of(overrides: Sequence[str]) -> str:
    """The project's name in titles, unless an override sets another."""
    parsed = [override for word in overrides if (override := parse_override(word))]
    typed = [str(override.value()) for override in parsed if override.key_or_group == "project"]
    return typed[-1] if typed else current().name


def load_studies(
    names: Sequence[str], overrides: Sequence[str], *, asked: bool = False
) -> "list[tuple[Study, list[StudyRun], Path]]":
    """Plan studies and read the status of their runs; name unreadable records on stderr.

    If the user `asked` for these studies, say which of them have no runs with these settings, or with
    seeds=auto which look lacks runs.

    Without names: the swept choices as a study, or else all studies except those marked only_by_name.

    Returns:
        Study, runs and results folder, per study.

    Raises:
        UserError: A study or the named results folder does not exist.
    """
    known = study_file.study_names()
    require_known(names, known)
    loaded = []
    swept = not names and sweeps_choices(overrides)
    if swept and seed_budget(overrides) is not None:
        raise UserError("seeds=auto: needs a study; name one")
    looks: list[str] = []
    with planning.hydra_configuration():
        for name in [None] if swept else names or study_file.study_names(unasked=True):
            if name is None or seed_budget(overrides) is None:
                study, planned = (
                    plan.plan_choices(overrides) if name is None else plan.plan_named(name, overrides)
                )
                runs, problems = standing.standing(planned, [study.metric])
            else:
                study, planned, runs, problems = auto_seeds.follow_study(name, overrides, tell=looks.append)
            results_dir = planned[0].configuration.results_dir
            _require_there(results_dir, overrides)
            if len(_folders(overrides)) < len(overrides):
                _check_planned(planned)  # else all would be missing
            nothing = not problems and not any(run.record for run in runs)
            if (asked or swept) and nothing and any(results_dir.glob("runs/*/record.json")):
                told = f"{study.name}: 0 of {amount(len(planned), 'run')} completed"
                problems = [f"{told}; if you trained with overrides, pass them here too"]
            elif asked and looks and auto_seeds.waiting_for(runs):
                problems.append(f"{looks[-1]}; verdicts are without it")
            for problem in problems:
                print(problem, file=sys.stderr)
            loaded.append((study, runs, results_dir))
    return loaded


def _check_planned(planned: "Sequence[PlannedRun]") -> None:
    """Check the planned values, as training does."""
    for run in {run.seed: run for run in planned}.values():
        check.check_seed(run.configuration)
    for run in {run.arm: run for run in planned}.values():
        check.check_values(run.configuration)


def judge(
    names: Sequence[str], overrides: Sequence[str], more: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> "Judged":
    """Judge the claims about these studies, or the benchmark; without names, every claim.

    `more`: further overrides of single studies, by name.

    Raises:
        UserError: An unknown study, overrides with the benchmark, or unreadable results.
    """
    if not names and sweeps_choices(overrides):
        raise UserError("claims are about studies: name one; for a sweep, see its table")
    changes = output_suffix(overrides)
    if changes and claiming.BENCHMARK in names:
        raise UserError(f"{claiming.BENCHMARK}: takes no overrides except results_dir=")
    require_known(names, [*study_file.study_names(), claiming.BENCHMARK])
    claims = study_file.project_claims()
    asked = [
        claim
        for claim in claims
        if (claim.study in names if names else not (changes and claim.study == claiming.BENCHMARK))
    ]
    of_tuned = [] if tuning_option(overrides) else [claim for claim in asked if claim.tuning is not None]
    of_studies = {claim.study for claim in asked if claim not in of_tuned} - {None, claiming.BENCHMARK}
    chosen = [name for name in study_file.study_names() if name in of_studies]
    loaded = [
        one
        for name in chosen
        for one in load_studies([name], [*overrides, *more.get(name, ())], asked=bool(names))
    ]
    studies = [(study, runs) for study, runs, _ in loaded]
    results_dir = loaded[0][2] if loaded else results_folder(overrides)
    found = []
    for study, runs in studies:
        budget = seed_budget([*overrides, *more.get(study.name, ())])
        found += (
            judging.judge_study(asked, study, runs)
            if budget is None
            else auto_seeds.judge_by_looks(asked, study, runs, budget).verdicts
        )
    for tuned in tuned_parts(of_tuned):
        of_part, tuned_study = _judge_tuned(tuned, claims, overrides)
        found += of_part
        studies += tuned_study
    if timed := [claim for claim in asked if claim.study == claiming.BENCHMARK]:
        studies.append(
            timing_records.benchmark_study(
                results_dir, planning.project_benchmark(), [arm for claim in timed for arm in claim.arms]
            )
        )
        found += judging.judge_study(timed, *studies[-1])
    found += [judging.untestable(claim) for claim in asked if claim.study is None]
    by_id = {verdict.claim.id: verdict for verdict in found}
    verdicts = tuple(by_id[claim.id] for claim in asked)
    return judging.Judged(
        verdicts, tuple(claims), tuple(studies), results_dir, studies_suffix(names) + changes
    )


def _judge_tuned(
    tuned: "Sequence[Claim]", claims: "Sequence[Claim]", overrides: Sequence[str]
) -> "tuple[list[Verdict], list[tuple[Study, list[StudyRun]]]]":
    """Judge the claims about a tuned study; its runs are returned too, unless they cannot be loaded."""
    try:
        study, runs, _ = load_tuned(tuned, overrides)
    except UserError as error:  # no Optuna, or unfinished trials
        return [judging.untestable(claim, reason=str(error)) for claim in tuned], []
    judged = judging.judge_study(tuned_family(tuned, claims), study, runs)
    return [verdict for verdict in judged if verdict.claim.tuning is not None], [(study, runs)]


def tuned_parts(claims: "Sequence[Claim]") -> "list[list[Claim]]":
    """The claims about tuned arms, grouped by tuned study."""
    parts: dict[tuple[str | None, str | None], list[Claim]] = {}
    for claim in claims:
        if claim.tuning is not None:
            parts.setdefault((claim.study, claim.tuning), []).append(claim)
    return list(parts.values())


def tuned_family(tuned: "Sequence[Claim]", claims: "Sequence[Claim]") -> "list[Claim]":
    """Claims about a tuned study with the others about its arms, so that the correction is as with tuning=
    named.
    """
    return [claim for claim in claims if claim.tuning in (None, tuned[0].tuning)]


def load_tuned(claims: "Sequence[Claim]", overrides: Sequence[str]) -> "tuple[Study, list[StudyRun], Path]":
    """The tuned study that claims are about, with the seeds of its tuning.

    Raises:
        UserError: As `load_studies`, or it was not tuned.
    """
    named = dict.fromkeys(arm.removesuffix(CONFIGURED) for claim in claims for arm in claim.arms)
    words = [word for word in overrides if word.partition("=")[0] not in ("seed", *AUTO_KEYS)]
    words.append(f"tuning={claims[0].tuning}")
    if named:  # a trend names no arms and needs all
        words.append(f"tuning.arms=[{','.join(named)}]")
    (loaded,) = load_studies([str(claims[0].study)], words)
    return loaded


def judged_studies(
    names: Sequence[str], overrides: Sequence[str], more: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> "tuple[Judged, list[tuple[Study, Sequence[StudyRun]]]]":
    """The verdicts, and the studies with their runs, including those without claims.

    Without names: all studies, but those marked only_by_name only if they have claims and are complete.
    `more`: as `judge`.

    Raises:
        UserError: As `judge`.
    """
    if not names and sweeps_choices(overrides):
        ((study, runs, results_dir),) = load_studies(names, overrides)
        return judging.Judged((), (), (), results_dir, f"__{study.output}"), [(study, runs)]
    judged = judge(names, overrides, more)
    tuned = tuning_option(overrides) is not None
    have: dict[str, tuple[Study, Sequence[StudyRun]]] = {
        study.name: (study, runs) for study, runs in judged.studies if tuned or study.tuning is None
    }
    known = study_file.study_names()
    complete = [name for name, (_, runs) in have.items() if all(run.status == COMPLETED for run in runs)]
    wanted = [name for name in known if name in (names or [*study_file.study_names(unasked=True), *complete])]
    if others := [name for name in wanted if name not in have]:
        loaded = load_studies(others, overrides, asked=bool(names))
        have |= {study.name: (study, runs) for study, runs, _ in loaded}
    return judged, [have[name] for name in wanted]

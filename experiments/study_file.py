"""Finds studies and checks that the project has their options; the schema is `ablations.studies.schema`."""

from collections.abc import Mapping
from typing import Any

from ablations.errors import UserError
from ablations.evidence.claims import BENCHMARK, PARAMETERS, STEPS_PER_SECOND, Claim, Comparable, load_claims
from ablations.lazily import lazily
from ablations.studies.schema import STUDY, STUDY_FILES, StudyFile
from ablations.validation import validated
from experiments.configuration import option_name
from experiments.project import current, load_yaml

with lazily():
    from ablations.evidence import contrasts

WORDS_OF_BOOLEANS = {True: ("on", "yes"), False: ("off", "no")}
"""What YAML 1.1 reads as booleans, in addition to true and false."""


def study_names(*, unasked: bool = False) -> list[str]:
    """All studies, ordered by output (the paper's figures); `unasked` leaves out those `only_by_name`."""
    files = {
        file.stem: validated(STUDY_FILES, load_yaml(file), f"conf/study/{file.name}")
        for file in current().own_files("study")
    }
    first_with: dict[str, str] = {}
    for name, study in files.items():
        if (other := first_with.setdefault(study.output, name)) != name:
            raise UserError(
                f"conf/study/{name}.yaml: output={study.output}: conf/study/{other}.yaml has the same, so "
                "one would overwrite the other's files; change one"
            )
    names = [name for name, study in files.items() if not (unasked and study.only_by_name)]
    return sorted(names, key=lambda name: files[name].output)


def comparable_studies() -> dict[str, Comparable]:
    """Arms and quantities of the project's studies and of the benchmark."""
    found = {}
    for file in current().own_files("study"):
        study = validated(STUDY, load_yaml(file), f"conf/study/{file.name}", context=_context())
        arms = tuple(arm.name for arm in study.arms)
        lines = study.factors[study.design.lines].levels if study.factors and study.design else ()
        found[file.stem] = Comparable(arms, tuple(contrasts.quantities(study.metrics)), tuple(lines))
    models = tuple(current().options("model"))
    return found | {BENCHMARK: Comparable(models, (PARAMETERS, STEPS_PER_SECOND))}


def project_claims() -> list[Claim]:
    """The claims of the project; UserError as `load_claims`."""
    return load_claims(current().own_files("claims"), comparable_studies(), current().options("tuning"))


def _context() -> dict[str, Any]:
    return {"declared": current().metrics()}


def check_study(name: str, node: Mapping[Any, Any]) -> StudyFile:
    """Validate a study's file.

    Raises:
        UserError: It violates its schema, is not named like its file, chooses an unknown option, or has two
            equal arms.
    """
    file = f"conf/study/{name}.yaml"
    study = validated(STUDY, node, file, context=_context())
    if study.name != name:
        raise UserError(f"{file}: name={study.name}: must be {name}, like the file")
    chosen = {"base": study.base} | {f"arm {arm.name}: choose": arm.choose for arm in study.arms}
    for where, choices in chosen.items():
        for key, value in choices.items():
            if current().is_group(key) and isinstance(value, dict | list):
                raise UserError(f"{file}: {where}: {key}={value}: must name an option of conf/{key}")
            if current().is_group(key) and isinstance(value, bool):
                _require_quotes(f"{file}: {where}", key, value)
    same: dict[frozenset[tuple[str, str]], str] = {}
    for arm in study.arms:
        options = {key: option_name(value) for key, value in {**study.base, **arm.choose}.items()}
        varied = frozenset(item for item in options.items() if current().default_option(item[0]) != item[1])
        if (other := same.setdefault(varied, arm.name)) != arm.name:
            raise UserError(
                f"{file}: arms {other} and {arm.name}: make the same choices; change one or leave it out"
            )
    return study


def _require_quotes(where: str, group: str, value: bool) -> None:
    """Raise UserError for an option such as `off`, which YAML reads as a boolean."""
    options = current().options(group)
    if option_name(value) in options:
        return
    meant = next((word for word in WORDS_OF_BOOLEANS[value] if word in options), None)
    if meant is not None:
        raise UserError(f'{where}: {group}: YAML reads {meant} as a boolean; write {group}: "{meant}"')

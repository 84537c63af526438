"""A study's file: which there are, and whether this project has what it chooses.

What a file may say is `ablations.studies.schema`.
"""

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


def study_names(*, unasked: bool = False) -> list[str]:
    """The studies there are, in the order of the paper's figures (of their outputs' names).

    Args:
        unasked: Leave out those that are dealt with where they are named, and not as one of all.
    """
    files = {
        file.stem: validated(STUDY_FILES, load_yaml(file), f"conf/study/{file.name}")
        for file in current().own_files("study")
    }
    first_with: dict[str, str] = {}
    for name, study in files.items():
        if (other := first_with.setdefault(study.output, name)) != name:
            raise UserError(
                f"conf/study/{name}.yaml: output={study.output}: conf/study/{other}.yaml has it, and one "
                "would overwrite the other's files"
            )
    names = [name for name, study in files.items() if not (unasked and study.only_by_name)]
    return sorted(names, key=lambda name: files[name].output)


def comparable_studies() -> dict[str, Comparable]:
    """Arms and quantities of every study of the project, and of the benchmark."""
    found = {}
    for file in current().own_files("study"):
        study = validated(STUDY, load_yaml(file), f"conf/study/{file.name}", context=_context())
        arms = tuple(arm.name for arm in study.arms)
        found[file.stem] = Comparable(arms, tuple(contrasts.quantities(study.metrics)))
    models = tuple(current().options("model"))
    return found | {BENCHMARK: Comparable(models, (PARAMETERS, STEPS_PER_SECOND))}


def project_claims() -> list[Claim]:
    """The claims of the project.

    Raises:
        UserError: As `load_claims`.
    """
    return load_claims(current().own_files("claims"), comparable_studies())


def _context() -> dict[str, Any]:
    """What a study's file is checked against."""
    return {"declared": current().metrics()}


def check_study(name: str, node: Mapping[Any, Any]) -> StudyFile:
    """The study of a file, as it is composed.

    Raises:
        UserError: It is not as its schema says, is not named as its file, chooses no option where it must, or
            two of its arms are the same runs.
    """
    file = f"conf/study/{name}.yaml"
    study = validated(STUDY, node, file, context=_context())
    if study.name != name:
        raise UserError(f"{file}: name={study.name}: must be {name}, as the file")
    chosen = {"base": study.base} | {f"arm {arm.name}: choose": arm.choose for arm in study.arms}
    for where, choices in chosen.items():
        for key, value in choices.items():
            if current().is_group(key) and isinstance(value, dict | list):
                raise UserError(f"{file}: {where}: {key}={value}: must name an option of conf/{key}")
    same: dict[frozenset[tuple[str, str]], str] = {}
    for arm in study.arms:
        options = {key: option_name(value) for key, value in {**study.base, **arm.choose}.items()}
        varied = frozenset(item for item in options.items() if current().default_option(item[0]) != item[1])
        if (other := same.setdefault(varied, arm.name)) != arm.name:
            raise UserError(f"{file}: arms {other} and {arm.name}: choose the same, so they do not differ")
    return study

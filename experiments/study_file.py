"""A study's file: which there are, and whether one can be what it says."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ablations.errors import UserError
from ablations.evidence.claims import BENCHMARK, PARAMETERS, STEPS_PER_SECOND, Claim, Comparable, load_claims
from ablations.evidence.contrasts import quantities
from ablations.studies.results import METRICS
from experiments.configuration import option_name
from experiments.factorial import with_arms
from experiments.project import current, load_yaml

STUDY_KEYS = {
    "name", "title", "source", "output", "base", "arms", "baseline", "seeds", "metrics", "target",
}  # fmt: skip
OPTIONAL_STUDY_KEYS = {"figures", "paper_only", "notes", "only_by_name"}
FACTORIAL_KEYS = {"factors", "design"}
ARM_KEYS = {"name", "label", "choose", "paper"}
OPTIONAL_ARM_KEYS = {"paper_values", "baseline"}
FIGURE_KEYS = {"output", "title", "source", "arms", "baseline"}
PAPER_ROW_KEYS = {"label", "paper_values"}

AS_BASELINE = "baseline"
"""In place of a number in an arm's match_parameters: as many as the arm that it is compared with has."""


def study_names(*, unasked: bool = False) -> list[str]:
    """The studies there are, in the order of the paper's figures (of their outputs' names).

    Args:
        unasked: Leave out those that are dealt with where they are named, and not as one of all.
    """
    files = {file.stem: load_yaml(file) for file in current().own_files("study")}
    for name, node in files.items():
        if not isinstance(node, dict) or not _is_file_name(node.get("output")):
            raise UserError(f"conf/study/{name}.yaml: output: must be the stem of its files' names")
        other = next(other for other in files if files[other]["output"] == node["output"])
        if other != name:
            raise UserError(
                f"conf/study/{name}.yaml: output={node['output']}: conf/study/{other}.yaml has it, and one "
                "would overwrite the other's files"
            )
    names = [name for name, node in files.items() if not (unasked and node.get("only_by_name"))]
    return sorted(names, key=lambda name: files[name]["output"])


def comparable_studies() -> dict[str, Comparable]:
    """Arms and quantities of every study of the project, and of the benchmark."""
    found = {}
    for file in current().own_files("study"):
        study = with_arms(f"conf/study/{file.name}", load_yaml(file))
        arms = tuple(arm["name"] for arm in study["arms"])
        found[file.stem] = Comparable(arms, tuple(quantities(study["metrics"])))
    models = tuple(current().options("model"))
    return found | {BENCHMARK: Comparable(models, (PARAMETERS, STEPS_PER_SECOND))}


def project_claims() -> list[Claim]:
    """The claims of the project.

    Raises:
        UserError: As `load_claims`.
    """
    return load_claims(current().own_files("claims"), comparable_studies())


def _is_file_name(text: Any) -> bool:
    return isinstance(text, str) and re.fullmatch(r"\w[\w.-]{0,99}", text) is not None


def check_study(name: str, node: Mapping[Any, Any]) -> dict[Any, Any]:
    """The study with its arms: those that it lists, or those that its factors give.

    Raises:
        UserError: It has unknown or missing keys, or values that are not allowed.
    """
    file = f"conf/study/{name}.yaml"
    node = with_arms(file, node)
    _check_keys(file, node)
    _check_kinds(file, node)
    _check_arms(file, name, node)
    _check_figures(file, node)
    _check_what_is_measured(file, node)
    return node


def _check_keys(file: str, node: Mapping[Any, Any]) -> None:
    """Require the keys of the study and of its parts, and no other."""
    factorial = FACTORIAL_KEYS if "factors" in node else set()
    arms = node.get("arms")
    if not isinstance(arms, list) or not all(isinstance(arm, dict) for arm in arms):
        raise UserError(f"{file}: arms: must be a list of name, label, choose, paper")
    figures, paper_only = node.get("figures", []), node.get("paper_only", [])
    for key, items in (("figures", figures), ("paper_only", paper_only)):
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise UserError(f"{file}: {key}: must be a list")
    for what, given, required, optional in [
        ("the study", node, STUDY_KEYS, OPTIONAL_STUDY_KEYS | factorial),
        *((f"arm {arm.get('name')}", arm, ARM_KEYS, OPTIONAL_ARM_KEYS) for arm in arms),
        *((f"figure {figure.get('output')}", figure, FIGURE_KEYS, set()) for figure in figures),
        *((f"paper_only {row.get('label')}", row, PAPER_ROW_KEYS, set()) for row in paper_only),
    ]:
        if difference := (required ^ set(given)) - optional:
            raise UserError(
                f"{file}: {what} lacks or does not know {', '.join(sorted(map(str, difference)))}"
            )


def _check_kinds(file: str, node: Mapping[Any, Any]) -> None:
    """Require texts where there are to be texts, and mappings, lists and switches likewise."""
    arms, paper_only, notes = node["arms"], node.get("paper_only", []), node.get("notes", [])
    texts = {key: node[key] for key in ("title", "source")}
    texts |= {f"arm {arm['name']}: {key}": arm[key] for arm in arms for key in ("name", "label", "paper")}
    for what, text in texts.items():
        if not isinstance(text, str) or not (text or what.endswith("paper")):
            raise UserError(f"{file}: {what}={text}: must be a text")
    for row in (*arms, *paper_only):
        if not isinstance(row.get("paper_values", {}), dict):
            raise UserError(f"{file}: paper_values={row['paper_values']}: must name a value per metric")
    for figure in node.get("figures", []):
        named = isinstance(figure["arms"], list) and all(isinstance(arm, str) for arm in figure["arms"])
        if not named or not _is_file_name(figure["output"]):
            raise UserError(f"{file}: figure {figure['output']}: must have a list of arms, and a file's name")
    if not all(isinstance(choices, dict) for choices in (node["base"], *(arm["choose"] for arm in arms))):
        raise UserError(f"{file}: base and choose: must name an option per config group")
    if not isinstance(node.get("only_by_name", False), bool):
        raise UserError(f"{file}: only_by_name={node['only_by_name']}: must be true or false")
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        raise UserError(f"{file}: notes: must be a list of texts")


def _check_arms(file: str, name: str, node: Mapping[Any, Any]) -> None:
    """Require names that tell arms apart, and of each arm another one that it can be compared with."""
    arms = node["arms"]
    names = [arm["name"] for arm in arms]
    if node["name"] != name or len(set(names)) < len(names) or node["baseline"] not in names:
        raise UserError(
            f"{file}: name={node['name']}, baseline={node['baseline']}, arms={names}: must be named as "
            "the file, with one of its arms as baseline, each of a name of its own"
        )
    for arm in arms:
        if arm.get("baseline", node["baseline"]) not in names or arm.get("baseline") == arm["name"]:
            raise UserError(f"{file}: arm {arm['name']}: baseline={arm['baseline']}: must be another arm")
        if "seed" in arm["choose"]:
            raise UserError(f"{file}: arm {arm['name']}: choose: seed: must be in seeds, which every arm has")
    _check_choices(file, node["base"], arms)
    matched = {arm["name"] for arm in arms if arm["choose"].get("match_parameters") == AS_BASELINE}
    for arm in arms:
        if arm["name"] in matched and arm.get("baseline", node["baseline"]) in matched:
            raise UserError(
                f"{file}: arm {arm['name']}: match_parameters={AS_BASELINE}: must be a number, "
                "because the arm that it is compared with has none of its own"
            )


def _check_choices(file: str, base: Mapping[Any, Any], arms: Sequence[Mapping[Any, Any]]) -> None:
    """Check what base and arms choose: an option per group, and not the same in two arms.

    Raises:
        UserError: A value that names no option of its group, or two arms that are the same runs.
    """
    named: dict[str, Mapping[Any, Any]] = {"base": base}
    named |= {f"arm {arm['name']}: choose": arm["choose"] for arm in arms}
    for where, choices in named.items():
        for key, value in choices.items():
            if current().is_group(str(key)) and isinstance(value, dict | list):
                raise UserError(f"{file}: {where}: {key}={value}: must name an option of conf/{key}")
    chosen: dict[frozenset[tuple[str, str]], str] = {}
    for arm in arms:
        options = {str(key): option_name(value) for key, value in {**base, **arm["choose"]}.items()}
        varied = frozenset(item for item in options.items() if current().default_option(item[0]) != item[1])
        if (other := chosen.setdefault(varied, arm["name"])) != arm["name"]:
            raise UserError(f"{file}: arms {other} and {arm['name']}: choose the same, so they do not differ")


def _check_figures(file: str, node: Mapping[Any, Any]) -> None:
    """Require figures of arms that there are."""
    names = [arm["name"] for arm in node["arms"]]
    for figure in node.get("figures", []):
        if figure["baseline"] not in figure["arms"] or not set(figure["arms"]) <= set(names):
            raise UserError(
                f"{file}: figure {figure['output']}: arms={figure['arms']}, arms of the study={names}"
            )


def _check_what_is_measured(file: str, node: Mapping[Any, Any]) -> None:
    """Require seeds, metrics and a target that runs can have."""
    rows = (*node["arms"], *node.get("paper_only", []))
    seeds = node["seeds"] if isinstance(node["seeds"], list) else []
    integers = {seed for seed in seeds if isinstance(seed, int) and not isinstance(seed, bool)}
    if not seeds or len(integers) < len(seeds):
        raise UserError(f"{file}: seeds={node['seeds']}: must be a list of different integers")
    metrics = [str(metric) for metric in node["metrics"]] if isinstance(node["metrics"], list) else []
    named = {*metrics, *(metric for row in rows for metric in row.get("paper_values", {}))}
    if not metrics or not named <= METRICS.keys():
        raise UserError(f"{file}: metrics={node['metrics']}, paper_values: must be of {', '.join(METRICS)}")
    if not isinstance(node["target"], int | float) or not 0 < node["target"] < 1:
        raise UserError(f"{file}: target={node['target']}: must lie between 0 and 1")

"""Confound audit: what else differs between an arm and the arm that it is compared with.

A study declares its factor: what `choose` sets differently for the two arms. Two runs of one seed should
differ in that and in nothing else. This module says where they do, from their records alone; nothing is
composed, so it holds for what was trained and not for what the files say today.

**To the declared factor belongs**, of the two resolved configurations:

- what lies under a group or key that `choose` sets differently;
- a place that holds what such a node holds, in both: conf/model/xception.yaml hands `${residual}` on as
  `model.residual`. Only a place that is handed things can repeat one (`RANK`), or a setting of the recipe
  that somebody changed would hide behind the network that it is handed to; and outside of `model` a number
  is repeated by its own name alone (`lr`, `max_lr`), or 4 epochs instead of 16 would hide behind 4 segments;
- with another `model`: its scaling to the dataset, which lies under `model`, its weight decay, which its file
  sets next to the network, and its depth;
- `model.width` where an arm matches a size (`match_parameters`, `match_multiply_adds`), or where the
  parameters are equal within 1 %: then the width is what makes the two comparable.

**All else that differs is undeclared:** parameters or multiply-adds by more than 1 %, unless the size is the
factor; depth, any other setting, data, library versions, device, code, and a seed that has a result in one
arm alone. What cannot change an outcome (folders, logging) is left out. Code differs by `outcome_version`,
which whoever changes outcomes raises, so two commits are no difference, unless one is unknown or a file that
the run imported had uncommitted changes. A record that was changed by hand is named. The table names all.

Steps/second is shown next to the sizes and is no confound by itself: machines are noisy.
"""

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablations.runs.identity import COMPILE, NEUTRAL, OF_RECIPE, is_outside_identity
from ablations.runs.schema import kind_of
from ablations.studies.results import Arm, Outcome, Study, baseline_first, pair_by_seed
from ablations.table_files import commit_name
from ablations.text import NO_VALUE, cut, decimals, named_seeds, per_cent

TOLERANCE = 0.01
"""Largest difference of two sizes that counts as none, as a share; that of match_parameters."""

SIZES = {"parameters": "parameters", "multiply_adds": "multiply-adds"}
"""Of a record, and how a person reads them."""

COMPARED = (*SIZES, "depth", "data_fingerprint", "versions", "device", "git", "edited")
"""What is compared of two records besides their configurations."""

RANK = {"recipe": 1, "dataset": 2, "model": 3}
"""Which node is handed things by which: each by those before it, and all by every other group."""

WEIGHT_DECAY = "recipe.optimizer.weight_decay"
"""What a network's file sets next to the network."""

STANDS_FOR = ("weights", "dataset.checksums", "weight_decay")
"""Keys that others stand for: weights_sha256, the record's fingerprint of the data, and `WEIGHT_DECAY`."""

AUGMENTATION_OF_DATA = tuple(
    f"dataset.{key}" for key in ("horizontal_flip", "crop_padding", "min_crop_area", "max_aspect_ratio")
)
"""What an option of `augmentation` may set of the dataset."""

SHOWN = 3
"""Differences of an arm that a figure names; the table has all."""

LONGEST = 40
"""Characters of a setting that are shown."""

NOTHING = "According to the records, the compared arms differ only in the declared factor."

RULE = (
    "Confound audit, from the records of runs with the same seed. The declared factor includes what the "
    "study sets differently for the two arms, settings that repeat it, a width that matches sizes and, with "
    "another network, its scaling to the dataset, its weight decay and its depth. Everything else that "
    f"differs is listed: parameters or multiply-adds by more than {100 * TOLERANCE:g} % (unless size is the "
    "factor), depth, other settings, data, versions, device, uncommitted code, and seeds that one arm lacks. "
    "Steps/second is shown, but is no confound by itself: machines are noisy."
)


class _Absent:
    """What stands for a key that one of two configurations has not."""

    def __repr__(self) -> str:
        return "not set"


ABSENT = _Absent()

Difference = tuple[str, Any, Any]
"""A path of the configuration, and its value in the arm and in the other."""


@dataclass(frozen=True)
class Audit:
    """One arm and the arm that it is compared with.

    Attributes:
        arm: The arm.
        other: The arm that it is compared with.
        n_pairs: Seeds that have a result in both; without one there is nothing to say.
        changes: Arm minus other as a share of the other, e.g. `{"parameters": -0.043}`: parameters,
            multiply_adds, and steps_per_second of the median pair, where both were measured.
        depth: Layers of the arm minus those of the other.
        declared: What differs and belongs to the declared factor, a phrase each.
        undeclared: What else differs, a phrase each.
    """

    arm: Arm
    other: Arm
    n_pairs: int
    changes: Mapping[str, float]
    depth: int | None
    declared: tuple[str, ...]
    undeclared: tuple[str, ...]


def audit_study(study: Study, by_arm: Mapping[str, Sequence[Outcome]]) -> list[Audit]:
    """Each arm and the arm that it is compared with, in the order of the table.

    Args:
        study: The study.
        by_arm: Its `outcomes`: completed and diverged runs.
    """
    arms = {arm.name: arm for arm in study.arms}
    audits = []
    for arm in baseline_first(study):
        if name := study.compared_with(arm):
            audits.append(_audit(arm, arms[name], by_arm[arm.name], by_arm[name]))
    return audits


def audit_columns(audit: Audit | None) -> dict[str, Any]:
    """Columns of the study's table; all missing for what is compared with nothing.

    Returns:
        parameters_change_percent, multiply_adds_change_percent, steps_per_second_change_percent,
        depth_change, declared, undeclared; None where there is nothing to say.
    """
    changes = audit.changes if audit else {}
    columns = (*SIZES, "steps_per_second")
    return {f"{name}_change_percent": _per_cent(changes.get(name)) for name in columns} | {
        "depth_change": audit.depth if audit else None,
        "declared": "; ".join(audit.declared) or None if audit else None,
        "undeclared": "; ".join(audit.undeclared) or None if audit else None,
    }


def audit_panel(audits: Sequence[Audit]) -> list[dict[str, str]]:
    """Rows of the audit as a person reads it; none where nothing is undeclared."""
    return audit_rows(audits) if any(audit.undeclared for audit in audits) else []


def audit_rows(audits: Sequence[Audit]) -> list[dict[str, str]]:
    """A row per audit as a person reads it, also where nothing is undeclared."""
    return [
        {
            "arm": audit.arm.label,
            "compared with": audit.other.label,
            "declared factor": "; ".join(audit.declared) or NO_VALUE,
            **{
                f"{word}, %": _signed(audit.changes.get(name))
                for name, word in (SIZES | {"steps_per_second": "steps/second"}).items()
            },
            "depth, layers": NO_VALUE if audit.depth is None else f"{audit.depth:+d}" if audit.depth else "0",
            "beyond the declared factor": "; ".join(audit.undeclared) or NO_VALUE,
        }
        for audit in audits
    ]


def audit_notes(audits: Sequence[Audit]) -> list[str]:
    """What stands below the table: the rule, or one line where nothing is undeclared."""
    if any(audit.undeclared for audit in audits):
        return [RULE]
    return [NOTHING] if any(audit.n_pairs for audit in audits) else []


def audit_lines(study: Study, audits: Sequence[Audit]) -> list[str]:
    """What stands below the figure: one sentence; arms of the same differences are named together."""
    found: dict[str, list[str]] = {}
    for audit in audits:
        named = list(audit.undeclared[:SHOWN])
        if left := len(audit.undeclared) - len(named):
            named.append(f"{left} more in the table")
        if named:
            against = "" if audit.other.name == study.baseline else f" compared with “{audit.other.label}”"
            found.setdefault(", ".join(named), []).append(f"“{audit.arm.label}”{against}")
    if found:
        sentences = [
            f"{', '.join(arms)} {'has' if len(arms) == 1 else 'have'} {text}" for text, arms in found.items()
        ]
        return [f"Differences beyond the declared factor: {'; '.join(sentences)}."]
    return [NOTHING] if any(audit.n_pairs for audit in audits) else []


def _audit(arm: Arm, other: Arm, of_arm: Sequence[Outcome], of_other: Sequence[Outcome]) -> Audit:
    pairs = [(_record(a), _record(b)) for a, b in pair_by_seed(of_arm, of_other)]
    declared: dict[str, list[int]] = {}
    undeclared: dict[str, list[int]] = {}
    before: Any = None
    found: tuple[list[str], list[str]] = [], []
    for a, b in pairs:
        # Most pairs differ in the seed alone from the one before, and that is quickly seen.
        if (contents := (_without_seed(a), _without_seed(b))) != before:
            before, found = contents, _compare(arm, other, a, b)
        for phrases, of_pair in zip((declared, undeclared), found, strict=True):
            for phrase in of_pair:
                phrases.setdefault(phrase, []).append(a["seed"])
    not_declared = [_of_seeds(phrase, seeds, len(pairs)) for phrase, seeds in undeclared.items()]
    seeds, seeds_of_other = ({outcome.run.seed for outcome in of_one} for of_one in (of_arm, of_other))
    if pairs and (lacking := seeds_of_other - seeds):
        not_declared.append(f"no result of {named_seeds(lacking)}")
    if pairs and (alone := seeds - seeds_of_other):
        not_declared.append(f"{named_seeds(alone)} alone")
    speeds = [
        _change(a, b, "steps_per_second")
        for a, b in pairs
        if a.get("steps_per_second") and b.get("steps_per_second")
    ]
    return Audit(
        arm=arm,
        other=other,
        n_pairs=len(pairs),
        changes=({name: _change(*pairs[0], name) for name in SIZES} if pairs else {})
        | ({"steps_per_second": statistics.median(speeds)} if speeds else {}),
        depth=pairs[0][0]["depth"] - pairs[0][1]["depth"] if pairs else None,
        declared=tuple(_of_seeds(phrase, seeds, len(pairs)) for phrase, seeds in declared.items()),
        undeclared=tuple(not_declared),
    )


def _without_seed(record: Mapping[str, Any]) -> list[Any]:
    """What `_compare` reads of a record, without the places of the seed."""
    config = record["config"]
    dataset = config["dataset"] | {"seed": None}
    record = {**record, "device": kind_of(record["device"])}
    return [config | {"seed": None, "dataset": dataset}, *(record[key] for key in COMPARED)]


def _compare(arm: Arm, other: Arm, a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What differs between two records of one seed: what is declared, and what is not, as phrases."""
    chosen, chosen_by_other = _chosen(arm), _chosen(other)
    keys = sorted(
        key for key in chosen | chosen_by_other if chosen.get(key, ABSENT) != chosen_by_other.get(key, ABSENT)
    )
    declared = [_instead(key, chosen.get(key, ABSENT), chosen_by_other.get(key, ABSENT)) for key in keys]

    network = any(_is_under(key, "model") for key in keys)
    matched = any(f"match_{name}" in chosen | chosen_by_other for name in SIZES)
    matched = matched or not _differ(a, b, "parameters")
    implied = ["model.width"] if matched else []
    implied += [WEIGHT_DECAY] if "model" in keys else []
    for path in implied:
        value, value_of_other = _at(a["config"], path), _at(b["config"], path)
        if value != value_of_other and not any(_is_under(path, key) for key in keys):
            declared.append(_instead(path, value, value_of_other))

    undeclared = [
        f"{per_cent(abs(_change(a, b, name)), 1)} {'more' if a[name] > b[name] else 'fewer'} {word}"
        for name, word in SIZES.items()
        if _differ(a, b, name) and not _is_size(name, keys)
    ]
    if a["depth"] != b["depth"] and not network:
        undeclared.append(_instead("depth", a["depth"], b["depth"]))
    places = [place for key in keys for place in _places_of(key)]
    held = [
        found
        for place in places
        for found in _contents(place, _at(a["config"], place), _at(b["config"], place))
    ]
    settings: list[Difference] = []
    for found in _differences(a["config"], b["config"], [*places, *implied, *STANDS_FOR], held):
        # What one setting hands on to another place is shown once.
        if not any(_repeats(found, earlier) for earlier in settings):
            settings.append(found)
    undeclared += [_instead(*setting) for setting in settings]
    if a["data_fingerprint"] != b["data_fingerprint"] and "dataset" not in keys:
        undeclared.append("other data, by their checksums")
    of_devices = kind_of(a["device"]), kind_of(b["device"])
    for prefix, of_a, of_b in (("", a["versions"], b["versions"]), ("device ", *of_devices)):
        for key in sorted(of_a.keys() | of_b.keys()):
            value, value_of_other = of_a.get(key, ABSENT), of_b.get(key, ABSENT)
            if value != value_of_other:
                undeclared.append(_instead(prefix + key, value, value_of_other))
    if a["git"] != b["git"] and not (_is_committed(a["git"]) and _is_committed(b["git"])):
        commit, commit_of_other = commit_name(a["git"]), commit_name(b["git"])
        other_name = "others" if commit == commit_of_other else commit_of_other
        undeclared.append(f"commit {commit} instead of {other_name}")
    if a["edited"] or b["edited"]:
        undeclared.append("a record that was changed by hand")
    return declared, undeclared


def _places_of(key: str) -> list[str]:
    """Where in the configuration a chosen key or option of a group stands."""
    if key == "norm":
        return [key, "model.norm", "model.norm_layer"]
    if key not in OF_RECIPE:
        return [key]
    return [f"recipe.{key}", *(AUGMENTATION_OF_DATA if key == "augmentation" else ())]


def _is_committed(git: Mapping[str, Any] | None) -> bool:
    """Whether a commit is all of the code that ran."""
    return git is not None and git["changes"] == {}


def _chosen(arm: Arm) -> dict[str, str]:
    """What an arm chooses, by the key's path; as text, because an option is a name."""
    return {key.lstrip("+~"): str(value) for key, value in arm.choose.items()}


def _is_size(name: str, keys: Sequence[str]) -> bool:
    """Whether a size is what two arms declare to differ in."""
    return "model.width" in keys or f"match_{name}" in keys


def _differences(
    a: Mapping[str, Any],
    b: Mapping[str, Any],
    declared: Sequence[str],
    held: Sequence[Difference],
    above: str = "",
) -> Iterator[Difference]:
    """Where two configurations differ beyond what is declared, as deep as both have nodes.

    Args:
        a: A node of the arm's.
        b: The same of the other's.
        declared: Paths that belong to the declared factor, with all below them.
        held: What the declared nodes hold.
        above: Path of the node, with a dot behind it.
    """
    for key in sorted(a.keys() | b.keys(), key=lambda key: (RANK.get(key, 0) if not above else 0, key)):
        path = above + key
        absent = NEUTRAL.get(path, ABSENT)  # older records have not all keys
        values = (a.get(key, absent), b.get(key, absent))
        if (
            values[0] == values[1]
            or (is_outside_identity(path) and not COMPILE.startswith(f"{path}."))
            or any(_is_under(path, place) for place in declared)
            or any(_repeats((path, *values), source) for source in held)
        ):
            continue
        if isinstance(values[0], dict) and isinstance(values[1], dict):
            yield from _differences(*values, declared, held, f"{path}.")
        else:
            yield path, *values


def _contents(path: str, value: Any, value_of_other: Any) -> Iterator[Difference]:
    """What a node and everything below it hold where they differ.

    Below the node itself without what says too little to tell one setting from another: true, false, null.
    """
    yield path, value, value_of_other
    if isinstance(value, dict) and isinstance(value_of_other, dict):
        for key in value.keys() & value_of_other.keys():
            below = value[key], value_of_other[key]
            if below[0] != below[1] and not any(part is None or isinstance(part, bool) for part in below):
                yield from _contents(f"{path}.{key}", *below)


def _is_under(path: str, key: str) -> bool:
    return f"{path}.".startswith(f"{key}.")


def _repeats(found: Difference, source: Difference) -> bool:
    """Whether a difference is that of `source`, handed on."""
    (path, *values), (path_of_source, *values_of_source) = found, source
    if values != values_of_source:
        return False
    top, top_of_source = (place.partition(".")[0] for place in (path, path_of_source))
    if top != top_of_source and RANK.get(top, 0) <= RANK.get(top_of_source, 0):
        return False
    if top == "model" or not any(part is None or isinstance(part, int | float) for part in values):
        return True
    # Two settings have the same two numbers by accident: a number is known by its name as well.
    names = [place.rpartition(".")[2] for place in (path, path_of_source)]
    return any(f"_{name}".endswith(f"_{other}") for name, other in (names, names[::-1]))


def _at(config: Mapping[str, Any], path: str) -> Any:
    node: Any = config
    for key in path.split("."):
        node = node.get(key, ABSENT) if isinstance(node, dict) else ABSENT
    return node


def _record(outcome: Outcome) -> Mapping[str, Any]:
    assert outcome.run.record is not None, "completed and diverged runs have a record"
    return outcome.run.record


def _differ(a: Mapping[str, Any], b: Mapping[str, Any], name: str) -> bool:
    return bool(abs(a[name] - b[name]) > TOLERANCE * b[name])


def _change(a: Mapping[str, Any], b: Mapping[str, Any], name: str) -> float:
    return float(a[name] / b[name] - 1)


def _instead(key: str, value: Any, value_of_other: Any) -> str:
    return f"{key} {_text(value)} instead of {_text(value_of_other)}"


def _text(value: Any) -> str:
    """A setting as a person reads it: a part by its own name, what is long by its start."""
    if isinstance(value, dict) and "_target_" in value:
        value = value["_target_"]
    text = str(value) if value is ABSENT or isinstance(value, str) else json.dumps(value)
    if text.startswith(("lightning_modules.", "torch.")):
        text = text.rpartition(".")[2]
    return cut(text, LONGEST)


def _of_seeds(phrase: str, seeds: Sequence[int], n_pairs: int) -> str:
    """A phrase, with its seeds where it is not true of all pairs."""
    return phrase if len(seeds) == n_pairs else f"{phrase} ({named_seeds(seeds)})"


def _per_cent(change: float | None) -> float | None:
    return None if change is None else 100 * change


def _signed(change: float | None) -> str:
    return NO_VALUE if change is None else decimals(100 * change, "+")

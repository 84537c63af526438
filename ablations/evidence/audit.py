"""Confound audit: what else differs between an arm and the arm that it is compared with.

docs/explanation/confound-audit.md explains it. It reads only records, so it is about what was trained, not
about today's files. The declared factor includes, of the two resolved configurations:

- what lies under a group or key that `choose` sets differently;
- a path that repeats such a node in both: conf/model/xception.yaml passes `${residual}` on as
  `model.residual`. Only nodes that are passed things can repeat one (`RANK`); otherwise a changed setting of
  the recipe would hide behind the network that receives it. Outside `model`, a number must also be repeated
  under its own name; otherwise 4 epochs instead of 16 would hide behind 4 segments;
- with another `model`: its scaling to the dataset, its weight decay and its depth;
- `model.width` if an arm matches a size or the parameters are equal within 1 %: then the width makes the two
  comparable.

Everything else is undeclared, except what cannot change an outcome (folders, logging). Different commits do
not count, because a code change that changes outcomes raises `outcome_version`; an unknown commit or
uncommitted changes in an imported file do.
"""

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablations.runs.identity import COMPILE, NEUTRAL, OF_RECIPE, at, is_outside_identity
from ablations.runs.schema import kind_of
from ablations.studies.results import Arm, Outcome, Study, baseline_first, pair_by_seed
from ablations.table_files import commit_name
from ablations.text import cut, named_seeds, per_cent

TOLERANCE = 0.01
"""Largest relative difference of two sizes that counts as none, as in match_parameters."""

SIZES = {"parameters": "parameters", "multiply_adds": "multiply-adds"}
"""Keys of a record, and their labels."""

COMPARED = (*SIZES, "depth", "data_fingerprint", "versions", "device", "git", "edited")
"""Compared keys of a record, in addition to its configuration."""

RANK = {"recipe": 1, "dataset": 2, "model": 3}
"""Nodes that are passed things: each by lower ones and by every other group."""

WEIGHT_DECAY = "recipe.optimizer.weight_decay"
"""Set in a network's file, next to the network."""

STANDS_FOR = ("weights", "dataset.checksums", "weight_decay")
"""Keys replaced by others: weights_sha256, the fingerprint of the data, and `WEIGHT_DECAY`."""

AUGMENTATION_OF_DATA = tuple(
    f"dataset.{key}" for key in ("horizontal_flip", "crop_padding", "min_crop_area", "max_aspect_ratio")
)
"""Keys of the dataset that an option of `augmentation` may set."""

LONGEST = 40
"""Characters of a setting that are shown."""


class _Absent:
    """A key that one of two configurations lacks."""

    def __repr__(self) -> str:
        return "not set"


ABSENT = _Absent()

Difference = tuple[str, Any, Any]
"""A path of the configuration, and its value in the arm and in the other."""


@dataclass(frozen=True)
class Audit:
    """One arm and the arm that it is compared with.

    Attributes:
        n_pairs: Seeds with a result in both.
        changes: Relative change from the other arm, e.g. `{"parameters": -0.043}`; steps_per_second of the
            median pair.
        depth: Layers of the arm minus those of the other; None without a pair.
        declared: Differences that belong to the declared factor, a phrase each.
        undeclared: Other differences, a phrase each.
    """

    arm: Arm
    other: Arm
    n_pairs: int
    changes: Mapping[str, float]
    depth: int | None
    declared: tuple[str, ...]
    undeclared: tuple[str, ...]


def audit_study(study: Study, by_arm: Mapping[str, Sequence[Outcome]]) -> list[Audit]:
    """Audit each arm that is compared with another, in the order of the table."""
    arms = {arm.name: arm for arm in study.arms}
    audits = []
    for arm in baseline_first(study):
        if name := study.compared_with(arm):
            audits.append(_audit(arm, arms[name], by_arm[arm.name], by_arm[name]))
    return audits


def _audit(arm: Arm, other: Arm, of_arm: Sequence[Outcome], of_other: Sequence[Outcome]) -> Audit:
    pairs = [(_record(a), _record(b)) for a, b in pair_by_seed(of_arm, of_other)]
    declared: dict[str, list[int]] = {}
    undeclared: dict[str, list[int]] = {}
    before: Any = None
    found: tuple[list[str], list[str]] = [], []
    for a, b in pairs:
        # Most pairs differ from the previous one only in the seed; checking that is fast.
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
    """What `_compare` reads of a record."""
    config = record["config"]
    dataset = config["dataset"] | {"seed": None}
    record = {**record, "device": kind_of(record["device"])}
    return [config | {"seed": None, "dataset": dataset}, *(record[key] for key in COMPARED)]


def _compare(arm: Arm, other: Arm, a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Phrases for the declared and undeclared differences between two records of one seed."""
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
        value, value_of_other = (at(record["config"], path, ABSENT) for record in (a, b))
        if value != value_of_other and not any(_is_under(path, key) for key in keys):
            declared.append(_instead(path, value, value_of_other))

    undeclared = [
        f"{per_cent(abs(_change(a, b, name)), 1)} {'more' if a[name] > b[name] else 'fewer'} {word}"
        for name, word in SIZES.items()
        if _differ(a, b, name) and not {"model.width", f"match_{name}"} & set(keys)
    ]
    if a["depth"] != b["depth"] and not network:
        undeclared.append(_instead("depth", a["depth"], b["depth"]))
    paths = [path for key in keys for path in _paths_of(key)]
    held = [
        found
        for path in paths
        for found in _contents(path, *(at(record["config"], path, ABSENT) for record in (a, b)))
    ]
    settings: list[Difference] = []
    for found in _differences(a["config"], b["config"], [*paths, *implied, *STANDS_FOR], held):
        # A setting passed on to another node is shown once.
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


def _paths_of(key: str) -> list[str]:
    """Where a chosen key or group lies in the configuration."""
    if key == "norm":
        return [key, "model.norm", "model.norm_layer"]
    if key not in OF_RECIPE:
        return [key]
    return [f"recipe.{key}", *(AUGMENTATION_OF_DATA if key == "augmentation" else ())]


def _is_committed(git: Mapping[str, Any] | None) -> bool:
    return git is not None and git["changes"] == {}


def _chosen(arm: Arm) -> dict[str, str]:
    """By the key's path; as text, because an option is a name."""
    return {key.lstrip("+~"): str(value) for key, value in arm.choose.items()}


def _differences(
    a: Mapping[str, Any],
    b: Mapping[str, Any],
    declared: Sequence[str],
    held: Sequence[Difference],
    above: str = "",
) -> Iterator[Difference]:
    """Undeclared differences between two nodes at the path `above`, as deep as both have nodes."""
    for key in sorted(a.keys() | b.keys(), key=lambda key: (RANK.get(key, 0) if not above else 0, key)):
        path = above + key
        absent = NEUTRAL.get(path, ABSENT)  # older records lack some keys
        values = (a.get(key, absent), b.get(key, absent))
        if (
            values[0] == values[1]
            or (is_outside_identity(path) and not COMPILE.startswith(f"{path}."))
            or any(_is_under(path, one) for one in declared)
            or any(_repeats((path, *values), source) for source in held)
        ):
            continue
        if isinstance(values[0], dict) and isinstance(values[1], dict):
            yield from _differences(*values, declared, held, f"{path}.")
        else:
            yield path, *values


def _contents(path: str, value: Any, value_of_other: Any) -> Iterator[Difference]:
    """A node and everything below it, where the two differ.

    Below the node itself, true, false and null are left out: they would match too many settings.
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
    """Whether a difference is that of `source`, passed on."""
    (path, *values), (path_of_source, *values_of_source) = found, source
    if values != values_of_source:
        return False
    top, top_of_source = (one.partition(".")[0] for one in (path, path_of_source))
    if top != top_of_source and RANK.get(top, 0) <= RANK.get(top_of_source, 0):
        return False
    if top == "model" or not any(part is None or isinstance(part, int | float) for part in values):
        return True
    # Settings may have the same two numbers by accident, so numbers must also share a name.
    names = [one.rpartition(".")[2] for one in (path, path_of_source)]
    return any(f"_{name}".endswith(f"_{other}") for name, other in (names, names[::-1]))


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
    """A setting for readers: a part by its own name, a long text cut."""
    if isinstance(value, dict) and "_target_" in value:
        value = value["_target_"]
    text = str(value) if value is ABSENT or isinstance(value, str) else json.dumps(value)
    if text.startswith(("lightning_modules.", "torch.")):
        text = text.rpartition(".")[2]
    return cut(text, LONGEST)


def _of_seeds(phrase: str, seeds: Sequence[int], n_pairs: int) -> str:
    return phrase if len(seeds) == n_pairs else f"{phrase} ({named_seeds(seeds)})"

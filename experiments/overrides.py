"""Reads a study's overrides: seeds, tuning and changed settings."""

import hashlib
import itertools
import math
import re
import shlex
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException

from ablations.errors import UserError, as_user_error
from ablations.lazily import lazily
from ablations.runs.identity import is_outside_identity
from experiments.configuration import (
    lists_values,
    locates_data,
    option_name,
    override_values,
    parse_override,
    parsed,
)
from experiments.project import current
from lightning_modules.validation import require_integer

with lazily():
    from ablations.statistics import sequential

AUTO_KEYS = ("seeds", "seed_budget")
"""Keys of seeds=auto; not part of a run's configuration."""

PLANNING_KEYS = ("study", "tuning", "seed", *AUTO_KEYS)
"""Keys read before Hydra composes, so only as KEY=VALUE."""


LONGEST_SUFFIX = 90
"""Bytes of the suffix of a varied study's files; longer ones are halved and get a hash. Tuning adds a second
suffix, and a file name has at most 255 bytes."""

LONGEST_STUDIES = 120
"""Bytes of the studies' names in a file name; longer ones are halved and get a hash."""

LONGEST_SWEEP = 100
"""Characters of a sweep in file names; longer ones are cut and get a hash."""

LARGEST_PRODUCT = 1000
"""Configurations of a sweep, without seeds; composing one takes a tenth of a second."""

LONGEST_SEEDS = 60
"""Characters of the seeds in file names; longer lists become a hash."""


NEEDS_QUOTES = re.compile(r"[^\w/\-\\+.$%*@?|:, ]", re.ASCII)
"""A character that Hydra accepts only in quotes."""

GIVEN_BY_LIGHTNING = ("hydra.run.dir", "hydra.job.name", "hydra.output_subdir")
"""Keys that Lightning adds when it starts a run's other processes."""

REPEATABLE = (*GIVEN_BY_LIGHTNING, "--also")
"""Words that may be given more than once."""

LARGEST_BUDGET = 1000
"""Largest seed_budget: the levels of all looks are solved before the first."""


def check_arguments(arguments: Sequence[str]) -> None:
    """Check the words of a command before they are used.

    Raises:
        UserError: A key or a swept value is given twice, a character needs quotes, or a key of
            `PLANNING_KEYS` is added or deleted.
    """
    sweeps = not {"-m", "--multirun"}.isdisjoint(arguments)
    given: dict[tuple[str, bool], str] = {}
    for argument in arguments:
        key = key_of(argument, sweeps=sweeps)
        if key in PLANNING_KEYS and re.match(r"~|\+(?!\+)", argument):
            raise UserError(f"{argument}: {key} can be neither added nor deleted; write {key}=VALUE")
        what = key, "=" in argument or argument.startswith("~")  # a study may be named like a group
        if what in given and key not in REPEATABLE:
            message = f"{given[what]} {argument}: duplicate {key}; give it once"
            if what[1] and not argument.startswith("-"):
                message += f" (several values: -m {key}=A,B; a pattern with braces: "
                message += f"'{key}=\"A-{{0..1}}\"')"
            raise UserError(message)
        given[what] = argument


def key_of(argument: str, *, sweeps: bool = False) -> str:
    """The key of KEY=VALUE; a flag or name as it is. With `sweeps`, commas separate values.

    Raises:
        UserError: It cannot be parsed, or has a duplicate value.
    """
    key, equals, value = argument.partition("=")
    if argument.startswith("-") or not (equals or argument.startswith("~")):
        return key
    try:
        override = parsed(argument)
    except HydraException as error:
        told = _how_to_quote(key, value, sweeps) if key else "no key before the ="
        raise UserError(f"{argument}: {told or ' '.join(str(error).split())}") from error
    override_values(override)
    return override.get_key_element().lstrip("+~")


def _how_to_quote(key: str, value: str, sweeps: bool) -> str:
    """What is wrong and how to quote it; "" if quotes are not the problem."""
    if wrong := re.search(r"[^\w.@/+~:-]", key, re.ASCII):
        return f"{wrong[0]} cannot be in a key"
    parts = value.split(",")
    if "" in map(str.strip, parts) and parse_override(f"{key}=" + ",".join(filter(str.strip, parts))):
        return f"a value is missing at the comma; write several values without spaces: {key}=A,B"
    parts = parts if sweeps else [value]
    works = f"{key}=" + ",".join(map(_in_quotes, parts))
    if not (found := NEEDS_QUOTES.search(value)) or parse_override(works) is None:
        return ""
    return f"{found[0]} must be in quotes; in a shell: {shlex.quote(works)}"


def _in_quotes(text: str) -> str:
    return text if parse_override(f"x={text}") else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def split_studies(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split a sweep's arguments into study names and the rest; UserError for a sweep without names."""
    studies: list[str] = []
    others = []
    for argument in arguments:
        override = parse_override(argument)
        if override is not None and override.key_or_group == "study":
            if override.is_sweep_override() and not isinstance(override.value(), ChoiceSweep):
                raise UserError(f"{argument}: expected names of studies, separated by commas")
            studies = [option_name(value) for value in override_values(override)]
        else:
            others.append(argument)
    return studies, others


def seed_budget(overrides: Sequence[str]) -> int | None:
    """The largest number of seeds per arm with seeds=auto, else None.

    Raises:
        UserError: An invalid value, a budget without seeds=auto, or a seed with it.
    """
    words: dict[str, tuple[str, Any]] = {}
    for argument in overrides:
        override = parse_override(argument)
        if override is not None and override.key_or_group in ("seed", *AUTO_KEYS):
            words[override.key_or_group] = argument, override.value()
    word, seeds = words.get("seeds", ("", None))
    if seeds not in ("auto", None):
        raise UserError(f"{word}: must be auto or null; to choose seeds write seed=0,1,2")
    word, budget = words.get("seed_budget", ("", _default_budget()))
    if seeds is None:
        if word:
            raise UserError(f"{word}: needs seeds=auto")
        return None
    if "seed" in words:
        raise UserError(f"{words['seed'][0]}: seeds=auto chooses the seeds; leave one of them out")
    if (tuning := tuning_option(overrides)) is not None:
        raise UserError(f"tuning={tuning}: has its own fresh seeds; leave out seeds=auto")
    with as_user_error():
        require_integer("seed_budget", budget, sequential.FIRST_LOOK, LARGEST_BUDGET)
    return int(budget)


def _default_budget() -> int:
    return int(current().run_keys()["seed_budget"])


def tuning_option(overrides: Sequence[str]) -> str | None:
    """The option of conf/tuning, or None; UserError for several."""
    for argument in overrides:
        override = parse_override(argument)
        if override is not None and override.key_or_group == "tuning" and not override.is_delete():
            if override.is_sweep_override():
                raise UserError(f"{argument}: with a study only the seed can take several values")
            return option_name(override.value())
    return None


def is_tuning(argument: str) -> bool:
    return argument.lstrip("+~").partition("=")[0].partition(".")[0] == "tuning"


def split_seed(overrides: Sequence[str]) -> tuple[list[Any] | None, list[str]]:
    """Split overrides into the seeds (None if not set) and the rest without seeds=auto.

    Raises:
        UserError: An invalid or duplicate seed, or another sweep.
    """
    seeds: list[Any] | None = None
    others = []
    for argument in overrides:
        override = parse_override(argument)
        if override is not None and override.key_or_group == "seed":
            override_values(override)
            seeds = list(override.sweep_iterator()) if lists_values(override) else [override.value()]
            if not all(isinstance(seed, int) and not isinstance(seed, bool) for seed in seeds):
                raise UserError(f"{argument}: seeds must be whole numbers, separated by commas")
        elif override is not None and override.key_or_group in AUTO_KEYS:
            continue
        elif override is not None and override.is_sweep_override():
            raise UserError(f"{argument}: with a study only the seed can take several values")
        else:
            others.append(argument)
    return seeds, others


def variations(overrides: Sequence[str]) -> list[list[str]]:
    """A study's overrides for each combination of listed values, except seeds.

    Raises:
        UserError: A sweep without listed values, or too many combinations.
    """
    listed = []
    for argument in overrides:
        override = parse_override(argument)
        if (
            override is None
            or not override.is_sweep_override()
            or override.key_or_group in ("seed", "tuning")
        ):
            listed.append([argument])
            continue
        listed.append([f"{override.get_key_element()}={value}" for value in swept_values(override)])
    if (number := math.prod(map(len, listed))) > LARGEST_PRODUCT:
        raise UserError(
            f"{number} combinations; at most {LARGEST_PRODUCT} can be planned at once: split the sweep"
        )
    return [list(combination) for combination in itertools.product(*listed)]


def swept_values(override: Override) -> dict[str, Any]:
    """The values of a sweep, by how each is typed.

    Raises:
        UserError: It lists none, or the key changes no outcome.
    """
    key, typed = override.get_key_element(), override.input_line
    if not lists_values(override):
        raise UserError(f"{typed}: expected values, separated by commas")
    override_values(override)
    if is_outside_identity(key) and not (key == "results_dir" or locates_data(key)):
        raise UserError(f"{typed}: {key} does not affect results, so it cannot be swept; give one value")
    return dict(zip(override.sweep_string_iterator(), override.sweep_iterator(), strict=True))


def sweeps_choices(overrides: Sequence[str]) -> bool:
    """Whether a key other than the seed takes several values."""
    found = map(parse_override, overrides)
    return any(
        override is not None and override.is_sweep_override() and override.key_or_group != "seed"
        for override in found
    )


def changes_a_table(key: str) -> bool:
    """Whether a key changes a sweep's table: its runs or compared metrics."""
    return key == "metrics" or not is_outside_identity(key)


def sweep_output(overrides: Sequence[str]) -> str:
    """Stem of a sweep's files: a valid name, the same for the same words."""
    words = []
    for argument in overrides:
        override = parse_override(argument)
        if override is None or not changes_a_table(override.key_or_group):
            continue
        values = swept_values(override).values() if override.is_sweep_override() else [override.value()]
        words.append(f"{override.key_or_group}={','.join(map(option_name, values))}")
    text = "__".join(["sweep", *words])
    safe = re.sub(r"[^\w=.,-]", "_", text, flags=re.ASCII)
    if safe == text and len(safe) <= LONGEST_SWEEP:
        return safe
    return f"{safe[:LONGEST_SWEEP]}__{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def output_suffix(overrides: Sequence[str]) -> str:
    """Suffix of a study's files for these overrides, sorted by key, or ""."""
    seeds, others = split_seed(overrides)
    changes = [item for item in others if is_tuning(item) or not is_outside_identity(item.partition("=")[0])]
    changes.sort(key=lambda item: (is_tuning(item), item.lstrip("+~").partition("=")[0]))
    if seeds is not None:
        text = ",".join(map(str, seeds))
        if len(text) > LONGEST_SEEDS:
            digest = hashlib.sha256(text.encode()).hexdigest()[:12]
            text = f"{min(seeds)}-{max(seeds)}.n{len(seeds)}.{digest}"
        changes.append(f"seed={text}")
    if (budget := seed_budget(overrides)) is not None:
        changes += ["seeds=auto"] + ([f"seed_budget={budget}"] if budget != _default_budget() else [])
    return _shortened("".join("__" + re.sub(r"[^\w=.,-]", "_", change) for change in changes), LONGEST_SUFFIX)


def studies_suffix(names: Sequence[str]) -> str:
    """Suffix of files about several studies, or ""."""
    return _shortened("__study=" + ",".join(names), LONGEST_STUDIES) if names else ""


def _shortened(text: str, longest: int) -> str:
    """The text, or if it is too long, half of it and a hash."""
    if len(text.encode()) <= longest:
        return text
    return f"{text[: longest // 2]}__{hashlib.sha256(text.encode()).hexdigest()[:12]}"

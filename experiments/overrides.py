"""What stands with a study on the command line: seeds, tuning, and what the study is varied by."""

import hashlib
import itertools
import math
import re
import shlex
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException

from ablations.errors import UserError
from ablations.lazily import lazily
from ablations.runs.identity import is_outside_identity
from experiments.configuration import (
    is_place_of_data,
    lists_values,
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
"""What asks for as many seeds as a study's verdicts need; no run is configured with it."""

PLANNING_KEYS = ("study", "tuning", "seed", *AUTO_KEYS)
"""What is read from a command line before Hydra composes anything: as KEY=VALUE alone."""


LONGEST_SUFFIX = 90
"""Bytes of what a varied study's files have behind its name; of more half and a hash. With tuning two such
meet, and the name of a file ends at 255."""

LONGEST_STUDIES = 120
"""Bytes that the names of studies take in the name of a file about several; of more half and a hash."""

LONGEST_SWEEP = 100
"""Characters of the words in the names of files about swept choices; where there are more, a hash follows."""

LARGEST_PRODUCT = 1000
"""Configurations of a sweep over choices, seeds left out: composing one takes a tenth of a second."""

LONGEST_SEEDS = 60
"""Characters that the seeds of a varied study take in the names of its files; more are a hash."""


NEEDS_QUOTES = re.compile(r"[^\w/\-\\+.$%*@?|:, ]", re.ASCII)
"""A character that Hydra takes in quotes alone."""

GIVEN_BY_LIGHTNING = ("hydra.run.dir", "hydra.job.name", "hydra.output_subdir")
"""Keys that Lightning adds to the command when it starts the other processes of a run."""

LARGEST_BUDGET = 1000
"""Seeds per arm that seeds=auto may be given: the levels of all looks are solved before the first."""


def check_arguments(arguments: Sequence[str]) -> None:
    """Check what was typed behind a command, before any of it is used.

    Args:
        arguments: Flags, names and KEY=VALUE.

    Raises:
        UserError: What is given twice, a value that swept over is there twice, a character that must be
            quoted, or a key of `PLANNING_KEYS` that is added or deleted.
    """
    sweeps = not {"-m", "--multirun"}.isdisjoint(arguments)
    given: dict[tuple[str, bool], str] = {}
    for argument in arguments:
        key = key_of(argument, sweeps=sweeps)
        if key in PLANNING_KEYS and re.match(r"~|\+(?!\+)", argument):
            raise UserError(f"{argument}: {key} is there and stays: give {key}=VALUE")
        what = key, "=" in argument or argument.startswith("~")  # a study may be named as a group is
        if what in given and key not in GIVEN_BY_LIGHTNING:
            message = f"{given[what]} {argument}: {key} is given twice; give it once"
            if what[1] and not argument.startswith("-"):
                message += f", several values with -m as {key}=A,B, a pattern with braces as "
                message += f"'{key}=\"A-{{0..1}}\"'"
            raise UserError(message)
        given[what] = argument


def key_of(argument: str, *, sweeps: bool = False) -> str:
    """What an argument sets: the key of KEY=VALUE, or a flag or name as it is.

    Args:
        argument: As typed.
        sweeps: Whether commas separate values.

    Raises:
        UserError: It cannot be parsed, or has a value twice.
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
    """Which character is wrong and, where quotes help, the form that works; "" where that is not why."""
    if wrong := re.search(r"[^\w.@/+~:-]", key, re.ASCII):
        return f"{wrong[0]} cannot be in a key"
    parts = value.split(",") if sweeps else [value]
    works = f"{key}=" + ",".join(map(_in_quotes, parts))
    if not (found := NEEDS_QUOTES.search(value)) or parse_override(works) is None:
        return ""
    return f"{found[0]} must be in quotes; in a shell: {shlex.quote(works)}"


def _in_quotes(text: str) -> str:
    return text if parse_override(f"x={text}") else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def split_studies(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Take the names of the studies out of the arguments of a sweep.

    Raises:
        UserError: A sweep over studies that does not name them.
    """
    studies: list[str] = []
    others = []
    for argument in arguments:
        override = parse_override(argument)
        if override is not None and override.key_or_group == "study":
            if override.is_sweep_override() and not isinstance(override.value(), ChoiceSweep):
                raise UserError(f"{argument}: give the studies' names, separated by commas")
            studies = [option_name(value) for value in override_values(override)]
        else:
            others.append(argument)
    return studies, others


def seed_budget(overrides: Sequence[str]) -> int | None:
    """The largest number of seeds per arm, where overrides ask for seeds=auto; None where they do not.

    Raises:
        UserError: A value that is not allowed, a budget without seeds=auto, or a seed with it.
    """
    words: dict[str, tuple[str, Any]] = {}
    for argument in overrides:
        override = parse_override(argument)
        if override is not None and override.key_or_group in ("seed", *AUTO_KEYS):
            words[override.key_or_group] = argument, override.value()
    word, seeds = words.get("seeds", ("", None))
    if seeds not in ("auto", None):
        raise UserError(f"{word}: must be auto or null; seeds of your own: seed=0,1,2")
    word, budget = words.get("seed_budget", ("", _default_budget()))
    if seeds is None:
        if word:
            raise UserError(f"{word}: needs seeds=auto")
        return None
    if "seed" in words:
        raise UserError(f"{words['seed'][0]}: seeds=auto chooses the seeds, so it cannot be set as well")
    if (tuning := tuning_option(overrides)) is not None:
        raise UserError(f"tuning={tuning}: tuned arms meet on fresh seeds, so not with seeds=auto")

    try:
        require_integer("seed_budget", budget, sequential.FIRST_LOOK, LARGEST_BUDGET)
    except ValueError as error:
        raise UserError(str(error)) from error
    return int(budget)


def _default_budget() -> int:
    return int(current().run_keys()["seed_budget"])


def tuning_option(overrides: Sequence[str]) -> str | None:
    """The option of conf/tuning that a study's arms are to be tuned by; None where they are not.

    Raises:
        UserError: Several options.
    """
    for argument in overrides:
        override = parse_override(argument)
        if override is not None and override.key_or_group == "tuning" and not override.is_delete():
            if override.is_sweep_override():
                raise UserError(f"{argument}: with a study only the seed can take several values")
            return option_name(override.value())
    return None


def is_tuning(argument: str) -> bool:
    """Whether an override chooses how arms are tuned, or sets a value of that."""
    return argument.lstrip("+~").partition("=")[0].partition(".")[0] == "tuning"


def split_seed(overrides: Sequence[str]) -> tuple[list[Any] | None, list[str]]:
    """Take the seeds out of the overrides, and what asks for seeds=auto; refuse any other sweep.

    Returns:
        The seeds, None where none are set, and the other overrides.

    Raises:
        UserError: A seed that is none, one that is given twice, or another sweep.
    """
    seeds: list[Any] | None = None
    others = []
    for argument in overrides:
        override = parse_override(argument)
        if override is not None and override.key_or_group == "seed":
            override_values(override)
            seeds = list(override.sweep_iterator()) if lists_values(override) else [override.value()]
            if not all(isinstance(seed, int) and not isinstance(seed, bool) for seed in seeds):
                raise UserError(f"{argument}: must be whole numbers, separated by commas")
        elif override is not None and override.key_or_group in AUTO_KEYS:
            continue
        elif override is not None and override.is_sweep_override():
            raise UserError(f"{argument}: with a study only the seed can take several values")
        else:
            others.append(argument)
    return seeds, others


def variations(overrides: Sequence[str]) -> list[list[str]]:
    """What stands with a study, once for each combination of the values that it lists.

    Several seeds are no variation: a study has them all.

    Raises:
        UserError: A sweep that lists no values, or too many combinations.
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
            f"{number} combinations; at most {LARGEST_PRODUCT} can be planned at once: divide them"
        )
    return [list(combination) for combination in itertools.product(*listed)]


def swept_values(override: Override) -> dict[str, Any]:
    """The values that a sweep lists: by how each is typed, what it is.

    Raises:
        UserError: It does not list them, or what is swept over changes no outcome.
    """
    key, typed = override.get_key_element(), override.input_line
    if not lists_values(override):
        raise UserError(f"{typed}: give the values themselves, separated by commas")
    override_values(override)
    if is_outside_identity(key) and not (key == "results_dir" or is_place_of_data(key)):
        raise UserError(f"{typed}: {key} changes no outcome, so there is nothing to sweep over")
    return dict(zip(override.sweep_string_iterator(), override.sweep_iterator(), strict=True))


def sweeps_choices(overrides: Sequence[str]) -> bool:
    """Whether some key takes several values that is not the seed."""
    found = map(parse_override, overrides)
    return any(
        override is not None and override.is_sweep_override() and override.key_or_group != "seed"
        for override in found
    )


def changes_a_table(key: str) -> bool:
    """Whether a key of a sweep changes what its table shows: what a run is, or what arms are compared by."""
    return key == "metrics" or not is_outside_identity(key)


def sweep_output(overrides: Sequence[str]) -> str:
    """Stem of the files about swept choices: the same for the same words, and safe whatever their values."""
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
    """What the names of a study's files end with where it is planned with these overrides; "" for none.

    Raises:
        UserError: As `plan_study`, of the overrides alone.
    """
    seeds, others = split_seed(overrides)
    changes = [item for item in others if is_tuning(item) or not is_outside_identity(item.partition("=")[0])]
    if seeds is not None:
        text = ",".join(map(str, seeds))
        if len(text) > LONGEST_SEEDS:  # the name of a file ends at 255 characters
            digest = hashlib.sha256(text.encode()).hexdigest()[:12]
            text = f"{min(seeds)}-{max(seeds)}.n{len(seeds)}.{digest}"
        changes.append(f"seed={text}")
    if (budget := seed_budget(overrides)) is not None:
        changes += ["seeds=auto"] + ([f"seed_budget={budget}"] if budget != _default_budget() else [])
    return _shortened("".join("__" + re.sub(r"[^\w=.,-]", "_", change) for change in changes), LONGEST_SUFFIX)


def studies_suffix(names: Sequence[str]) -> str:
    """What the names of files about some studies end with; "" where none is named."""
    return _shortened("__study=" + ",".join(names), LONGEST_STUDIES) if names else ""


def _shortened(text: str, longest: int) -> str:
    """A part of a file's name; where it has more bytes, half of these and a hash."""
    if len(text.encode()) <= longest:
        return text
    return f"{text[: longest // 2]}__{hashlib.sha256(text.encode()).hexdigest()[:12]}"

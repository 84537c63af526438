"""Runs a command: reads its arguments, prints errors in one line and how a run ended."""

import codecs
import errno
import io
import os
import re
import sys
import textwrap
import unicodedata
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import hydra
import yaml
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    OmegaConfBaseException,
)

from ablations.errors import (
    RunsFailed,
    UserError,
    VerdictsDiffer,
    did_you_mean,
    first_cause,
)
from ablations.lazily import lazily
from ablations.runs.histories import metric_names
from ablations.runs.identity import OF_RECIPE
from ablations.runs.records import RunDirectory, UnreadableRecord
from ablations.runs.schema import COMPLETED, DIVERGED, FAILED
from ablations.text import amount, day_of
from experiments.configuration import quote_option_names
from experiments.errors import refused_by_hydra
from experiments.overrides import check_arguments
from experiments.project import Project, current, use

with lazily():
    from ablations.terminal import run_tables
    from experiments import plan

if TYPE_CHECKING:
    from rich.console import RenderableType

EXIT_FAILED = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130

IN_PLAIN_CHARACTERS = "ablations.in_plain_characters"
"""Name of the error handler of standard output and error."""

PLAIN = {"–": "-", "−": "-", "─": "-", "×": "x", "“": '"', "”": '"', "’": "'", "⁄": "/"}
"""ASCII for characters of tables. A lost minus would change a number."""

OF_THE_PLACE = (
    *(errno.ENOTDIR, errno.EEXIST, errno.EISDIR),
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG),
)
"""Errors that remain until the user chooses another folder."""


def main(task: Callable[[DictConfig], None], project: Project) -> int:
    """Run a task with Hydra on `sys.argv`, in a project; returns an exit code as `experiments.run.main`."""
    stopped: list[Exception] = []

    def guarded_task(config: DictConfig) -> None:
        # Outside of a sweep, Hydra would print the overrides before the error.
        try:
            with use(project):  # also in the processes of a launcher
                task(config)
        except (UserError, RunsFailed, OSError, HydraException, OmegaConfBaseException) as error:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise
            stopped.append(error)
        finally:  # a launcher's process lives on with its buffer
            sys.stdout.flush()

    def call_hydra() -> None:
        check_arguments([word for word in sys.argv[1:] if re.match("-|~|.*=", word, re.DOTALL)])
        sys.argv[1:] = quote_option_names(sys.argv[1:])
        parser = get_args_parser()
        parser.error = partial(refuse_words, parser)  # type: ignore[method-assign]
        parsed = parser.parse_args()
        for word in parsed.overrides:
            if "=" not in word and not word.startswith("~"):
                raise UserError(f"{word}: expected KEY=VALUE; write several values without spaces: KEY=A,B")
        if parsed.experimental_rerun is not None:  # Hydra would unpickle the file, which can run code
            raise UserError("--experimental-rerun: not supported; repeat the command with its overrides")
        if parsed.multirun and parsed.cfg:  # Hydra shows one configuration
            sys.argv[1:] = _of_first_run(sys.argv[1:], parsed.overrides)
        for resolver in (config_groups, example_commands):  # for --help
            OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
        decorate = hydra.main(
            version_base="1.3", config_path=str(project.conf), config_name=project.config_name
        )
        run = decorate(guarded_task)
        with refused_by_hydra("experiments.", "hydra_plugins.run_sweeper"):
            run()
        if stopped:
            raise stopped[0]

    with use(project):
        return exit_code_of(call_hydra)


def _of_first_run(words: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """Replace a sweep's overrides by those of its first run, and print them."""
    first, number = plan.first_run(overrides)
    print(f"# the first of {amount(number, 'run')}: {' '.join(first)}")
    left = list(words)
    for override in overrides:
        left.remove(override)
    return [word for word in left if word not in ("-m", "--multirun")] + first


def refuse_words(parser: ArgumentParser, message: str) -> NoReturn:
    """Raise a parser's error as a `UserError`, instead of printing its usage."""
    options = [option for action in parser._actions for option in action.option_strings]
    unknown = message.partition("unrecognized arguments: ")[2].partition(" ")[0].partition("=")[0]
    raise UserError(f"{message}{did_you_mean(unknown, options)}; see {parser.prog} --help")


def config_groups() -> str:
    """All groups with their options, a group per paragraph: "residual: false, true"."""
    lines = (f"{group}: {', '.join(current().options(group))}" for group in current().groups())
    return "\n".join(textwrap.fill(line, 79, subsequent_indent="    ") for line in lines)


def example_commands() -> str:
    """Commands with a factor and a study of this project."""
    project = current()
    model = project.default_option("model")
    studies = [file.stem for file in project.own_files("study")]
    factors = {name: project.default_option(name) for name in studies if project.is_group(name)}
    factors |= project.factors_of(model) if model in project.options("model") else {}
    swept = ["seed=0,1,2"]
    for name, default in sorted(factors.items(), key=lambda factor: len(factor[0])):
        if others := [option for option in project.options(name) if option != default]:
            swept.insert(0, f"{name}={default},{others[0]}")
            break
    examples = {"run.py": "one run", f"run.py -m {' '.join(swept)}": "a sweep, on all devices"}
    for study in sorted(studies, key=len)[:1]:
        examples[f"run.py -m study={study}"] = "a study: arms and seeds"
        examples[f"run.py -m study={study} tuning=learning_rate"] = "tune each arm first"
        examples[f"run.py -m study={study} seeds=auto"] = "add seeds until decided"
    examples |= {"-m ablations": "tables and figures", "-m ablations list": "status of every run"}
    width = max(map(len, examples)) + 2
    return "\n".join(f"  python {words:{width}}{what}" for words, what in examples.items())


def _in_plain_characters(error: UnicodeError) -> tuple[str | bytes, int]:
    """A codec's error handler: replace a character that the output lacks by the nearest one."""
    assert isinstance(error, UnicodeEncodeError)
    character, following = error.object[error.start], error.start + 1
    if "\udc80" <= character <= "\udcff":  # an undecodable byte of a file's name
        return bytes([ord(character) - 0xDC00]), following
    parts = unicodedata.normalize("NFKD", character)
    plain = "".join(PLAIN.get(part, part) for part in parts if not unicodedata.combining(part))
    return plain if plain.isascii() else "?", following


codecs.register_error(IN_PLAIN_CHARACTERS, _in_plain_characters)


def exit_code_of(command: Callable[[], None]) -> int:
    """Call a command, print its errors and return the exit code. HYDRA_FULL_ERROR=1 shows tracebacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=IN_PLAIN_CHARACTERS)
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises errors instead of printing them
    try:
        return _exit_code(command, full_error=before == "1")
    finally:  # for a Python caller
        if before is None:
            os.environ.pop("HYDRA_FULL_ERROR", None)
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


def _exit_code(command: Callable[[], None], *, full_error: bool) -> int:
    try:
        command()
        sys.stdout.flush()  # an error at exit would be lost
    except BrokenPipeError:  # the reader has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except (UserError, HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        if full_error:
            raise
        # YAML's names the file and the line.
        told = str(error) if isinstance(error, yaml.YAMLError) else explain(error)
        print(f"error: {' '.join(told.split())}", file=sys.stderr)
        return EXIT_USER_ERROR
    except RunsFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    except VerdictsDiffer as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    except OSError as error:  # a full or failing disk
        if full_error:
            raise
        goes_on = "" if error.errno in OF_THE_PLACE else "; rerun the command to continue"
        print(f"error: {error}{goes_on}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("interrupted; rerun the command to continue", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def explain(error: BaseException) -> str:
    """One line for a user error, with the allowed values if they are known."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        if "//" in error.missing_cfg_file:  # dataset=/tmp/images
            group, _, option = error.missing_cfg_file.partition("/")
            return f"{group}={option}: expected the name of an option, not a path; see python run.py --help"
        group = group or "--config-name"
        there = error.options or current().options(group)  # for an option in a list, Hydra has none
        if group == "study":  # the framework's own are of no use in another project
            there = [file.stem for file in current().own_files(group)]
        known = f"; available: {', '.join(sorted(there))}{did_you_mean(option, there)}" if there else ""
        return f"{group}={option}: no such option{known}"
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ConfigKeyError | ConfigAttributeError):
        cause = cause.__cause__
    if cause is not None and isinstance(cause.parent_node, DictConfig):
        return _unknown_key(str(cause.full_key), str(cause.key), cause.parent_node)
    text = [line.strip() for line in str(error).splitlines() if line.strip()]
    if text and re.search("No match in the defaults list|config group '.*' does not exist", text[0]):
        return _of_another_network(text[0]) or f"{text[0]} Groups: {', '.join(current().groups())}"
    if text and (several := re.match(r"Ambiguous value for argument '(.*?)=(.*)'$", text[0])):
        key, values = several.groups()
        values = re.sub(r"'([^',\\]*)'", r"\1", values)  # `quote_option_names` has added quotes
        a_list = "" if current().is_group(key) else f"; for a list write {key}=[{values}]"
        return f"{key}={values}: several values need -m (a sweep){a_list}"
    if isinstance(error, InterpolationResolutionError) and error.full_key:
        return f"{error.full_key}: {text[0]}"
    if isinstance(error, OverrideParseException):
        told = ": ".join(line for line in text if not line.startswith("See http"))
        return told if error.override is None or error.override in told else f"{error.override}: {told}"
    return text[0] if text else type(error).__name__


def _of_another_network(text: str) -> str:
    """That the chosen network lacks a factor which other networks have; "" for other errors."""
    named = re.match(r"Could not override '(.*?)'", text)
    having = [
        model for model in current().options("model") if named and named[1] in current().factors_of(model)
    ]
    if named is None or not having:
        return ""
    typed = [word for word in sys.argv[1:] if re.fullmatch(r"model=[\w.-]+", word)]
    chosen = typed[-1] if typed else "the chosen network"
    return f"{named[1]}: {chosen} has no such factor; networks with it: {', '.join(having)}"


def _unknown_key(full_key: str, key: str, node: DictConfig) -> str:
    """What to write instead of a key that its node lacks."""
    if full_key in OF_RECIPE:
        return f"{full_key}: unknown key; write recipe.{full_key}.KEY=VALUE"
    root: Any = OmegaConf.to_container(node._get_root(), resolve=False)
    everywhere = list(_values({name: value for name, value in root.items() if name != "hydra"}))
    there = [str(name) for name in node if name != "hydra"]
    before = full_key.removesuffix(key)
    near = get_close_matches(key, there, n=1)
    same = [name for name in everywhere if name.rpartition(".")[2] == key]
    if same or near:
        meant = f"; did you mean {' or '.join(same[:3]) if same else before + near[0]}?"
    else:
        meant = f"; known: {', '.join(there)}" if there else ""
    adds = f"; +{full_key}=VALUE adds an argument" if "_target_" in there else ""
    return f"unknown key {full_key}{meant}{adds}"


def _values(node: Mapping[Any, Any], before: str = "") -> Iterator[str]:
    """Dotted keys of all values that are neither nodes nor copies."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _values(value, f"{before}{key}.")
        elif not (isinstance(value, str) and "${" in value):
            yield f"{before}{key}"


def report_run(directory: RunDirectory, record: Mapping[str, Any] | None, *, trained: bool = True) -> None:
    """Print how a run ended and where its record is.

    Raises:
        RunsFailed: The run failed, or another process is training it (no record).
    """
    if record is None:
        try:
            owner = (directory.read() or {})["process"]
            who = f"process {owner['pid']} on {owner['host']}"
        except (UnreadableRecord, KeyError, TypeError):  # no record yet
            who = "another process"
        raise RunsFailed(f"run {directory.run_id} is already being trained by {who}")
    if record["status"] == FAILED:
        raise RunsFailed(f"failed: {first_cause(record['error'])}; record: {directory.record_path}")
    told = outcome(record)
    if not trained:
        status, _, result = told.partition(": ")
        device = record["device"]
        name = "CPU" if device["type"] == "cpu" else device["name"]
        told = f"already {status} on {day_of(record['finished'])} on {name}: {result}"
    print(f"{told}\nrecord: {directory.record_path}")


def outcome(record: Mapping[str, Any]) -> str:
    """How a run ended, in a line."""
    if record["status"] == COMPLETED:
        name, metrics = metric_names(record["metrics"])[0], record["metrics"]
        config = record.get("config", {})
        validation, test = (
            run_tables.measured(config, name, metrics[f"{part}_{name}"]) for part in ("val", "test")
        )
        return f"completed: validation {validation}, test {test}"
    if record["status"] == DIVERGED:
        return f"diverged: the loss was not finite after step {record['diverged_at_step']}"
    return f"failed: {first_cause(record['error'])}"


def print_table(table: "RenderableType") -> None:
    """Print a table, with a fixed width outside of a terminal."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 160
    Console(highlight=False, width=width).print(table)


def print_paths(paths: Sequence[Path]) -> None:
    for path in paths:
        print(path)

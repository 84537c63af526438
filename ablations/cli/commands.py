"""The commands of `python -m ablations COMMAND`. They read studies and records; none trains a run.

All raise UserError for an invalid choice.
"""

import argparse
import json
import os
import re
import shlex
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from rich.text import Text

from ablations.cli.reading import (
    judge,
    judged_studies,
    load_studies,
    names_and_overrides,
    require_known,
    results_folder,
    title_of,
)
from ablations.errors import RunsFailed, UserError, VerdictsDiffer, as_user_error
from ablations.files import check_writable, write_atomically
from ablations.lazily import lazily
from ablations.runs.records import RunDirectory
from ablations.runs.schema import RUNNING
from ablations.text import amount, memory_size, per_cent
from experiments.command_line import explain, print_paths, print_table, refuse_words
from experiments.overrides import variations
from experiments.project import current

with lazily():
    from ablations import metrics, outputs, validation
    from ablations.cli import dashboards, reference, reproducing
    from ablations.evidence import claims
    from ablations.evidence import reproduction as reproductions
    from ablations.evidence import timings as timing_records
    from ablations.evidence import verdicts as judging
    from ablations.report import build as report
    from ablations.runs import archive, migration
    from ablations.statistics import effects
    from ablations.studies import schema as study_schema
    from ablations.tables import reproduction as reproduction_tables
    from ablations.tables import timings as timing_tables
    from ablations.tables import verdicts as verdict_tables
    from ablations.terminal import run_tables
    from experiments import added_factor, check, planning, study_file
    from experiments import benchmark as benchmarking
    from experiments import logger as loggers
    from experiments import new_project as projects

SCHEMAS = ".schemas"
"""Default folder."""

TABLES = "tables"
"""The default command."""

PAPER_WIDTH = 3.25
"""Of a figure for a paper, in inches: one of two columns."""

HELP_WIDTH = 79
"""Columns of help, for a terminal of 80."""

OVERRIDES_HELP = "a study and the overrides of its runs; results_dir=FOLDER reads other results"
RESULTS, RESULTS_HELP = "results_dir=FOLDER", "other results than this project's"

EXAMPLE = "residual"
"""The study in examples."""


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        refuse_words(self, message)


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        words: Its words in the usage, "STUDY | KEY=VALUE".
        examples: Words after `python -m ablations`, and what they do.
        words_help: Help for its words.
    """

    help: str
    words: str
    examples: Mapping[str, str]
    run: Callable[[argparse.Namespace], None]
    add_options: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    words_help: str = OVERRIDES_HELP
    in_project: bool = True

    @property
    def of_studies(self) -> bool:
        return self.words.startswith("STUDY")

    def parser(self, name: str, epilog: str = "") -> argparse.ArgumentParser:
        examples = {study_of_project(words): what for words, what in self.examples.items()}
        called = {f"  python -m ablations {words}".rstrip(): what for words, what in examples.items()}
        parser = Parser(
            prog="python -m ablations" if name == TABLES else f"python -m ablations {name}",
            description=textwrap.fill(self.help, HELP_WIDTH),
            epilog=f"examples:\n{two_columns(called)}\n{epilog}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        words_help = self.words_help if self.words else argparse.SUPPRESS
        parser.add_argument("words", nargs="*", metavar=self.words, help=words_help)
        self.add_options(parser)
        return parser


def _file(name: str) -> Path:
    return Path(os.path.expanduser(name))  # shells do not expand --file=~/x


def study_of_project(words: str) -> str:
    """An example with a study that the project has."""
    try:
        studies = [file.stem for file in current().own_files("study")]
    except UserError:  # not in a project
        studies = []
    return words if not studies or EXAMPLE in studies else words.replace(EXAMPLE, min(studies, key=len))


def two_columns(lines: Mapping[str, str]) -> str:
    """Words and their descriptions in two columns, or one below the other if words are long."""
    width = max(map(len, lines)) + 2
    if width > HELP_WIDTH // 2:
        return "\n".join(f"{words}\n      {what}" if what else words for words, what in lines.items())
    return "\n".join(
        textwrap.fill(f"{words:{width}}{what}", HELP_WIDTH, subsequent_indent=" " * width)
        for words, what in lines.items()
    )


def each_variation(parsed: argparse.Namespace) -> list[list[str]]:
    """The words of a command, once per combination of listed values."""
    names, overrides = names_and_overrides(parsed.words)
    return [[*names, *of_one] for of_one in variations(overrides)] if names else [parsed.words]


def reproduce_studies(parsed: argparse.Namespace) -> None:
    """Write and print tables and figures; for all studies, the benchmark as well."""
    names, overrides = names_and_overrides(parsed.words)
    require_known(names, study_file.study_names(), others=COMMANDS)  # a mistyped command arrives here
    loaded = load_studies(names, overrides, asked=bool(names))
    folders = [output_folder(parsed, results_dir, "tables", "figures") for _, _, results_dir in loaded]
    paths = []
    for (study, runs, _), folder in zip(loaded, folders, strict=True):
        written = outputs.write_study(study, runs, folder, paper_width=parsed.width)
        paths += written.tables + written.figures
        print_table(written.shown)
    everything = not names and all(word.startswith("results_dir=") for word in overrides)
    for timings in timing_records.read_timings(loaded[0][2]) if everything and loaded else ():
        of_timings, shown = timing_tables.write_timings(
            timings, planning.project_benchmark(), folders[0] / "tables"
        )
        paths += of_timings
        print_table(shown)
    print_paths(paths)


def add_table_options(parser: argparse.ArgumentParser) -> None:
    def inches(text: str) -> float:
        width = float(text)
        if not 2 <= width <= 20:
            raise argparse.ArgumentTypeError(f"{text}: must be a number of inches from 2 to 20")
        return width

    add_output_option(parser)
    parser.add_argument(
        "--width",
        type=inches,
        default=PAPER_WIDTH,
        metavar="INCHES",
        help=f"width of figures for a paper, from 2 to 20 (default {PAPER_WIDTH})",
    )


def list_studies(parsed: argparse.Namespace) -> None:
    names, overrides = names_and_overrides(parsed.words)
    loaded = load_studies(names, overrides, asked=bool(names))
    for study, runs, _ in loaded:
        statuses = Counter(run.status for run in runs)
        hidden = () if statuses[RUNNING] else run_tables.OF_RUNNING
        columns = [name for name in run_tables.COLUMNS if name not in hidden]
        title = Text.assemble(f"{study.name}: ", run_tables.counts(statuses))
        print_table(run_tables.run_table(map(run_tables.RunState.of, runs), columns, title))
        print()
    for results_dir in dict.fromkeys(results_dir for _, _, results_dir in loaded):
        print(f"records: {results_dir / 'runs'}{os.sep}RUN{os.sep}record.json")


def judge_claims(parsed: argparse.Namespace) -> None:
    """Judge claims; write and print the table."""
    judged = judge(*names_and_overrides(parsed.words))
    verdicts, folder = judged.verdicts, output_folder(parsed, judged.results_dir, "tables") / "tables"
    paths = verdict_tables.write_verdicts(verdicts, judged.studies, folder, judged.suffix)
    if not parsed.quiet:
        print_table(verdict_tables.console_table(verdicts))
    print_paths(paths)


def compare_records(parsed: argparse.Namespace) -> None:
    """Compare the claims in two sets of records; write and print the table.

    Raises:
        VerdictsDiffer: A claim is not reproduced.
    """
    words, overrides = names_and_overrides(parsed.words)
    known = study_file.study_names()
    paths = [_file(word) for word in words if word not in known and _file(word).exists()]
    names = [word for word in words if _file(word) not in paths]
    require_known(names, known)
    if len(paths) > 2:
        raise UserError(f"{paths[2]}: at most two sets of records can be compared")
    with reproducing.two_sets(paths, overrides) as sets:
        if sets is None:
            print(
                f"no reference: {current().reference} has no records; name a results folder or a "
                "records.tar.xz to compare with"
            )
            return
        found = reproducing.reproduce(names, overrides, *sets)
    called = sets[0].name, sets[1].name
    folder = output_folder(parsed, results_folder(overrides), "tables")
    path = reproduction_tables.write_reproduction(found, called, folder / "tables")
    print_table(reproduction_tables.console_table(found, called))
    print_paths([path])
    if lost := [one.claim.id for one in found if one.outcome == reproductions.NOT_REPRODUCED]:
        raise VerdictsDiffer(f"not reproduced: {', '.join(lost)}")


def print_verdicts(names: Sequence[str], overrides: Sequence[str]) -> None:
    """Print the verdicts on these studies; write nothing.

    Any error is printed in one line, because the sweep itself has succeeded.
    """
    try:
        verdicts = judge(names, overrides).verdicts
        if verdicts:
            print()
            print_table(verdict_tables.console_table(verdicts))
    except Exception as error:
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        print(f"no verdicts: {kind}{explain(error)}", file=sys.stderr)


def add_verdict_options(parser: argparse.ArgumentParser) -> None:
    add_output_option(parser)
    parser.add_argument("--quiet", action="store_true", help="print only the paths of the files")


def benchmark_networks(parsed: argparse.Namespace) -> None:
    options = benchmarking.parse_options(parsed.words)
    benchmarking.benchmark(options)
    found = timing_records.read_timings(options.results_dir)
    timings = next(one for one in found if one.output == options.output)
    paths, shown = timing_tables.write_timings(timings, options.defined, options.results_dir / "tables")
    print_table(shown)
    print_paths(paths)


def publish_results(parsed: argparse.Namespace) -> None:
    """Log tables, figures and report page as a W&B run."""
    if find_spec("wandb_workspaces") is None:
        raise UserError("wandb_workspaces is not installed: pip install 'xception-ablations[dashboards]'")

    names, overrides = names_and_overrides(parsed.words)
    judged, studies = judged_studies(names, overrides)
    locations = [word for word in overrides if re.match(r"\+*(results_dir|logger)\b", word)]
    with planning.hydra_configuration():
        logger = planning.compose_runs(locations)[0].resolved["logger"]
    if logger.get("backend") is None:
        raise UserError("dashboards need logger=wandb; leave logger out")
    with as_user_error():
        check.check_logger(logger, modes=("offline", "online"))
    if not loggers.is_logged(logger):
        raise UserError("WANDB_DISABLED is set, so nothing is logged to W&B; unset it")
    name = f"dashboards{judged.suffix}"
    check_writable(f"logger.dir={logger['dir']}", Path(logger["dir"]), [f"wandb/{name}"])
    folder = Path(logger["dir"]) / "wandb" / name
    online = logger["mode"] == "online"
    destination = dashboards.Destination(
        logger["project"], logger["entity"], online, folder, title_of(overrides)
    )
    print_paths([dashboards.publish(judged, studies, overrides, destination)])
    if not destination.online:
        print("not sent; `make wandb-sync` uploads it, logger.mode=online also saves a W&B report")


def report_page(parsed: argparse.Namespace) -> None:
    names, overrides = names_and_overrides(parsed.words)
    from rich.console import Console

    working = Console(stderr=True).status("reading records")  # nothing outside of a terminal
    with working:
        judged, studies = judged_studies(names, overrides)
        folder = output_folder(parsed, judged.results_dir, "report")
        counted = amount(len({run.run_id for _, runs in studies for run in runs}), "run")
        working.update(f"writing {amount(len(studies), 'study', 'studies')}, {counted}")
        page = report.build_report(judged, studies, overrides, title_of(overrides))
    print_paths([report.write_report(page, folder / "report", judged.suffix)])


def new_project(parsed: argparse.Namespace) -> None:
    """Write a new project; print its files and the next commands."""
    if len(parsed.words) != 1:
        raise UserError(
            f"new {' '.join(parsed.words)}".rstrip() + ": expected one name: ablations new my_paper"
        )
    folder = Path(parsed.words[0])
    print_paths(projects.create_project(folder))
    print(f"\nnext:\n  cd {shlex.quote(str(folder))}\n  python run.py -m study=attention")


def pack_records(parsed: argparse.Namespace) -> None:
    results_dir = results_folder(_only_folder(parsed.words))
    path, runs = archive.pack(results_dir, output_folder(parsed, results_dir, ""))
    print(f"{path}: {amount(runs, 'run')}")


def unpack_records(parsed: argparse.Namespace) -> None:
    results_dir = results_folder(_only_folder(parsed.words), may_be_new=True)
    check_writable(f"results_dir={results_dir}", results_dir, ["runs", "tuning"])
    file = parsed.file or current().reference / archive.FILE_NAME
    if not file.exists():
        where = "" if parsed.file else "; name one with --file=FILE"
        raise UserError(f"{file}: no such records archive{where}")
    new, there = archive.unpack(file, results_dir)
    print(f"{results_dir / 'runs'}: {amount(new, 'run')} unpacked, {there} already there")


def output_folder(parsed: argparse.Namespace, results_dir: Path, *within: str) -> Path:
    """Where a command writes: --output, or the results folder; UserError if it may not."""
    asked, hint = f"--output {parsed.output}", ""
    if parsed.output is None:
        asked, hint = f"results_dir={results_dir}", "; choose another with --output FOLDER"
    folder: Path = parsed.output or results_dir
    if current().reference.resolve() in (folder.resolve(), *folder.resolve().parents):
        raise UserError(f"{asked}: only `python -m ablations reference` writes there{hint}")
    check_writable(asked, folder, within, hint)
    return folder


def add_output_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output", type=_file, metavar="FOLDER", help="write here instead of the results folder"
    )


def free_checkpoints(parsed: argparse.Namespace) -> None:
    results_dir = results_folder(_only_folder(parsed.words))
    freed = []
    for path in sorted(results_dir.glob("runs/*/checkpoint.ckpt")):
        with (directory := RunDirectory(results_dir, path.parent.name)).lock() as held:
            if held and (size := directory.free_checkpoint()):
                freed.append(size)
    print(f"{results_dir / 'runs'}: {amount(len(freed), 'checkpoint')} deleted, {memory_size(sum(freed))}")


def migrate_records(parsed: argparse.Namespace) -> None:
    """Update records of older schemas, give them a factor added later, or accept one edited by hand.

    Raises:
        RunsFailed: Records cannot be updated.
    """
    factors = [word for word in parsed.words if not word.startswith("results_dir=")]
    results_dir = results_folder([word for word in parsed.words if word not in factors])
    if len(factors) > 1 or (factors and (parsed.accept is not None or "=" not in factors[0])):
        raise UserError(f"{factors[-1]}: expected one FACTOR=OPTION, without --accept")
    if parsed.accept is not None:
        return migration.accept(results_dir, parsed.accept)
    if factors:
        group, _, option = factors[0].partition("=")
        migrated, problems = added_factor.add_factor(results_dir, group, option)
    else:
        migrated, problems = migration.migrate(results_dir)
    print(f"{results_dir / 'runs'}: {amount(migrated, 'record')} updated")
    if problems:
        raise RunsFailed("\n".join([f"{amount(len(problems), 'record')} could not be updated:", *problems]))


def write_schemas(parsed: argparse.Namespace) -> None:
    """Write the JSON schemas of what users write and print their paths."""
    if len(parsed.words) > 1:
        raise UserError(f"{parsed.words[1]}: expected one folder")
    folder = _file(parsed.words[0] if parsed.words else SCHEMAS)
    check_writable(str(folder), folder, [])
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, schema in (
        ("study", study_schema.STUDY),
        ("claims", claims.CLAIMS),
        ("tuning", study_schema.TUNING),
        ("metric", metrics.METRIC),
        ("benchmark", study_schema.BENCHMARK_FILE),
    ):
        paths.append(folder / f"{name}.json")
        write_atomically(paths[-1], json.dumps(validation.json_schema(schema), indent=2) + "\n")
    print_paths(paths)


def tell_power(parsed: argparse.Namespace) -> None:
    """Print the seeds needed for an effect, and the power of fewer and more."""
    if parsed.words:
        raise UserError(f"{parsed.words[0]}: power takes only options: --effect and --spread")
    if parsed.comparisons < 1:
        raise UserError(f"--comparisons {parsed.comparisons}: must be at least 1")
    effect, margin, alpha = parsed.effect, parsed.margin, parsed.alpha / parsed.comparisons
    power_of = partial(effects.power_of, effect=effect, spread=parsed.spread, alpha=alpha, margin=margin)
    with as_user_error():
        seeds = effects.needed_seeds(effect, parsed.spread, power=parsed.power, alpha=alpha, margin=margin)
    if seeds is None and margin >= abs(effect):
        raise UserError(
            f"--margin {margin:g}: must be below {abs(effect):g}, the size of --effect, or half of all means "
            "do not reach it"
        )
    if seeds is None:
        raise UserError(f"--effect {effect:g}: needs more than {effects.MOST_SEEDS:,} seeds at this spread")
    print(f"With {seeds} seeds per arm, a claim holds with a probability of {per_cent(power_of(seeds), 0)}")
    for number in sorted({judging.MIN_PAIRS, max(judging.MIN_PAIRS, seeds // 2), seeds, 2 * seeds}):
        print(f"{number:>7} seeds: {per_cent(power_of(number), 0)}")
    print("It holds if its interval excludes zero and the mean difference reaches")
    print(f"the margin, {margin:g}. For normal differences with this mean and standard")
    print("deviation; the intervals of seeds=auto are wider.")


def add_power_options(parser: argparse.ArgumentParser) -> None:
    numbers = {
        "--effect": (None, "true mean difference, above the margin"),
        "--spread": (None, "standard deviation of the paired differences"),
        "--margin": (0.0, "the claim's margin, which the mean is to reach (default 0: any difference)"),
        "--power": (0.8, "probability that the claim holds (default 0.8)"),
        "--alpha": (0.05, "probability of a wrong verdict (default 0.05)"),
    }
    for name, (default, told) in numbers.items():
        parser.add_argument(
            name, required=default is None, default=default, type=float, metavar="NUMBER", help=told
        )
    parser.add_argument(
        "--comparisons",
        type=int,
        default=1,
        metavar="NUMBER",
        help="comparisons that share alpha (default 1)",
    )


def add_migrate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--accept", metavar="RUN", help="accept your edits of this run's record")


def add_unpack_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--file", type=_file, help="records archive (default: that of results/reference)")


def renew_reference(parsed: argparse.Namespace) -> None:
    folder, results_dir = current().reference, results_folder(_only_folder(parsed.words))
    check_writable(str(folder), folder, [""])
    varied = [shlex.split(words) for words in parsed.also]
    written = reference.write_reference(folder, results_dir, varied, force=parsed.force)
    print(f"{written.folder}: {amount(written.studies, 'study', 'studies')}, {amount(written.runs, 'run')}")


def add_reference_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="WORDS",
        help="add studies, with overrides or without, quoted; may be repeated",
    )
    parser.add_argument("--force", action="store_true", help="even with fewer completed runs than before")


def _only_folder(words: Sequence[str]) -> list[str]:
    """The words of a command that takes only results_dir=FOLDER."""
    if others := [word for word in words if not word.startswith("results_dir=")]:
        raise UserError(f"{others[0]}: this command takes only results_dir=FOLDER")
    return list(words)


STUDY_WORDS = "STUDY | KEY=VALUE"

COMMANDS: Mapping[str, Command] = {
    TABLES: Command(
        "Write tables and figures of studies from the records.",
        STUDY_WORDS,
        {
            "": "all studies except those marked only_by_name",
            "residual": "one study",
            "residual recipe.epochs=12 seed=0,1,2": "a study with overrides",
            "recipe.optimizer.lr=0.05,0.1 seed=0,1": "a sweep without a study",
            "residual --width 6.75": "with figures for a paper 6.75 inches wide",
            "residual tuning=learning_rate": "a study with tuned arms, and every trial",
            "residual seeds=auto": "a study with added seeds",
        },
        reproduce_studies,
        add_table_options,
    ),
    "list": Command(
        "List every planned run of the studies with its status.",
        STUDY_WORDS,
        {"list": "all studies except those marked only_by_name", "list residual": "one study"},
        list_studies,
    ),
    "verdicts": Command(
        "Judge the claims of conf/claims by the records.",
        "STUDY | benchmark | KEY=VALUE",
        {
            "verdicts": "every claim",
            "verdicts residual": "the claims about one study",
            "verdicts residual recipe.epochs=12": "the same for a study with overrides",
        },
        judge_claims,
        add_verdict_options,
    ),
    "reproduce": Command(
        "Compare your records with the reference, or any two sets of records, claim by claim.",
        "STUDY | KEY=VALUE | FOLDER | ARCHIVE",
        {
            "reproduce": "yours with results/reference; exit with 1 if a claim is not reproduced",
            "reproduce residual": "the claims about one study",
            "reproduce theirs/records.tar.xz": "yours with a colleague's",
            "reproduce one/results other/records.tar.xz": "two sets",
        },
        compare_records,
        add_output_option,
        words_help="studies, overrides, and up to two sets of records",
    ),
    "report": Command(
        "Write the report page: verdicts, curves, tables and runs in one HTML file.",
        STUDY_WORDS,
        {
            "report": "all studies; those marked only_by_name once complete",
            "report residual": "one study, in its own file",
            "report residual recipe.epochs=12": "a study with overrides",
        },
        report_page,
        add_output_option,
    ),
    "power": Command(
        "Estimate how many seeds a verdict needs, before any run.",
        "",
        {
            "power --effect 0.004 --spread 0.006": "0.4 points at a spread of 0.6",
            "power --effect 0.006 --spread 0.006 --margin 0.004": "for a claim with a margin of 0.4 points",
            "power --effect 0.004 --spread 0.006 --comparisons 3": "for a study with three comparisons",
        },
        tell_power,
        add_power_options,
        in_project=False,
    ),
    "pack": Command(
        "Pack the records of all finished runs into results/records.tar.xz, without checkpoints.",
        RESULTS,
        {"pack": "the runs in results/runs"},
        pack_records,
        add_output_option,
        words_help=RESULTS_HELP,
    ),
    "unpack": Command(
        "Unpack records into results/runs; existing runs stay.",
        RESULTS,
        {
            "unpack": "the committed records, results/reference",
            "unpack --file records.tar.xz results_dir=theirs": "someone else's records",
        },
        unpack_records,
        add_unpack_options,
        words_help=RESULTS_HELP,
    ),
    "reference": Command(
        "Write results/reference, which is committed: tables, figures, verdicts, report, records.",
        RESULTS,
        {
            "reference": "all studies except those marked only_by_name",
            "reference --also 'residual seed=0,1'": "and a study with other seeds",
        },
        renew_reference,
        add_reference_options,
        words_help=RESULTS_HELP,
    ),
    "migrate": Command(
        "Update records of older versions of this code or of your networks.",
        f"FACTOR=OPTION | {RESULTS}",
        {
            "migrate": "the runs in results/runs",
            "migrate pool=max": "a factor added later: all runs before it had this option",
            "migrate --accept 0123456789ab": "accept your edits of this record",
        },
        migrate_records,
        add_migrate_options,
        words_help=f"a factor added later, and the option that older runs had; {RESULTS_HELP}",
    ),
    "free": Command(
        "Delete the checkpoints of completed and diverged runs.",
        RESULTS,
        {"free": "the runs in results/runs; weights are lost, results stay"},
        free_checkpoints,
        words_help=RESULTS_HELP,
    ),
    "new": Command(
        "Write your own project: a folder with a working network, factor, study and claim.",
        "NAME",
        {"new my_paper": "in the new folder my_paper"},
        new_project,
        words_help="the new folder",
        in_project=False,
    ),
    "schema": Command(
        "Write JSON schemas of studies, claims, tunings, metrics and the benchmark, for an editor.",
        "FOLDER",
        {"schema": f"into {SCHEMAS}", "schema ../schemas": "into another folder"},
        write_schemas,
        words_help=f"where to write (default {SCHEMAS})",
        in_project=False,
    ),
    "benchmark": Command(
        "Measure size and speed of networks on this device: conf/benchmark.yaml.",
        "KEY=VALUE",
        {
            "benchmark": "",
            "benchmark rounds=12": "more rounds, for narrower intervals",
            "benchmark against=timm,torchvision": "compared with the libraries' networks",
            "benchmark batch_size=8 image_size=96 seconds=1 rounds=3": "a shorter one",
        },
        benchmark_networks,
        words_help="models, image_size, batch_size, rounds, seconds, against, ... or an override of the "
        "networks; results_dir=FOLDER writes elsewhere",
    ),
    "dashboards": Command(
        "Log tables, figures and report page as a W&B run; online, also save a W&B report.",
        STUDY_WORDS,
        {
            "dashboards": "write to results/wandb, send nothing",
            "dashboards residual": "one study",
            "dashboards logger.mode=online": "send to your account",
            "dashboards logger.mode=online logger.entity=TEAM": "send to a team",
        },
        publish_results,
    ),
}

"""`python -m ablations` on records that were made up for the planned runs of the studies."""

import csv
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra
from jsonschema import ValidationError, validate

from ablations import __main__ as command
from ablations.cli import commands
from ablations.cli.commands import COMMANDS, print_verdicts
from ablations.cli.reading import names_and_overrides
from experiments.plan import plan_sweep
from experiments.planned_run import PlannedRun
from experiments.planning import hydra_configuration, plan_study
from experiments.project import Project, current, use
from experiments.study_file import project_claims, study_names
from tests.few_studies import copy_few_studies
from tests.ours import FILES

pytestmark = pytest.mark.slow  # plans whole studies or builds many networks

TABLE_FORMS = (".csv", ".md", ".tex", "_slim.tex")


@pytest.fixture
def runs(results_dir: Path) -> list[PlannedRun]:
    """The planned runs of the residual study."""
    with hydra_configuration():
        return plan_study("residual", [f"results_dir={results_dir}"])[1]


def listed(shown: str) -> list[list[str]]:
    """The rows of `list`, as cells up to the run's name; a device stands behind it."""
    found = (re.match(r"(.*  [0-9a-f]{12})(  |$)", line) for line in shown.splitlines())
    return [re.split("  +", row[1].strip()) for row in found if row]


@pytest.fixture
def few_studies(tmp_path: Path) -> Iterator[None]:
    """Commands know three studies and the claims about them."""
    copy_few_studies(tmp_path / "project")
    with use(Project(tmp_path / "project")):
        yield


@pytest.mark.usefixtures("few_studies")
def test_list_of_nothing(call, results_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("list") == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "residual: 0 of 24 completed" in shown.out
    assert "intermediate_activation: 0 of 36 completed" in shown.out
    planned = sum(map(int, re.findall(r": 0 of (\d+) completed", shown.out)))
    statuses = [row[2] for row in listed(shown.out)]
    assert statuses.count("missing") == len(statuses) == planned > 24 + 36
    assert not results_dir.exists()


def test_list_of_every_status(call, runs, write_run, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(runs[0].configuration)
    write_run(runs[1].configuration, "diverged", epochs=2)
    write_run(runs[2].configuration, "failed")
    write_run(runs[3].configuration, "running", epochs=3)
    write_run(runs[4].configuration, "running", epochs=1)
    with runs[3].directory.lock():
        assert call("list", "residual") == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "residual: 1 of 24 completed, 1 diverged, 1 failed, 1 running, 20 missing" in shown.out
    assert "intermediate_activation" not in shown.out
    header = next(line for line in shown.out.splitlines() if line.startswith("arm "))
    assert header.split() == [
        "arm",
        "seed",
        "status",
        "epoch",
        "validation",
        "steps/s",
        "time",
        "left",
        "run",
        "device",
    ]
    cells = listed(shown.out)
    speed = f"{94 * 3 / 0.75:.0f}"
    assert [row[:-2] for row in cells[:6]] == [
        ["residual", "0", "completed", "6/6", "top-1 50.0%", "6.50"],
        ["residual", "1", "diverged", "2/6", "–", "6.50"],
        ["residual", "2", "failed", "0/6", "–", "–"],
        ["residual", "3", "running", "3/6", "top-1 53.0%", speed],
        ["residual", "4", "missing", "1/6", "–", "6.50"],
        ["residual", "5", "missing", "–", "–", "–"],
    ]
    assert [row[-2] for row in cells[:6]] == ["–", "–", "–", "0 s", "–", "–"]  # three epochs of 0.25 s
    assert [row[-1] for row in cells] == [run.run_id for run in runs]
    assert f"records: {runs[0].directory.path.parent}/RUN/record.json" in shown.out


def test_list_shows_shared_runs_in_both_studies(
    call, runs, write_run, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(runs[0].configuration)  # the baseline of both
    assert call("list", "residual", "intermediate_activation") == 0
    shown = capsys.readouterr().out
    assert "residual: 1 of 24 completed" in shown
    assert "intermediate_activation: 1 of 36 completed" in shown
    assert shown.count("record.json") == 1


def test_a_corrupt_record_is_named_left_and_missing(
    call, runs, write_run, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in runs:
        write_run(run.configuration)
    path = runs[7].directory.record_path
    path.write_bytes(b'{"status": "compl')
    assert call("list", "residual") == 0
    shown = capsys.readouterr()
    assert "residual: 23 of 24 completed" in shown.out
    assert [row[2] for row in listed(shown.out)].count("missing") == 1
    assert shown.err.count("\n") == 1
    assert str(path) in shown.err
    assert path.read_bytes() == b'{"status": "compl'


@pytest.mark.parametrize("words", [("nope",), ("residual", "nope")])
def test_an_unknown_study(
    call, words: tuple[str, ...], results_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    known = ", ".join(study_names())
    assert shown.err == f"error: study=nope: no such study; available: {known}\n"
    assert not results_dir.exists()


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (("lst",), "list"),
        (("verdicts", "--quite"), "--quiet"),
    ],
)
def test_an_error_names_the_nearest_word(
    call, words: tuple[str, ...], near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert f"; did you mean {near}?" in shown.err
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("residual", "residual=true"), "error: residual: the arms of study=residual differ in it"),
        (("list", "residual", "residual"), "error: residual residual: duplicate residual"),
        (("benchmark", "steps=2", "steps=3"), "error: steps=2 steps=3: duplicate steps"),
        (("unpack", "--file=a", "--file=b"), "error: --file --file: duplicate --file"),
        (("unpack", "--file=/no/such"), "error: /no/such: no such records archive"),
        (("residual", "results_dir=/no/such"), "error: results_dir=/no/such: no such folder"),
        (("free", "results_dir=/no/such"), "error: results_dir=/no/such: no such folder"),
    ],
)
def test_bad_input_is_a_line(
    call, words: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*words) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(line)
    assert shown.err.count("\n") == 1


def test_results_that_cannot_be_written(call, results_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results_dir.write_text("a file")
    assert call("residual") == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"error: results_dir={results_dir}: cannot be written")
    assert shown.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "place"),
    [((), "figures"), (("verdicts",), "tables"), (("report",), "report")],
)
def test_what_cannot_be_written_with_the_results_can_be_written_elsewhere(
    call,
    runs,
    write_run,
    results_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: tuple[str, ...],
    place: str,
) -> None:
    write_run(runs[0].configuration)
    (results_dir / place).write_text("a file")
    assert call(*command, "residual") == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"error: results_dir={results_dir}: cannot be written")
    assert "--output" in shown
    assert shown.count("\n") == 1
    elsewhere = tmp_path / "elsewhere"
    assert call(*command, "residual", "--output", str(elsewhere)) == 0
    assert list((elsewhere / place).iterdir())
    assert sorted(path.name for path in results_dir.iterdir()) == sorted([place, "runs"])
    assert str(elsewhere / place) in capsys.readouterr().out
    assert call(*command, "residual", "--output", str(results_dir / place)) == 2
    assert capsys.readouterr().err.startswith(f"error: --output {results_dir / place}: cannot be written")


@pytest.mark.parametrize("words", [("--output", "FOLDER"), ("results_dir=FOLDER",)])
def test_only_one_command_writes_the_reference(
    call, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (current().reference, current().reference / "tables"):
        assert call("residual", *(word.replace("FOLDER", str(folder)) for word in words)) == 2
        assert "only `python -m ablations reference` writes there" in capsys.readouterr().err


def test_reproduce_writes_tables_and_figures_from_what_there_is(
    call, runs, write_run, results_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in runs[:-1]:
        write_run(run.configuration)
    write_run(runs[1].configuration, "diverged", epochs=2)
    corrupt = runs[8].directory.record_path
    corrupt.write_text("{")
    records = {path: path.read_bytes() for path in results_dir.rglob("*") if path.is_file()}

    assert call("residual") == 0
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert str(corrupt) in shown.err
    paths = [Path(line) for line in shown.out.splitlines()[-7:]]
    assert {path.relative_to(results_dir).as_posix() for path in paths} == {
        *(f"tables/figure09_residual{form}" for form in TABLE_FORMS),
        *(f"figures/figure09_residual.{suffix}" for suffix in ("png", "svg", "pdf")),
    }
    assert all(path.stat().st_size > 100 for path in paths)
    with (results_dir / "tables" / "figure09_residual.csv").open(newline="") as file:
        rows = {row["arm"]: row for row in csv.DictReader(file)}
    counts = ("n_completed", "n_planned", "n_diverged", "n_missing")
    assert [rows["residual"][name] for name in counts] == ["5", "6", "1", "0"]
    assert [rows["non_residual"][name] for name in counts] == ["5", "6", "0", "1"]
    # top-1 is 0.50, 0.52, ... by seed; seed 1 diverged and counts as chance.
    mean = (0.50 + 0.1 + 0.52 + 0.53 + 0.54 + 0.55) / 6
    assert float(rows["residual"]["val_top1_mean"]) == pytest.approx(mean, abs=1e-6)
    assert {path: path.read_bytes() for path in records} == records


def test_reproduce_of_a_varied_study_has_files_of_its_own(
    call, results_dir: Path, write_run, capsys: pytest.CaptureFixture[str]
) -> None:
    with hydra_configuration():
        _, runs = plan_study("residual", [f"results_dir={results_dir}", "seed=0,1", "recipe.epochs=2"])
    for run in runs:
        directory = write_run(run.configuration)
        with directory.diagnostics_path.open("a", encoding="utf-8") as file:
            file.write("gradient_norm,stem.conv1.conv,1,4,1,1,0.5\n")
        record = directory.read()
        assert record is not None
        directory.write(record)  # with the checksum of what is measured now
    assert call("residual", "seed=0,1", "recipe.epochs=2") == 0
    assert capsys.readouterr().err == ""
    assert (results_dir / "tables" / "figure09_residual__recipe.epochs=2__seed=0,1.csv").exists()
    assert not (results_dir / "tables" / "figure09_residual.csv").exists()
    # What the runs measured is a table as well.
    made = {path.name for path in results_dir.rglob("*") if path.is_file()}
    stem = "figure09_residual__recipe.epochs=2__seed=0,1"
    assert {f"{stem}_mechanism.csv", f"{stem}_mechanism.md"} <= made


@pytest.fixture
def judged(runs, write_run) -> list[PlannedRun]:
    """The residual study's runs, those without residual connections 20 to 25 points lower in test."""
    for run in runs:
        lower = (0.2 + 0.01 * run.seed) * (run.arm == "non_residual")
        metrics = {f"{part}_{name}": 0.8 - lower for name in ("top1", "top5") for part in ("val", "test")}
        write_run(run.configuration, metrics=metrics)
    return runs


def test_verdicts_of_one_study(call, judged, results_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("verdicts", "residual") == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert re.search(r"^residual-final: holds$", shown.out, re.M)
    assert "order" not in shown.out
    name = "verdicts__study=residual"
    assert shown.out.splitlines()[-4:] == [
        str(results_dir / "tables" / f"{name}{form}") for form in TABLE_FORMS
    ]
    with (results_dir / "tables" / f"{name}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["claim"] for row in rows} >= {"residual-final", "residual-speed", "residual-tuning"}
    assert {row["study"] for row in rows} == {"residual"}
    assert float(rows[0]["estimate"]) == pytest.approx(0.225)


@pytest.mark.usefixtures("few_studies")
def test_all_verdicts_in_the_papers_order(
    call, judged, results_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("verdicts") == 0
    assert capsys.readouterr().err == ""
    with (results_dir / "tables" / "verdicts.csv").open(newline="") as file:
        found = {row["claim"]: row["verdict"] for row in csv.DictReader(file)}
    assert list(found) == [claim.id for claim in project_claims()]
    assert found["residual-final"] == "holds"
    assert found["residual-tuning"] == "not testable"  # no trial has run
    assert found["size"] == found["speed"] == "inconclusive"


def test_verdicts_of_a_varied_study_have_files_of_their_own(
    call, results_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("verdicts", "residual", "seed=0,1", "recipe.epochs=2") == 0
    assert capsys.readouterr().err == ""
    names = sorted(path.name for path in (results_dir / "tables").iterdir())
    stem = "verdicts__study=residual__recipe.epochs=2__seed=0,1"
    assert names == [f"{stem}{form}" for form in TABLE_FORMS]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ("verdicts", "benchmark", "seed=0"),
            "error: benchmark: takes no overrides except results_dir=",
        ),
    ],
)
def test_bad_input_of_verdicts_is_a_line(
    call, words: tuple[str, ...], line: str, results_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*words) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(line)
    assert shown.err.count("\n") == 1
    assert not results_dir.exists()


def test_quiet_verdicts_are_paths_alone(
    call, judged, results_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("verdicts", "residual", "--quiet") == 0
    stem = results_dir / "tables" / "verdicts__study=residual"
    assert capsys.readouterr().out.splitlines() == [f"{stem}{form}" for form in TABLE_FORMS]


def test_verdicts_of_a_sweep_are_printed_and_not_written(
    judged, results_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with hydra_configuration():  # as in a sweep
        before = GlobalHydra.instance().hydra
        print_verdicts(["residual"], [f"results_dir={results_dir}"])
        assert GlobalHydra.instance().hydra is before
    shown = capsys.readouterr()
    assert shown.err == ""
    assert re.search(r"^residual-final: holds$", shown.out, re.M)
    assert not (results_dir / "tables").exists()


def test_what_keeps_verdicts_from_being_judged_is_a_line(
    results_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("no pairs\nat all")

    monkeypatch.setattr(commands, "judge", broken)
    print_verdicts(["residual"], [])
    assert capsys.readouterr() == ("", "no verdicts: ZeroDivisionError: no pairs\n")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("residual", "report"), "error: report: a command comes first"),
        (("--output", "report", "none"), "error: study=none: no such study"),  # report is a folder
    ],
)
def test_the_first_word_alone_is_a_command(
    call, words: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*words) == 2
    assert capsys.readouterr().err.startswith(line)


def test_words_in_any_order() -> None:
    words = ["residual", "--output", "there", "seed=0,1", "benchmark", "--quiet"]
    parsed = COMMANDS["verdicts"].parser("verdicts").parse_intermixed_args(words)
    assert names_and_overrides(parsed.words) == (["residual", "benchmark"], ["seed=0,1"])
    assert (parsed.output, parsed.quiet) == (Path("there"), True)


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_has_examples_that_the_command_takes(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ablations", *filter(None, [name]), "--help"])
    with pytest.raises(SystemExit) as stopped:
        command.main()
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert all(len(line) < 80 for line in shown.splitlines())
    examples = re.findall(r"^  python -m ablations(.*?)(?:  .*)?$", shown, re.M)
    assert len(examples) >= 1
    for example in examples:
        words = [word for word in example.split() if word != name]
        COMMANDS[name or "tables"].parser(name or "tables").parse_intermixed_args(words)
    assert all(f"  {other}" in shown for other in COMMANDS if not name)


def test_report(call, runs, write_run, results_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for run in runs[:3]:
        write_run(run.configuration)
    assert call("report", "residual") == 0
    path = results_dir / "report" / "index__study=residual.html"
    assert capsys.readouterr().out == f"{path}\n"
    page = path.read_text(encoding="utf-8")
    assert "With residual connections the final accuracy is higher." in page
    assert "3 of 24 runs completed" in page
    assert page.count('<section class="view" id="study-') == 1
    assert all(run.run_id in page for run in runs)


@pytest.mark.usefixtures("few_studies")
def test_report_of_everything(call, results_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("report") == 0
    assert capsys.readouterr().out == f"{results_dir / 'report' / 'index.html'}\n"
    page = (results_dir / "report" / "index.html").read_text(encoding="utf-8")
    for claim in project_claims():
        assert f'id="claim-{claim.id}"' in page
    assert page.count('<section class="view" id="study-') >= len(study_names(unasked=True))


def test_report_of_a_study_that_does_not_exist(call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("report", "residuals") == 2
    assert "study=residuals: no such study" in capsys.readouterr().err


def test_schemas_for_editors_take_the_files_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ablations", "schema", str(tmp_path / "new")])
    assert command.main() == 0
    paths = [Path(line) for line in capsys.readouterr().out.split()]
    written = {path.stem: json.loads(path.read_text()) for path in paths}
    assert written.keys() == {"study", "claims", "tuning", "metric", "benchmark"}
    for name, schema in written.items():
        files = [file for file in FILES if name in (file.parent.name, file.stem)]
        assert files
        for file in files:
            validate(yaml.safe_load(file.read_text()), schema)
        with pytest.raises(ValidationError, match="targt"):
            validate(yaml.safe_load(files[0].read_text()) | {"targt": 1}, schema)


def test_swept_choices_have_table_and_figure(
    call, write_run, results_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["recipe.epochs=2,3", "recipe.optimizer.lr=0.05,0.1", "seed=0,1"]
    with hydra_configuration():
        for run in plan_sweep([*words, f"results_dir={results_dir}"]):
            write_run(run.configuration)
    assert call(*words) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    stem = "sweep__recipe.epochs=2,3__recipe.optimizer.lr=0.05,0.1__seed=0,1"
    table = results_dir / "tables" / f"{stem}.csv"
    assert {str(table), str(results_dir / "figures" / f"{stem}.png")} <= set(shown.out.splitlines())
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert [row["label"] for row in rows] == [
        f"epochs={epochs}, lr={rate}" for epochs in (2, 3) for rate in (0.05, 0.1)
    ]
    assert [row["n_completed"] for row in rows] == ["2"] * 4
    assert [row["n_pairs"] for row in rows] == ["0", "2", "2", "2"]
    assert call("list", *words) == 0
    assert f"{stem}: 8 of 8 completed" in " ".join(capsys.readouterr().out.split())
    assert call("report", *words) == 0
    page = results_dir / "report" / f"index__{stem}.html"
    assert "run.py -m recipe.epochs=2,3" in page.read_text(encoding="utf-8")
    assert call("verdicts", *words) == 2
    assert "name one" in capsys.readouterr().err


def test_a_study_varied_by_a_list_has_files_of_each(call, results_dir: Path) -> None:
    assert call("residual", "recipe.epochs=2,3", "seed=0") == 0
    names = {path.name for path in (results_dir / "tables").glob("*.csv")}
    assert names == {f"figure09_residual__recipe.epochs={epochs}__seed=0.csv" for epochs in (2, 3)}

"""What the user sees: errors in a line with what is allowed, exit codes, how a run ended."""

import os
import re
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hydra.errors import HydraException
from omegaconf import DictConfig

from ablations.errors import RunsFailed, UserError
from ablations.runs.records import RunDirectory
from experiments.command_line import (
    config_groups,
    exit_code_of,
    explain,
    main,
    outcome,
    print_table,
    report_run,
)
from experiments.configuration import RunConfiguration
from experiments.planning import compose_runs, hydra_configuration
from experiments.project import FRAMEWORK_CONF, Project, current, use

PROJECT = Project(Path(__file__).resolve().parents[2])


@pytest.fixture(autouse=True)
def environment_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    # Set first, so that what a command sets is undone.
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["residual=maybe"], "residual=maybe: no such option; available: false, projections, true"),
        (["hydra/launcher=nope"], "hydra/launcher=nope: no such option; available: basic, "),
        (["recipe.epoch=3"], "unknown key recipe.epoch; did you mean recipe.epochs?\n"),
        (["nonsense=true"], "unknown key nonsense; known: "),
        (["resid@x=true"], "Override resid@x=true looks like a config group override, but config group "),
        (["seed={"], "seed={: no viable alternative at input '{'"),
        (["+seed=1"], "Could not append to config. An item is already at 'seed'."),
        (["~nothing"], "Could not delete from config. 'nothing' does not exist."),
        (["seed=0,1"], "seed=0,1: several values need -m (a sweep); for a list write seed=[0,1]"),
        (["model.width=${nope}"], "model.width: Interpolation key 'nope' not found"),
        (["seed=???"], "Missing mandatory value: seed"),
    ],
)
@pytest.mark.usefixtures("hydra")
def test_an_error_of_hydra_is_a_line_and_exit_code_2(
    overrides: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code_of(lambda: compose_runs(overrides) and None) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"error: {line}")
    assert shown.err.count("\n") == 1
    assert "hydra: " not in shown.err


@pytest.mark.usefixtures("hydra")
def test_an_unknown_group_is_told_with_the_groups() -> None:
    with pytest.raises(HydraException) as raised:
        compose_runs(["resid@x=true"])
    folders = {path.name for path in FRAMEWORK_CONF.iterdir() if path.is_dir()}
    groups = sorted(folders - {"claims", "hydra", "metric"})
    assert explain(raised.value).endswith(f" Groups: {', '.join(groups)}")


def test_a_factor_of_another_network_is_told_with_the_networks_that_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = "defaults:\n  - /attention@_global_.attention: none\n  - _self_\n_target_: torch.nn.Identity\n"
    for file, text in (("model/mine", declared), ("attention/none", "null"), ("attention/se", "{}")):
        path = tmp_path / "conf" / f"{file}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    words = ["model=xception_small", "attention=se"]
    monkeypatch.setattr(sys, "argv", ["run.py", *words])
    with use(Project(tmp_path)), hydra_configuration():
        with pytest.raises(HydraException) as raised:
            compose_runs(words)
        line = explain(raised.value)
    assert line == "attention: model=xception_small has no such factor; networks with it: mine"


def test_an_error_without_words() -> None:
    assert explain(UserError()) == "UserError"
    assert explain(UserError("seed=-1: must be more\nand more")) == "seed=-1: must be more"


def raising(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


def test_a_sweep_shows_the_configuration_of_its_first_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, pytest.fail, "-m", "residual=false", "seed=3,4", "--cfg", "job") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("# the first of 2 runs: residual='false' seed=3")
    assert yaml.safe_load(shown)["seed"] == 3


@pytest.mark.parametrize(
    ("error", "code", "shown"),
    [
        (UserError("seed=-1: must be more"), 2, "error: seed=-1: must be more\n"),
        (RunsFailed("1 of 2 runs failed:\n  a"), 1, "error: 1 of 2 runs failed:\n  a\n"),
        (yaml.YAMLError("not closed\n  in a.yaml, line 2"), 2, "error: not closed in a.yaml, line 2\n"),
        (KeyboardInterrupt(), 130, "interrupted; rerun the command to continue\n"),
        (
            OSError(28, "No space left on device"),
            1,
            "error: [Errno 28] No space left on device; rerun the command to continue\n",
        ),
    ],
)
def test_exit_codes(error: BaseException, code: int, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(raising(error)) == code
    assert capsys.readouterr() == ("", shown)


def test_who_reads_only_the_first_lines_sees_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert exit_code_of(lambda: print("what nobody reads")) == 1
    monkeypatch.undo()
    assert capsys.readouterr() == ("", "")


def test_exit_code_of_what_works() -> None:
    assert exit_code_of(lambda: None) == 0


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        exit_code_of(raising(ZeroDivisionError()))


def test_hydra_full_error_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    assert exit_code_of(raising(UserError("x"))) == 2
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(UserError):
        exit_code_of(raising(UserError("x")))
    assert exit_code_of(raising(RunsFailed("x"))) == 1


# main: Hydra in this process, with a task that only looks


def call(monkeypatch: pytest.MonkeyPatch, task: Callable[[DictConfig], None], *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
    return main(task, PROJECT)  # whichever folder the test works in


def test_main_hands_the_composed_configuration_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[DictConfig] = []
    assert call(monkeypatch, seen.append, "residual=false", "seed=3") == 0
    (config,) = seen
    assert config.seed == 3
    assert config.residual._target_ == "lightning_modules.networks.blocks.no_shortcut"
    assert Path(os.getcwd()) == tmp_path
    assert list(tmp_path.iterdir()) == []  # Hydra writes nothing of its own
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("words", [("residual=true,", "false"), ("seed=0,,1",)])
def test_a_space_in_a_sweep_is_a_line(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, pytest.fail, "-m", *words) == 2
    assert re.fullmatch(
        r"error: \S+: .*write several values without spaces: \w+=A,B\n", capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("error", "code", "shown"),
    [
        (
            OSError(28, "No space left on device", "record.json"),
            1,
            "error: [Errno 28] No space left on device: 'record.json'; rerun the command to continue\n",
        ),
        (KeyboardInterrupt(), 130, "interrupted; rerun the command to continue\n"),
    ],
)
def test_main_words_the_errors_of_a_run(
    error: BaseException,
    code: int,
    shown: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def task(config: DictConfig) -> None:
        raise error

    assert call(monkeypatch, task, "seed=1") == code
    assert capsys.readouterr() == ("", shown)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["-m", "study=residual", "residual=true"], "residual: the arms of study=residual differ in it"),
        (["~seed=1"], "~seed=1: seed can be neither added nor deleted"),
        (["-m", "~study=residual"], "~study=residual: study can be neither added nor deleted"),
        (["hydra/launcher=2"], ""),
        (["--experimental-rerun", "nope"], "--experimental-rerun: not supported"),
        (["--cfg", "nope"], "argument --cfg/-c: invalid choice: 'nope'"),
        (["--multirum"], "unrecognized arguments: --multirum; did you mean --multirun?"),
        (["hydra.run.dir=/proc/nope"], "invalid command line: FileNotFoundError"),
        (["-m", "seed=range(1,2,0)"], "seed=range(1,2,0): must be range(start, stop, step) of finite"),
        (["-m", "study=residual", "seed=range(50000)"], "study=residual: 200,000 runs; at most 100,000"),
    ],
)
def test_main_refuses_before_the_task(
    arguments: list[str],
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)

    def task(config: DictConfig) -> None:
        raise AssertionError("not to be called")

    assert call(monkeypatch, task, *arguments) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(f"error: {line}")
    assert shown.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_bug_in_a_task_or_a_sweep_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def task(config: DictConfig) -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        call(monkeypatch, task, "seed=1")
    monkeypatch.setattr("experiments.plan.plan_sweep", task)
    with pytest.raises(KeyError, match="a bug"):
        call(monkeypatch, task, "-m", "seed=1,2")


# How a run ended


def test_report_of_every_outcome(
    configuration: RunConfiguration, write_run, capsys: pytest.CaptureFixture[str]
) -> None:
    for status, line in [
        ("completed", "completed: validation top-1 53.0%, test top-1 43.0%"),
        ("diverged", "diverged: the loss was not finite after step 17"),
    ]:
        directory = write_run(configuration, status)
        record = directory.read()
        assert outcome(record) == line
        report_run(directory, record)
        assert capsys.readouterr().out == f"{line}\nrecord: {directory.record_path}\n"
    directory = write_run(configuration, "failed")
    record = directory.read()
    assert outcome(record) == "failed: OSError: disk full"
    with pytest.raises(RunsFailed) as raised:
        report_run(directory, record)
    assert str(raised.value) == f"failed: OSError: disk full; record: {directory.record_path}"


def test_a_failure_is_named_by_its_first_cause(configuration: RunConfiguration, write_run) -> None:
    try:
        try:
            raise OSError("no worker\nstarts")
        except OSError as cause:
            try:
                raise ValueError("a batch cannot be read") from cause
            finally:
                raise RuntimeError("during teardown")
    except RuntimeError:
        error = traceback.format_exc()
    record = write_run(configuration, "failed", error=error).read()
    assert re.fullmatch(r"failed: OSError: no worker \(.*test_command_line.py, line \d+\)", outcome(record))


QUOTED = """Caught KeyError in DataLoader worker process 0.
Original Traceback (most recent call last):
  File "worker.py", line 351, in _worker_loop
    data = fetcher.fetch(index)
KeyError: 'label'
"""


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (
            "CUDA error: device-side assert triggered\nCompile with `X`.\n",
            "CUDA error: device-side assert triggered",
        ),
        ("Error(s) in loading:\n\tMissing key(s): a.\n\tb", "Error(s) in loading: Missing key(s): a."),
        ('graph break\n\nfrom user code:\n   File "n.py", line 3\n    y = x\n\nSet VERBOSE=1', "graph break"),
        (QUOTED, None),
    ],
)
def test_a_failure_is_named_by_the_first_line_of_its_message(
    configuration: RunConfiguration, write_run, message: str, shown: str | None
) -> None:
    try:
        raise RuntimeError(message)
    except RuntimeError:
        error = traceback.format_exc()
    record = write_run(configuration, "failed", error=error).read()
    assert outcome(record).startswith(
        f"failed: RuntimeError: {shown} (" if shown else "failed: KeyError: 'label' ("
    )


@pytest.mark.parametrize("status", ["completed", "diverged"])
def test_a_run_that_had_ended_before_is_not_reported_as_just_trained(
    configuration: RunConfiguration, write_run, capsys: pytest.CaptureFixture[str], status: str
) -> None:
    """It may be of another device than the one that was asked for."""
    directory = write_run(configuration, status)
    gpu = {"type": "cuda", "name": "NVIDIA H200", "threads": 1}
    for device, name in ((None, "CPU"), (gpu, "NVIDIA H200")):
        record = directory.read()
        assert record is not None
        record |= {"device": device or record["device"], "finished": "2026-11-07T23:10:00+00:00"}
        report_run(directory, record, trained=False)
        first, second = capsys.readouterr().out.splitlines()
        result = outcome(record).partition(": ")[2]
        assert first == f"already {status} on 7 Nov 2026 on {name}: {result}"
        assert second == f"record: {directory.record_path}"


def test_outcome_shows_the_main_metric_of_the_run(configuration: RunConfiguration, write_run) -> None:
    metrics = {"val_loss": 1.0, "val_map100": 0.5, "test_loss": 1.0, "test_map100": 0.4}
    record = write_run(configuration, metrics=metrics).read()
    assert outcome(record) == "completed: validation MAP@100 50.0%, test MAP@100 40.0%"


def test_report_of_a_run_that_another_process_holds(configuration: RunConfiguration, write_run) -> None:
    directory = RunDirectory(configuration.results_dir, configuration.run_id)
    with pytest.raises(RunsFailed, match="is already being trained by another process"):
        report_run(directory, None)
    write_run(configuration, "running")
    with pytest.raises(RunsFailed, match="is already being trained by process 12345 on somewhere"):
        report_run(directory, None)
    directory.record_path.write_text("{")
    with pytest.raises(RunsFailed, match="is already being trained by another process"):
        report_run(directory, None)


def test_a_table_is_not_cut_where_the_output_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    table = Table()
    table.add_column("directory")
    table.add_row("results/runs/" + "x" * 120)
    print_table(table)
    assert "x" * 120 in capsys.readouterr().out


def test_claims_are_no_group() -> None:
    assert (FRAMEWORK_CONF / "claims").is_dir()
    assert not current().is_group("claims")
    assert current().is_group("model")
    assert current().is_group("hydra/output")
    assert not re.search("^(claims|hydra):", config_groups(), re.MULTILINE)
    assert re.search(r"^residual: false, .*true$", config_groups(), re.MULTILINE)


@pytest.mark.parametrize("value", [None, "0"])
def test_a_command_leaves_the_environment_as_it_was(
    value: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    if value is not None:
        monkeypatch.setenv("HYDRA_FULL_ERROR", value)
    seen = []

    def command() -> None:
        seen.append(os.environ["HYDRA_FULL_ERROR"])
        raise UserError("no")

    assert exit_code_of(command) == 2
    assert (seen, os.environ.get("HYDRA_FULL_ERROR")) == (["1"], value)
    assert capsys.readouterr().err == "error: no\n"


PRINTS = """
import sys
from experiments.command_line import exit_code_of
sys.exit(exit_code_of(lambda: print("−0.5 – 1 × 2 “é” ⅓ 漢", "a\\udcffb")))
"""


def test_an_output_that_lacks_a_character_gets_the_nearest() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    result = subprocess.run([sys.executable, "-c", PRINTS], env=environment, capture_output=True)
    assert (result.returncode, result.stderr, result.stdout) == (
        0,
        b"",
        b'-0.5 - 1 \xd7 2 "\xe9" 1/3 ? a\xffb\n',
    )

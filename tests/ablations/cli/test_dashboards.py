"""What goes to W&B, read back from the run that it writes and from what a server on this machine gets."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import wandb_workspaces.reports.v2 as wr

from ablations.cli.dashboards import Destination, Written, make_report, publish
from ablations.errors import UserError
from ablations.evidence.claims import Claim, Comparison
from ablations.evidence.verdicts import Judged, judge_study
from lightning_modules.wandb_logging import TolerantWandbLogger
from tests.ablations.wandb_server import ENTITY, WandbServer, serve


@pytest.fixture(autouse=True)
def no_account(isolated_wandb):
    """No test here asks a server but that of `server`."""


@pytest.fixture
def server(monkeypatch) -> Iterator[WandbServer]:
    """A server that takes everything, and an account there."""
    import wandb

    with serve() as listening:
        monkeypatch.setenv("WANDB_BASE_URL", listening.url)
        monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
        wandb.teardown()
        yield listening
        wandb.teardown()


@pytest.fixture
def judged(residual_study, make_runs, results_dir) -> Judged:
    """One study whose runs were logged, but for one, and the verdicts on it."""
    runs = []
    for run in make_runs(residual_study):
        logger = {"group": "residual", "job_type": run.arm}
        record = {**run.record, "config": {**run.record["config"], "logger": logger}}
        record["wandb_run_id"] = None if run.run_id == "with-5" else f"wandb-{run.run_id}"
        runs.append(replace(run, record=record, directory=results_dir / "runs" / run.run_id))
    pair = Comparison({"with": 1.0, "without": -1.0}, "test_top1", "higher", 0.004)
    claims = (Claim("final", "It ends higher.", "Me", "residual", (pair,)),)
    verdicts = tuple(judge_study(claims, residual_study, runs))
    return Judged(verdicts, claims, ((residual_study, runs),), results_dir, "__study=residual")


@pytest.fixture
def destination(results_dir) -> Destination:
    return Destination("xception-ablations", None, False, results_dir / "wandb" / "dashboards", "My paper")


def records_of(folder: Path, kind: str) -> list[Any]:
    """What W&B wrote of a kind into the folder of a run."""
    (run,) = folder.glob("*.wandb")
    inspect = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(run)]
    lines = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout.splitlines()
    return [record[kind] for record in map(json.loads, lines) if record["type"] == kind]


def files_below(folder: Path) -> dict[str, Path]:
    return {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_offline_a_run_holds_all_results(judged, destination, results_dir, capfd):
    folder = publish(judged, judged.studies, [], destination)
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in results_dir.rglob("offline-run-*")] == [folder.name]
    assert all(path.is_relative_to(destination.folder) for path in results_dir.rglob("*") if path.is_file())

    written = {
        name: path
        for name, path in files_below(destination.folder).items()
        if name.partition("/")[0] in ("tables", "figures", "report")
    }
    (artifact,) = [one for one in records_of(folder, "artifact") if one["type"] == "results"]
    entries = {entry["path"]: Path(entry["local_path"]) for entry in artifact["manifest"]["contents"]}
    sent = {name: path.read_bytes() for name, path in entries.items()}
    assert sent == {name: path.read_bytes() for name, path in written.items()}
    assert {"tables/figure09_residual.csv", "figures/figure09_residual.png"} <= set(entries)
    logged = {key.partition(".")[0] for one in records_of(folder, "history") for key in one["item"]}
    shown = {name.rpartition(".")[0] for name in entries if name.endswith((".csv", ".png"))}
    assert shown | {"report"} == {key for key in logged if not key.startswith("_")}

    ((study, runs),) = judged.studies
    fewer = replace(judged, studies=((study, runs[:-2]),))
    again = publish(fewer, fewer.studies, [], destination)
    assert {path.name for path in results_dir.rglob("offline-run-*")} == {folder.name, again.name}
    assert "figure09_residual.csv: replaced; " in capfd.readouterr().err
    assert {name: path.read_bytes() for name, path in entries.items()} == sent  # not yet, but by `wandb sync`


def blocks_of(view) -> list[Any]:
    return json.loads(view["spec"])["blocks"]


@pytest.mark.slow
def test_online_the_run_is_sent_and_the_same_report_saved(judged, destination, server, capfd):
    online = replace(destination, online=True)
    publish(judged, judged.studies, [], online)
    sent = {path.rpartition("/storage/artifacts/")[2]: content for path, content in server.files.items()}
    for kind in ("tables", "figures", "report"):
        for path in (destination.folder / kind).iterdir():
            assert sent[f"results__study-residual/{kind}/{path.name}"] == path.read_bytes()

    (view,) = server.variables("upsertView")
    assert (view["entityName"], view["projectName"], view["id"]) == (ENTITY, "xception-ablations", None)
    titles = [block["children"][0]["text"] for block in blocks_of(view) if block["type"] == "heading"]
    assert titles == [
        *("Claims and verdicts", "Residual connections"),
        *("Curves by arm", "Verdicts", "Figures", "Table"),
    ]
    curves, figures = [block["metadata"] for block in blocks_of(view) if block["type"] == "panel-grid"]
    ((_, runs),) = judged.studies
    logged = [run for run in runs if run.record["wandb_run_id"]]
    assert {
        of_arm["name"]: sorted(of_arm["filters"]["filters"][0]["value"]) for of_arm in curves["runSets"]
    } == {
        label: sorted(run.record["wandb_run_id"] for run in logged if run.arm == arm)
        for arm, label in (
            ("with", "with residual connections (baseline)"),
            ("without", "without residual connections"),
        )
    }
    (run,) = {variables["name"] for variables in server.variables("UpsertBucket")}
    assert figures["runSets"][0]["filters"]["filters"][0]["value"] == [run]
    assert "reports/" in capfd.readouterr().err

    publish(judged, judged.studies, [], online)
    assert [view["id"] for view in server.variables("upsertView")] == [None, "Vmlldzox"]
    server.refuses = {"upsertView"}
    with pytest.raises(UserError, match=r"^W&B failed: .*upsertView refused"):
        publish(judged, judged.studies, [], online)


@pytest.mark.slow
def test_curves_are_of_what_runs_log(judged, make_classifier, make_trainer, tiny_data, tmp_path):
    logger = TolerantWandbLogger(
        mode="offline", entity=None, project="p", folder=tmp_path, run_id="0123abcd", name="a run",
        group=None, job_type=None, tags=[], config={},
    )  # fmt: skip
    trainer, data = make_trainer(1, logger=logger), tiny_data()
    trainer.fit(make_classifier(), data)
    trainer.test(trainer.lightning_module, data, verbose=False)
    logger.finish(succeeded=True)
    (folder,) = tmp_path.glob("wandb/offline-run-*")
    history = {key for one in records_of(folder, "history") for key in one["item"]}
    final = {key for one in records_of(folder, "summary") for key in one["update"]}

    written = Written([], {"residual": []}, Path("index.html"))
    report = make_report(judged, judged.studies, written, "a-run", "p", "e")
    (curves,) = [block for block in report.blocks if isinstance(block, wr.PanelGrid)]
    lines = [panel for panel in curves.panels if isinstance(panel, wr.LinePlot)]
    bars = {
        metric.name for panel in curves.panels if isinstance(panel, wr.BarPlot) for metric in panel.metrics
    }
    assert {panel.x for panel in lines} == {"trainer/global_step"}
    assert {"val/top1", "val/loss"} <= {key for panel in lines for key in panel.y} <= history
    assert bars == {"test/top1"} <= final


@pytest.mark.slow
def test_the_command_says_where_the_run_is(call, results_dir, capfd):
    assert call("dashboards", "residual", "seed=0") == 0
    folder = Path(capfd.readouterr().out.splitlines()[0])
    assert len(records_of(folder, "exit")) == 1
    assert [path.name for path in results_dir.iterdir()] == ["wandb"]


def test_where_wandb_is_switched_off_nothing_is_written(call, results_dir, monkeypatch, capfd):
    monkeypatch.setenv("WANDB_DISABLED", "true")
    assert call("dashboards", "residual", "seed=0") == 2
    assert capfd.readouterr().err.splitlines()[-1].startswith("error: WANDB_DISABLED is set")
    assert not results_dir.exists()


def test_what_cannot_be_is_one_line(call, results_dir, capfd):
    assert call("dashboards", "residual", "seed=0", "logger.mode=online") == 2
    message = "logger.mode=online: no W&B account is configured; run `wandb login` first"
    assert capfd.readouterr().err.splitlines()[-1] == f"error: {message}"
    assert not results_dir.exists()

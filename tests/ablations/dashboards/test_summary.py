"""The summary run: what it holds, read back record by record and as a server gets it."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ablations.dashboards import commands
from ablations.dashboards.links import offline_runs
from ablations.dashboards.summary import Summary, write_summary_run
from ablations.errors import UserError
from ablations.evidence.claims import load_claims
from ablations.evidence.verdicts import judge_study
from ablations.reading import Judged
from tests.ablations.dashboards.conftest import only, records_of
from tests.ablations.dashboards.server import ENTITY


@pytest.fixture
def verdicts(studies):
    """On the claims about both studies."""
    claims = load_claims()
    return tuple(verdict for study, runs in studies for verdict in judge_study(claims, study, runs))


@pytest.fixture
def judged(studies, verdicts, results_dir, monkeypatch) -> Judged:
    """What the commands find, without planning every study."""
    found = Judged(verdicts, (), tuple(studies), results_dir, "")
    monkeypatch.setattr(commands, "judge", lambda names, overrides: found)
    monkeypatch.setattr(commands, "_every_study", lambda names, overrides, judged: list(judged.studies))
    return found


def artifacts_of(records) -> dict[str, dict[str, dict]]:
    """Per artifact that a person logged: entry per file of its manifest."""
    logged = [content for content in only(records, "artifact") if content["type"] != "run_table"]
    return {
        content["name"]: {entry["path"]: entry for entry in content["manifest"]["contents"]}
        for content in logged
    }


@pytest.mark.slow
def test_offline_it_holds_tables_figures_and_records(judged, call, place, results_dir, studies, capfd):
    """All that the command writes; written again, it is the same."""
    assert call("dashboards") == 0
    shown = capfd.readouterr()
    (run,) = offline_runs(place.folder)
    report = place.own / "report.json"
    lines = shown.out.splitlines()
    assert lines[:2] == [str(run.folder), str(report)]
    assert lines[2].startswith("not sent: ")
    assert shown.err == ""
    spec = json.loads(report.read_text(encoding="utf-8"))
    assert run.wandb_id in json.dumps(spec)
    assert not list(place.own.glob(".writing-*"))

    records = records_of(run.folder)
    (head,) = only(records, "run")
    assert (head["run_id"], head["run_group"], head["job_type"]) == (run.wandb_id, "summary", "summary")
    assert head["config"]["update"]["studies"] == [study.name for study, _ in studies]
    assert [end.get("exit_code", 0) for end in only(records, "exit")] == [0]

    found = artifacts_of(records)
    assert set(found) == {"tables", "figures", "records"}
    for kind in ("tables", "figures"):
        files = {path.name: path for path in (results_dir / kind).iterdir()}
        assert set(found[kind]) == set(files)
        for name, entry in found[kind].items():  # copies, which stay as they are
            assert Path(entry["local_path"]).read_bytes() == files[name].read_bytes()
    runs = {run.run_id: run for _, of_study in studies for run in of_study if run.record}
    expected = {f"{run_id}/{name}" for run_id in runs for name in ("record.json", "metrics.csv")}
    assert set(found["records"]) - {f"{run_id}/diagnostics.csv" for run_id in runs} == expected
    for path, entry in found["records"].items():
        assert Path(entry["local_path"]).read_bytes() == (results_dir / "runs" / path).read_bytes()

    media = {key for content in only(records, "history") for key in content["item"]}
    media = {key.rpartition(".")[0] for key in media}  # each with what is told of its file
    for study, _ in studies:
        assert {f"figures/{study.output}", f"tables/{study.output}"} <= media
    assert "tables/verdicts" in media

    content = report.read_bytes()
    assert call("dashboards") == 0
    assert offline_runs(place.folder) == [run]
    assert report.read_bytes() == content


@pytest.mark.slow
def test_online_it_is_sent_once_and_the_report_is_the_same_one(
    judged, call, place, server, results_dir, capfd
):
    assert call("dashboards", "logger.mode=online") == 0
    shown = capfd.readouterr()
    assert shown.err == ""
    address = shown.out.splitlines()[-1]
    assert re.fullmatch(
        f"{server.url}/{ENTITY}/xception-ablations/reports/Xception-ablations--Vmlldzox", address
    )
    (view,) = server.variables("upsertView")
    sent = json.loads((place.own / "report.json").read_text(encoding="utf-8"))
    assert json.loads(view["spec"]) == sent["spec"]
    assert {key: view[key] for key in ("projectName", "displayName", "description", "type")} == {
        key: sent[key] for key in ("projectName", "displayName", "description", "type")
    }
    assert (view["entityName"], view["id"]) == (ENTITY, None)
    (run,) = offline_runs(place.folder)
    assert run.mark.exists()
    prefix = "/storage/artifacts/"
    got = {path.removeprefix(prefix): content for path, content in server.files.items() if prefix in path}
    for kind in ("tables", "figures"):
        for path in (results_dir / kind).iterdir():
            assert got[f"{kind}/{path.name}"] == path.read_bytes()
    records = {path: content for path, content in got.items() if path.endswith("/record.json")}
    assert len(records) == sum(1 for path in (results_dir / "runs").iterdir())
    for path, content in records.items():
        assert content == (results_dir / "runs" / path.removeprefix("records/")).read_bytes()

    asked = len(server.variables("UpsertBucket"))
    server.refuses = {"upsertView"}
    assert call("dashboards", "logger.mode=online") == 2
    assert len(server.variables("UpsertBucket")) == asked
    assert [view["id"] for view in server.variables("upsertView")] == [None, "Vmlldzox"]
    (line,) = capfd.readouterr().err.splitlines()
    assert re.fullmatch("error: W&B did not take the report: upsertView refused; without .* is made", line)


def test_online_without_an_account_nothing_is_written(judged, call, results_dir, place, capfd):
    assert call("dashboards", "logger.mode=online") == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    assert re.fullmatch("error: no W&B API key: .*\n", shown.err)
    assert not place.folder.exists()


def test_without_the_extra_one_line(judged, call, place, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    assert call("dashboards") == 2
    assert "pip install 'xception-ablations[dashboards]'" in capfd.readouterr().err
    assert not place.folder.exists()


@pytest.fixture
def summary(tmp_path) -> Summary:
    """Of three small files."""
    files = {}
    for kind, name in (("tables", "verdicts.csv"), ("figures", "a.png"), ("records", "r/record.json")):
        path = tmp_path / kind
        path.write_text(f"the content of {name}")
        files[kind] = {name: path}
    return Summary("__study=residual", files, {"residual": ["a"]}, "/xception-ablations")


def test_what_wandb_cannot_write_is_one_line(place, summary, monkeypatch):
    def init(**_):
        raise RuntimeError("the service did not start")

    monkeypatch.setattr("wandb.init", init)
    with pytest.raises(UserError, match=r"^W&B could not write the summary run: the service did not start$"):
        write_summary_run(place, summary)
    assert offline_runs(place.folder) == []
    assert not list(place.own.glob(".writing-*"))


def test_the_id_is_of_the_content_and_the_place(summary):
    first = summary.run_id
    assert first == replace(summary).run_id
    assert re.fullmatch("summary-[0-9a-f]{12}", first)
    assert summary.artifact_name("tables") == "tables__study-residual"
    others = [
        replace(summary, project="team/other").run_id,
        replace(summary, suffix="").run_id,
        replace(summary, files={**summary.files, "records": {}}).run_id,
    ]
    summary.files["records"]["r/record.json"].write_text("other content")
    assert len({first, summary.run_id, *others}) == 5


def test_one_that_is_there_is_not_written_again(place, summary, write_offline, monkeypatch):
    monkeypatch.setattr("wandb.init", None)
    folder = write_offline(summary.run_id)
    run, new = write_summary_run(place, summary)
    assert (run.folder, new) == (folder, False)

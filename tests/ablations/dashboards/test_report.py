"""The report's specification: sections, sets of runs, panels; its metrics are those that runs log."""

import json
import re

import pytest

from ablations.dashboards.place import find_place
from ablations.dashboards.report import make_report, specification
from ablations.dashboards.summary import Summary, figure_key
from ablations.evidence.verdicts import judge_study
from lightning_modules.wandb_logging import TolerantWandbLogger
from tests.ablations.dashboards.conftest import SEEDS, WRITTEN, only, records_of


@pytest.fixture
def summary(tmp_path):
    """One figure of each study, one table."""
    path = tmp_path / "a-file"
    path.write_text("some content")
    files = {"tables": {"verdicts.csv": path}, "figures": {"a.png": path}, "records": {"r/record.json": path}}
    outputs = {"residual": ["figure09_residual"], "intermediate_activation": ["figure10"]}
    return Summary("", files, outputs, "/xception-ablations")


@pytest.fixture
def spec(place, studies, summary):
    """The specification as it would be sent, read back from JSON."""
    return json.loads(json.dumps(specification(make_report(place, studies, (), summary))))


def text_of(block) -> str:
    return block.get("content") or "".join(child.get("text", "") for child in block["children"])


def sections(spec) -> dict[str, list]:
    """Blocks below each heading of the first level."""
    found, current = {}, []
    for block in spec["spec"]["blocks"]:
        if block["type"] == "heading" and block["level"] == 1:
            current = found.setdefault(text_of(block), [])
        else:
            current.append(block)
    return found


def grids(blocks) -> list:
    return [block["metadata"] for block in blocks if block["type"] == "panel-grid"]


def test_a_section_per_study(spec):
    assert list(sections(spec)) == [
        "Claims and verdicts",
        "Residual connections",
        "Intermediate activation",
        "Summary run",
    ]
    assert spec["projectName"] == "xception-ablations"
    assert spec["entityName"] is None
    for title in ("Residual connections", "Intermediate activation"):
        below = [text_of(block) for block in sections(spec)[title] if block["type"] == "heading"]
        assert below == ["Curves by arm", "Figures", "Table"]


def test_an_arm_is_the_runs_that_its_records_name(spec, studies):
    for study, runs in studies:
        curves, _ = grids(sections(spec)[study.title])
        labels = {arm.name: arm.label for arm in study.arms}
        expected = {
            labels[arm] + (" (baseline)" if arm == study.baseline else ""): sorted(
                run.record["wandb_run_id"]
                for run in runs
                if run.arm == arm and run.record and run.record["wandb_run_id"]
            )
            for arm in WRITTEN[study.name]
        }
        found = {}
        for runset in curves["runSets"]:
            (condition,) = runset["filters"]["filters"]
            assert (condition["key"], condition["op"]) == ({"section": "run", "name": "name"}, "IN")
            assert runset["grouping"] == [{"section": "run", "name": "jobType"}]
            found[runset["name"]] = sorted(condition["value"])
        assert found == expected
        assert sorted(map(len, found.values())) == [len(SEEDS) - 1, len(SEEDS)]


def test_shared_runs_say_as_what_they_were_logged(spec):
    blocks = sections(spec)["Intermediate activation"]
    (table,) = [text_of(block) for block in blocks if "set of runs" in text_of(block)]
    (row,) = [line for line in table.splitlines() if line.startswith("| none")]
    assert [cell.strip() for cell in row.strip("|").split("|")][-1] == "residual / residual"


def test_a_study_without_a_logged_run_says_so(place, studies, summary):
    (study, _), other = studies
    blocks = sections(specification(make_report(place, [(study, []), other], (), summary)))[study.title]
    assert len(grids(blocks)) == 1  # the figures
    assert "No run of this study was logged to W&B." in map(text_of, blocks)
    assert len(grids(sections(specification(make_report(place, [other], (), summary)))[other[0].title])) == 2


def test_verdicts_stand_in_all_and_with_their_study(place, studies, summary):
    from ablations.evidence.claims import load_claims

    claims = load_claims()
    verdicts = [verdict for study, runs in studies for verdict in judge_study(claims, study, runs)]
    found = sections(specification(make_report(place, studies, verdicts, summary)))
    every = "".join(text_of(block) for block in found["Claims and verdicts"])
    for verdict in verdicts:
        own = next(study.title for study, _ in studies if study.name == verdict.claim.study)
        row = re.compile(rf"\| {re.escape(verdict.claim.id)} .*\| {verdict.verdict} ")
        assert row.search(every)
        for title, blocks in found.items():
            if title not in ("Claims and verdicts", "Summary run"):
                shown = row.search("".join(map(text_of, blocks)))
                assert bool(shown) == (title == own)


def test_figures_and_tables_are_those_of_the_summary_run(spec, studies, summary):
    for study, _ in studies:
        grid = grids(sections(spec)[study.title])[-1]
        (runset,) = grid["runSets"]
        assert runset["filters"]["filters"][0]["value"] == [summary.run_id]
        (panel,) = grid["panelBankSectionConfig"]["panels"]
        assert panel["config"]["mediaKeys"] == [figure_key(name) for name in summary.outputs[study.name]]
    (grid,) = grids(sections(spec)["Summary run"])
    assert "tables/verdicts" in json.dumps(grid["panelBankSectionConfig"])


def test_the_same_again(place, studies, summary, spec):
    assert specification(make_report(place, studies, (), summary)) == spec


def test_metrics_are_those_that_runs_log(
    spec, make_classifier, make_trainer, tiny_data, tmp_path, monkeypatch
):
    """A run is trained and logged as run.py does, and read back."""
    logger = TolerantWandbLogger(
        mode="offline", entity=None, project="p", folder=tmp_path, run_id="0123abcd", name="a run",
        group="residual", job_type="residual", tags=[], config={},
    )  # fmt: skip
    trainer = make_trainer(1, logger=logger)
    data = tiny_data()
    trainer.fit(make_classifier(), data)
    trainer.test(trainer.lightning_module, data, verbose=False)
    logger.finish(succeeded=True)
    (folder,) = tmp_path.glob("wandb/offline-run-*")
    records = records_of(folder)
    logged = {key for content in only(records, "history") for key in content["item"]}
    final = {key for content in only(records, "summary") for key in content["update"]}
    x, metrics, bars = set(), set(), set()
    for title in ("Residual connections", "Intermediate activation"):
        for panel in grids(sections(spec)[title])[0]["panelBankSectionConfig"]["panels"]:
            config = panel["config"]
            if panel["viewType"] == "Run History Line Plot":
                x.add(config["xAxis"])
                metrics |= set(config["metrics"])
            else:
                bars |= {name.removeprefix("summary_metrics.") for name in config["metrics"]}
    assert x <= logged
    assert {"val_top1", "val_loss", "train_loss", "train/loss"} <= metrics <= logged
    assert {"test_top1"} <= bars <= final


def test_the_place_is_the_loggers(tmp_path):
    results = f"results_dir={tmp_path}"
    words = [results, "logger.project=mine", "logger.entity=team", "logger.mode=online", "recipe.epochs=3"]
    found = find_place(words)
    assert (found.entity, found.project, found.online) == ("team", "mine", True)
    assert found.folder == tmp_path / "wandb"
    with pytest.raises(ValueError, match="logger=none: nothing is logged"):
        find_place([results, "logger=none"])
    with pytest.raises(ValueError, match=r"logger\.mode=sideways: must be offline or online"):
        find_place([results, "logger.mode=sideways"])

"""A study as the page holds it: sets of runs, configuration differences, tables that lead to runs."""

import pytest

from ablations.report.build import read_histories, read_problems
from ablations.report.claims import claim_entries, verdict_counts
from ablations.report.study import RESULTS, claim_set, configuration_differences, study_data, study_section
from ablations.tables.study import latex_table, markdown_table, study_table


@pytest.fixture
def section(made_up):
    study, runs, judged = made_up
    return study_section(study, runs, judged.verdicts, read_problems(runs), ["recipe.epochs=4", "a='b c'"])


@pytest.fixture
def data(made_up):
    study, runs, judged = made_up
    return study_data(study, runs, judged.verdicts, read_histories(runs), read_problems(runs))


def seeds_of(data, key):
    return sorted((data["runs"][at]["arm"], data["runs"][at]["seed"]) for at in data["sets"][key]["runs"])


def test_sets_of_runs(data) -> None:
    assert len(seeds_of(data, "planned/evil")) == 9
    assert seeds_of(data, "diverged/evil") == [(1, 1)]
    assert [seed for _, seed in seeds_of(data, "completed/evil")] == [0, 3, 4, 5, 6, 7, 8]
    assert [seed for _, seed in seeds_of(data, "results/evil")] == [0, 1, 3, 4, 5, 6, 7, 8]
    pairs = seeds_of(data, "pairs/third")  # with "evil", which it is compared with
    assert {arm for arm, _ in pairs} == {1, 2}
    assert sorted({seed for _, seed in pairs}) == [3, 4, 5, 6, 7, 8]
    assert len(seeds_of(data, RESULTS)) == 9 + 8 + 6


def test_the_set_of_a_claim_has_the_runs_of_its_comparisons(data) -> None:
    assert {arm for arm, _ in seeds_of(data, "claim/made-up-final")} == {0, 1}
    both = seeds_of(data, "claim/made-up-both")
    assert [seed for arm, seed in both if arm == 2] == [3, 4, 5, 6, 7, 8]
    assert [seed for arm, seed in both if arm == 1] == [0, 1, 3, 4, 5, 6, 7, 8]


def test_every_cell_with_a_number_leads_to_a_set_that_there_is(section, data) -> None:
    keys = [
        (column, cell["runs"])
        for panel in (*section["panels"], section["audit"])
        for row in panel["rows"]
        for column, cell in zip(panel["columns"], row["cells"], strict=True)
        if any(character.isdigit() for character in cell["text"])
    ]
    assert len(keys) > 30
    for column, key in keys:
        assert column in ("arm", "beside", "compared with") or key in data["sets"], column


def test_cells_lead_to_the_runs_that_they_rest_on(section) -> None:
    accuracy = section["panels"][0]
    (row,) = (row for row in accuracy["rows"] if row["arm"] == "third")
    keys = {column: cell["runs"] for column, cell in zip(accuracy["columns"], row["cells"], strict=True)}
    assert keys == {
        "arm": None,
        "completed / planned": "planned/third",
        "diverged": "diverged/third",
        "validation top-1, %": "results/third",
        "test top-1, %": "results/third",
        "compared with": None,
        "difference validation, pp": "pairs/third",
        "difference test, pp": "pairs/third",
    }


def test_copies_are_what_the_tables_command_writes(section, made_up) -> None:
    study, runs, _ = made_up
    assert section["copies"]["Markdown"] == markdown_table(study, runs)
    assert section["copies"]["LaTeX"] == latex_table(study, runs)
    assert section["copies"]["CSV"] == study_table(study, runs).to_csv(index=False, lineterminator="\n")


def test_runs_of_every_status_are_there(section, data) -> None:
    assert section["counts"] == {"completed": 22, "diverged": 1, "failed": 1, "running": 1, "missing": 2}
    status = {(run["arm"], run["seed"]): run for run in data["runs"]}
    assert status[1, 1]["own"]["diverged_at_step"] == 117
    assert status[1, 1]["final"] == {"val_top1": 0.1, "test_top1": 0.1}
    assert len(status[1, 1]["curves"]["val_top1"]) == 2
    assert status[2, 0].keys() == {"id", "arm", "seed", "status"}
    assert "not JSON" in status[2, 2]["problem"]
    assert [problem["seed"] for problem in section["problems"]] == [2]
    assert "final" not in status[2, 1]  # running


def test_a_completed_run_with_a_damaged_history_is_a_problem(made_up, make_run) -> None:
    run = make_run("plain", 0, [0.5, 0.6], status="missing")
    record = {"status": "completed", "config": {"recipe": {"epochs": 2}}}
    damaged = type(run)("plain", 0, "lost", run.directory.parent / "lost", "missing", record, None)
    assert "lost or damaged, counted as missing" in read_problems([damaged, run])["lost"]
    assert set(read_problems([damaged, run])) == {"lost"}


def test_configuration_differences_name_what_the_arms_differ_in(made_up) -> None:
    study, runs, _ = made_up
    found = configuration_differences(study, runs)
    assert found["arms"] == [0, 1, 2]
    assert found["rows"] == [{"path": "residual", "values": [["plain"], ["evil"], ["third"]]}]


def test_configuration_differences_within_an_arm(residual_study, make_run) -> None:
    def run(arm, seed, **config):
        config = {"dataset": {"num_classes": 10}, "seed": seed} | config
        return make_run(arm, seed, [0.5], config=config)

    runs = [run("with", 0, lr=0.1), run("with", 1, lr=0.2), run("without", 0, lr=0.1), run("without", 1)]
    runs += [make_run("without", 2, status="missing")]
    found = configuration_differences(residual_study, runs)
    assert found["rows"] == [{"path": "lr", "values": [["0.1", "0.2"], ["not set", "0.1"]]}]


def test_commands_can_be_typed_as_they_stand(section) -> None:
    assert section["commands"] == [
        "python run.py -m study=made_up recipe.epochs=4 'a='\"'\"'b c'\"'\"''",
        "python -m ablations made_up recipe.epochs=4 'a='\"'\"'b c'\"'\"''",
        "python -m ablations report made_up recipe.epochs=4 'a='\"'\"'b c'\"'\"''",
    ]


def test_a_study_without_any_record(residual_study, make_run) -> None:
    runs = [make_run(arm.name, 0, status="missing") for arm in residual_study.arms]
    section = study_section(residual_study, runs, [], {}, [])
    assert not section["audited"]
    assert section["differences"] == {"arms": [], "rows": []}
    data = study_data(residual_study, runs, [], {}, {})
    assert data["quantities"] == []
    assert data["chance"] == {}
    assert data["sets"][RESULTS]["runs"] == []


def test_a_study_of_factors_shows_its_interaction(factorial_study, make_runs) -> None:
    runs = make_runs(factorial_study)
    section = study_section(factorial_study, runs, [], {}, [])
    assert [panel["caption"] for panel in section["panels"]][-1] == "Interaction of the factors"
    cells = section["panels"][-1]["rows"][0]["cells"]
    assert [cell["runs"] for cell in cells] == [None, RESULTS, RESULTS, RESULTS]


def test_rows_of_the_paper_lead_nowhere(jft_study, jft_runs) -> None:
    section = study_section(jft_study, jft_runs, [], {}, [])
    row = section["panels"][0]["rows"][-1]
    assert row["arm"] is None
    assert row["cells"][0]["text"] == "VGG-16"
    assert all(cell["runs"] is None for cell in row["cells"])


def test_claims_are_drawn_to_one_scale(made_up) -> None:
    _, _, judged = made_up
    entries = claim_entries(judged.verdicts, {"made_up": "Made up"})
    assert [entry["study"] for entry in entries] == ["made_up", "made_up", None]
    plots = [one["plot"] for entry in entries for one in entry["comparisons"]]
    assert len({plot["zero"] for plot in plots}) == 1
    for plot in plots:
        assert 0 < plot["low"] <= plot["estimate"] <= plot["high"] < 100
        assert plot["margin_low"] <= plot["zero"] <= plot["margin_high"]
    one = entries[0]["comparisons"][0]
    assert one["plot"]["estimate"] > one["plot"]["zero"]
    assert one["n"] == 8
    assert [claim_set(verdict) for verdict in judged.verdicts][2] is None
    assert sum(each["n"] for each in verdict_counts(judged.verdicts)) == 3


def test_a_claim_without_a_pair_has_no_picture(made_up, residual_study, make_run) -> None:
    from ablations.evidence.claims import HIGHER, Claim, Comparison
    from ablations.evidence.verdicts import judge_study

    comparison = Comparison({"with": 1.0, "without": -1.0}, "test_top1", HIGHER, 0.01)
    claim = Claim("c", "C.", "nowhere", "residual", (comparison,))
    runs = [make_run(arm.name, 0, status="missing") for arm in residual_study.arms]
    (entry,) = claim_entries(judge_study([claim], residual_study, runs), {})
    assert entry["comparisons"][0]["plot"] is None
    assert entry["study"] is None

"""What a tuned study says of its tuning."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from ablations.studies.results import Study
from ablations.tables.study import markdown_table
from ablations.tables.tuning import trials_table, tuning_notes, write_trials


def test_the_budget_is_stated(tuned_study: Study) -> None:
    assert tuned_study.tuning.budget == (
        "4 trials × 2 seeds × 6 epochs for each of 2 arms, 16 runs, 14 min 02 s on one core"
    )
    lost = replace(tuned_study.tuning, recorded_runs=15, core_hours=1234.5)
    assert lost.budget.endswith("16 runs (15 of them with a record), 51 d 10 h on one core")


def test_the_notes_say_what_was_chosen_and_how(tuned_study: Study) -> None:
    notes = tuning_notes(tuned_study)
    assert "drawn by RandomSampler, the same for every arm." in notes[0]
    assert notes[1] == "Space: learning rate (recipe.optimizer.lr), log-uniform from 0.01 to 1."
    assert "highest final validation top-1, the mean over its seeds; test results were not used." in notes[2]
    assert notes[3:] == [
        "Best of “without residual connections”: learning rate 0.1 (validation top-1 70.0 %); "
        "the configured settings.",
        "Best of “with residual connections”: learning rate 0.3 (validation top-1 87.0 %); "
        "as configured, learning rate 0.1, 85.0 %.",
    ]
    other = replace(tuned_study.tuning, independent=False, sampler="TPESampler", seeds=(100,))
    notes = tuning_notes(replace(tuned_study, tuning=other))
    assert "drawn by TPESampler, which follows each arm's own results." in notes[0]
    assert "the mean over" not in notes[2]


@pytest.mark.parametrize(
    ("best", "line"), [(1, "the lowest learning rate tried"), (3, "the highest learning rate tried")]
)
def test_a_best_at_the_edge_of_what_was_tried_is_named(tuned_study: Study, best: int, line: str) -> None:
    trials = list(tuned_study.tuning.trials["with"])
    trials[best] = replace(trials[best], value=0.99)
    tuning = replace(tuned_study.tuning, trials={**tuned_study.tuning.trials, "with": tuple(trials)})
    note = tuning_notes(replace(tuned_study, tuning=tuning))[-1]
    assert note.endswith(f". It has {line}: a better one may lie beyond.")


def test_of_equal_trials_the_first_is_the_best(tuned_study: Study) -> None:
    trials = tuple(replace(trial, value=0.5) for trial in tuned_study.tuning.trials["with"])
    assert replace(tuned_study.tuning, trials={"with": trials}).best("with") == 0


def test_every_trial_has_a_row(tuned_study: Study, tmp_path: Path) -> None:
    paths = write_trials(tuned_study, tmp_path)
    assert [path.name for path in paths] == [
        f"figure09_residual__tuning=learning_rate_trials.{suffix}" for suffix in ("csv", "md", "tex")
    ]
    with paths[0].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == trials_table(tuned_study).astype(str).to_dict("records")
    assert len(rows) == 8
    assert rows[6] == {
        "arm": "with",
        "label": "with residual connections",
        "trial": "3",
        "configured": "False",
        "chosen": "True",
        "learning_rate": "0.3",
        "val_top1": "0.87",
        "n_seeds": "2",
        "n_diverged": "0",
        "runs": "with-2-100 with-2-101",
    }
    page = paths[1].read_text()
    row = next(line for line in page.splitlines() if "| chosen" in line)
    assert [cell.strip() for cell in row.split("|")[1:-1]] == [
        *("with residual connections", "3", "0.3", "87.0", "0 / 2", "chosen")
    ]
    assert "configured, chosen" in page
    assert "4 trials × 2 seeds" in page


def test_the_studys_own_table_has_the_notes(tuned_study: Study, make_runs) -> None:
    runs = make_runs(tuned_study)
    page = markdown_table(tuned_study, runs)
    assert all(note in page for note in tuning_notes(tuned_study))
    untuned = replace(tuned_study, tuning=None)
    assert tuning_notes(untuned) == []
    assert "tuning" not in markdown_table(untuned, runs).lower()


def test_a_study_that_was_not_tuned_has_no_trials(residual_study: Study, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="study residual: its arms were not tuned"):
        write_trials(residual_study, tmp_path)
    assert not list(tmp_path.iterdir())

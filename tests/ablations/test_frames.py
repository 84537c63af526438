"""The analysis of any table: from records, from another loop, from a data frame that somebody made."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import ablations
from ablations.errors import UserError
from experiments.project import FRAMEWORK_CONF

ROOT = FRAMEWORK_CONF.parent


@pytest.fixture(scope="module")
def reference() -> pd.DataFrame:
    return ablations.load_runs(
        ROOT / "results/reference", settings=["model.width", "recipe.epochs", "recipe.optimizer.lr"]
    )


@pytest.fixture
def table() -> pd.DataFrame:
    """Six seeds of three optimizers; adam is 0.02 above sgd and as spread, rmsprop lacks a seed."""
    noise = [0.0, 0.004, -0.002, 0.001, -0.003, 0.002]
    rows = [("sgd", seed, 0.7 + 0.01 * seed) for seed in range(6)]
    rows += [("adam", seed, 0.72 + 0.01 * seed + noise[seed]) for seed in range(6)]
    rows += [("rmsprop", seed, 0.7 + 0.01 * seed) for seed in range(5)]
    return pd.DataFrame(rows, columns=["optimizer", "seed", "accuracy"])


def test_what_it_finds_in_the_reference_is_what_the_committed_table_says(reference: pd.DataFrame) -> None:
    assert reference["run_id"].is_unique
    assert set(reference["status"]) <= {"completed", "diverged"}
    figure09 = reference[
        (reference["model"] == "xception_small")
        & (reference["dataset"] == "fashion_mnist_embedded")
        & (reference["intermediate_activation"] == "none")
        & (reference["segments"] == "per_channel")
        & (reference["operation_order"] == "depthwise_first")
        & (reference["model.width"] == 0.125)
        & (reference["recipe.epochs"] == 6)
        & (reference["recipe.optimizer.lr"] == 0.05)
        & (reference["seed"] < 6)
    ]
    found = ablations.compare(figure09, "residual", "true", "test_top1").set_index("residual")
    expected = pd.read_csv(ROOT / "results/reference/tables/figure09_residual.csv").set_index("arm")
    for option, arm in (("false", "non_residual"), ("projections", "projections")):
        assert found.loc[option, "mean"] == pytest.approx(expected.loc[arm, "test_top1_mean"])
        for name, column in (("difference", "mean"), ("low", "ci_low"), ("high", "ci_high")):
            theirs = expected.loc[arm, f"test_difference_pp_{column}"]
            assert 100 * found.loc[option, name] == pytest.approx(theirs)
        assert found.loc[option, "p"] == pytest.approx(expected.loc[arm, "test_difference_pp_p"])
    assert found.loc["false", "improvement"] == 0


def test_any_table_is_compared_seed_by_seed(table: pd.DataFrame) -> None:
    found = ablations.compare(table, "optimizer", "sgd", "accuracy").set_index("optimizer")
    assert list(found.index) == ["sgd", "adam", "rmsprop"]
    assert found["n"].tolist() == [6, 6, 5]
    assert found["n_pairs"].tolist() == [0, 6, 5]
    differences = 0.02 + np.array([0.0, 0.004, -0.002, 0.001, -0.003, 0.002])
    adam = found.loc["adam"]
    assert adam["difference"] == pytest.approx(differences.mean())
    assert adam["effect"] == pytest.approx(differences.mean() / differences.std(ddof=1))
    assert adam["p"] == pytest.approx(2 / 2**6)
    assert np.isnan(found.loc["rmsprop", "effect"])


def test_further_columns_divide_the_comparison(table: pd.DataFrame) -> None:
    both = pd.concat([table.assign(data="a"), table.assign(data="b", accuracy=1 - table["accuracy"])])
    with pytest.raises(ValueError, match=r"^optimizer=adam, seed=0: several runs"):
        ablations.compare(both, "optimizer", "sgd", "accuracy")
    found = ablations.compare(both, "optimizer", "sgd", "accuracy", within=["data"])
    adam = found[found["optimizer"] == "adam"].set_index("data")
    assert adam.loc["a", "difference"] == pytest.approx(-adam.loc["b", "difference"])


def test_a_missing_value_of_a_further_column_is_one_as_well(table: pd.DataFrame) -> None:
    found = ablations.compare(table.assign(data=None), "optimizer", "sgd", "accuracy", within=["data"])
    assert found["n"].tolist() == [6, 6, 5]


def test_a_claim_about_an_arm_without_a_value_is_inconclusive(table: pd.DataFrame) -> None:
    lacking = table.assign(accuracy=table["accuracy"].where(table["optimizer"] != "adam"))
    comparison = {"treatment": "adam", "control": "sgd", "metric": "accuracy"}
    claim = {"id": "x", "comparisons": [comparison | {"direction": "higher", "margin": 0.01}]}
    judged = ablations.judge([claim], lacking, factor="optimizer")
    assert judged[["verdict", "n_pairs"]].to_numpy().tolist() == [["inconclusive", 0]]


def test_claims_about_any_table_are_judged(table: pd.DataFrame, tmp_path: Path) -> None:
    pair = {"treatment": "adam", "control": "sgd", "metric": "accuracy"}
    claims: list[dict[str, Any]] = [
        {"id": "adam", "comparisons": [{**pair, "direction": "higher", "margin": 0.01}]},
        {"id": "same", "comparisons": [{**pair, "direction": "no_difference", "margin": 0.01}]},
        {"id": "never", "not_testable": "no runs of it"},
    ]
    verdicts = ablations.judge(claims, table, factor="optimizer").set_index("claim")
    assert verdicts["verdict"].to_dict() == {
        "adam": "holds",
        "same": "contradicted",
        "never": "not testable",
    }
    assert verdicts.loc["adam", "estimate"] == pytest.approx(0.0203333, abs=1e-6)
    lion = [{"id": "x", "comparisons": [{**pair, "treatment": "lion", "direction": "higher", "margin": 0}]}]
    with pytest.raises(ValueError, match="arm=lion: must be one of adam, rmsprop, sgd"):
        ablations.judge(lion, table, factor="optimizer")
    trend = {"trend": {"adam": 1, "sgd": -1}, "metric": "accuracy", "direction": "higher", "margin": 0}
    with pytest.raises(ValueError, match="a table of runs has no axis"):
        ablations.judge([{"id": "x", "comparisons": [trend]}], table, factor="optimizer")
    with pytest.raises(UserError, match=r"^claim x: unknown key statment; did you mean statement\?"):
        ablations.judge([{"id": "x", "statment": "y", "not_testable": "z"}], table, factor="optimizer")


def test_a_column_of_failures_leaves_them_out_and_can_be_judged(table: pd.DataFrame) -> None:
    first = (table["optimizer"] == "adam") & (table["seed"] == 0)
    failed = table.assign(failed_to_learn=first.astype(int), accuracy=table["accuracy"].mask(first, 0.1))
    pair = {"treatment": "adam", "control": "sgd", "margin": 0}
    claims = [
        {"id": "adam", "comparisons": [{**pair, "metric": "accuracy", "direction": "higher"}]},
        {"id": "fails", "comparisons": [{**pair, "metric": "failed_to_learn", "direction": "lower"}]},
    ]
    verdicts = ablations.judge(claims, failed, factor="optimizer").set_index("claim")
    assert verdicts["n_pairs"].to_dict() == {"adam": 5, "fails": 6}
    assert verdicts["n_left_out"].to_dict() == {"adam": 1, "fails": 0}
    assert verdicts.loc["fails", "estimate"] == pytest.approx(1 / 6)


def rows(values: list[float]) -> list[dict[str, float]]:
    return [{"step": 10 * (at + 1), "val_top1": value, "seconds": 2.0} for at, value in enumerate(values)]


def test_a_record_from_any_loop_is_read_as_all_are(tmp_path: Path) -> None:
    for norm, gain in (("batch", 0.1), ("group", 0.0)):
        for seed in range(2):
            path = ablations.write_run(
                tmp_path,
                choices={"norm": norm},
                seed=seed,
                epochs=rows([0.4, 0.5 + gain + 0.01 * seed]),
                test={"top1": 0.5 + gain + 0.01 * seed},
                num_classes=10,
            )
    top1 = {"label": "top-1", "unit": "share", "direction": "higher", "chance": "1 / num_classes"}
    lost = ablations.write_run(
        tmp_path,
        choices={"norm": "none"},
        seed=0,
        epochs=rows([0.2]),
        test={},
        num_classes=10,
        metrics={"top1": top1},
        diverged=True,
    )
    assert path != lost
    runs = ablations.load_runs(tmp_path).set_index(["norm", "seed"])
    assert runs.loc[("batch", 1), "test_top1"] == 0.61
    assert runs.loc[("batch", 1), "steps_per_second"] == 5.0
    assert runs.loc[("none", 0), "test_top1"] == 0.1  # a diverged run counts as chance
    found = ablations.compare(runs.reset_index(), "norm", "group", "test_top1").set_index("norm")
    assert found.loc["batch", "difference"] == pytest.approx(0.1)
    history = ablations.load_histories(tmp_path)
    assert len(history) == 9
    axes = ablations.plot_curves(history, by="norm")
    assert axes.get_ylabel() == "validation top-1 (%)"
    legend = axes.get_legend()
    assert legend is not None
    assert legend.get_texts()[0].get_text() == "norm=batch (n = 2)"
    ablations.write_run(tmp_path, choices={}, seed=0, epochs=[{"step": 1, "val_f1": 0.3}], test={"f1": 0.3})
    again = ablations.write_run(
        tmp_path, choices={"norm": "group"}, seed=1, epochs=rows([0.3]), test={"top1": 0.3}, num_classes=10
    )
    assert again != path  # trained for another number of epochs


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"test": {}}, "test: top1: missing"),
        ({"epochs": [{"val_top1": 0.5}]}, "epochs: row 1: step: missing"),
        ({"seed": -1}, "seed=-1: must be greater than or equal to 0"),
        ({"test": {"top1": float("nan")}}, "metrics.test_top1=nan: must be a finite number"),
        ({"metrics": {"top1": {"label": "x"}}}, "metrics.top1: direction: missing"),
        ({"epochs": []}, "epochs: empty"),
        # It would count as a network that is always right.
        ({"diverged": True}, "num_classes=1: must be the number of classes of the data"),
        ({"diverged": True, "epochs": [{"step": 1, "val_error": 0.5}]}, "metrics.error: missing"),
    ],
)
def test_what_cannot_be_a_record_is_told_and_not_written(
    change: dict[str, Any], line: str, tmp_path: Path
) -> None:
    arguments: dict[str, Any] = {
        "choices": {"norm": "group"},
        "seed": 0,
        "epochs": rows([0.5]),
        "test": {"top1": 0.5},
    }
    with pytest.raises(UserError, match=line):
        ablations.write_run(tmp_path, **(arguments | change))
    assert not list(tmp_path.rglob("*.json"))
    assert not list(tmp_path.rglob("*.csv"))


def test_a_record_that_was_changed_is_told_and_left_out(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"choices": {}, "epochs": rows([0.5]), "test": {"top1": 0.5}}
    changed, _ = (ablations.write_run(tmp_path, seed=seed, **arguments) for seed in range(2))
    changed.write_text(changed.read_text().replace("0.5", "0.9"))
    with pytest.warns(UserWarning, match=f"left out: {re.escape(str(changed))}: was edited"):
        runs = ablations.load_runs(tmp_path)
    assert runs["seed"].tolist() == [1]


def test_a_folder_without_records_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no records"):
        ablations.load_runs(tmp_path)


def test_nothing_that_trains_is_imported(tmp_path: Path) -> None:
    code = """if True:
        import sys
        sys.modules.update(dict.fromkeys(("torch", "lightning", "hydra", "omegaconf", "experiments")))
        import ablations
        assert not {"pandas", "matplotlib", "scipy"} & sys.modules.keys()
        for name in ablations.__all__:
            assert callable(getattr(ablations, name)), name
    """
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr

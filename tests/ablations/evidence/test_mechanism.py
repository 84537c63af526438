"""What a study's runs measured, per arm and layer: numbers worked out by hand from rows that were made up."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ablations.evidence.mechanism import (
    BETWEEN,
    MAIN,
    MEASUREMENTS,
    SHORTCUT,
    Measured,
    measured_of,
    merged,
)
from ablations.studies.results import Study
from ablations.tables.mechanism import mechanism_table, write_mechanism_tables
from experiments.project import load_yaml
from tests.ours import files_in

STEM, POINTWISE, DEPTHWISE, HEAD = (
    "stem.conv1.conv",
    "middle_flow.0.body.separable1.pointwise",
    "middle_flow.0.body.separable1.depthwise",
    "head.logits",
)


def of(found: list[Measured], name: str) -> Measured:
    return next(measured for measured in found if measured.measurement.name == name)


def gradients(step: int, *values: float) -> list[tuple[str, str, int, int, int, float]]:
    layers = (STEM, POINTWISE, DEPTHWISE, HEAD)
    return [("gradient_norm", layer, 4, 1, step, value) for layer, value in zip(layers, values, strict=True)]


def test_a_separable_convolution_has_the_norm_of_both_operations(
    residual_study: Study, make_run, measure
) -> None:
    run = measure(make_run("with", 0, [0.5, 0.6]), gradients(1, 2.0, 3.0, 4.0, 1.0))
    (measured,) = measured_of(residual_study, [run])
    assert [layer.name for layer in measured.layers] == [STEM, POINTWISE.rpartition(".")[0], HEAD]
    assert [layer.shown_module for layer in measured.layers] == ["1", "2", "head"]
    np.testing.assert_allclose(measured.of_seeds["first_step", "with"], [[2.0, 5.0, 1.0]])
    assert [moment.name for moment in measured.moments] == ["first_step", "first_steps"]


def test_steps_and_seeds_have_geometric_means(residual_study: Study, make_run, measure) -> None:
    rows = [*gradients(1, 1, 0, 1, 1), *gradients(20, 100, 0, 4, 1), *gradients(32, 7, 7, 7, 7)]
    runs = [
        measure(make_run("with", 0, [0.5, 0.6]), rows),
        measure(make_run("with", 1, [0.5, 0.6]), gradients(1, 1000, 0, 8, 1)),
    ]
    measured = of(measured_of(residual_study, runs), "gradient_norm")
    values = measured.of_seeds["first_steps", "with"]
    np.testing.assert_allclose(values, [[10, 2, 1], [1000, 8, 1]])
    estimate = measured.estimate(values[:, 0])
    assert estimate is not None
    # Of log10 1 and 3: mean 2, and t(1) = 12.706 times sqrt(2) / sqrt(2).
    assert (estimate.n, estimate.mean) == (2, pytest.approx(100))
    assert np.log10([estimate.low, estimate.high]) == pytest.approx([-10.706, 14.706], abs=1e-3)


def test_a_gradient_of_zero_or_none_is_no_number_of_a_geometric_mean(
    residual_study: Study, make_run, measure
) -> None:
    rows = gradients(1, 0.0, float("inf"), 1.0, 3.0)
    (measured,) = measured_of(residual_study, [measure(make_run("with", 0, [0.5, 0.6]), rows)])
    np.testing.assert_array_equal(measured.of_seeds["first_step", "with"], [[np.nan, np.nan, 3.0]])
    assert measured.estimate(np.array([np.nan])) is None


def test_rank_is_a_share_of_the_channels_before_training_and_at_its_end(
    residual_study: Study, make_run, measure
) -> None:
    rows = [
        ("effective_rank", DEPTHWISE, 8, epoch, 10 * epoch, value) for epoch, value in enumerate((2, 3, 6))
    ]
    (measured,) = measured_of(residual_study, [measure(make_run("with", 0, [0.5, 0.6]), rows)])
    assert measured.of_seeds["before_training", "with"].tolist() == [[25.0]]
    assert measured.of_seeds["last_epoch", "with"].tolist() == [[75.0]]


def test_a_diverged_run_counts_as_far_as_it_was_measured(residual_study: Study, make_run, measure) -> None:
    row = ("dead_units", "stem.relu1", 4, 1, 10, 0.5)
    runs = [measure(make_run("with", 0, [0.5], status="diverged"), [row])]
    (measured,) = measured_of(residual_study, runs)
    assert {key: values.tolist() for key, values in measured.of_seeds.items()} == {
        ("first_epoch", "with"): [[50.0]]
    }


def test_layers_that_not_every_arm_has_keep_their_place(residual_study: Study, make_run, measure) -> None:
    def dead(*layers: str) -> list[tuple[str, str, int, int, int, float]]:
        return [("dead_units", layer, 4, 2, 20, 0.25) for layer in layers]

    first, between, last = "stem.relu1", "stem.separable1.intermediate_activation", "exit_flow.relu1"
    runs = [
        measure(make_run("with", 0, [0.5, 0.6]), dead(first, between, "exit_flow.shortcut.relu", last)),
        measure(make_run("without", 0, [0.5, 0.6]), dead(first, last)),
    ]
    (measured,) = measured_of(residual_study, runs)
    assert [layer.kind for layer in measured.layers] == [MAIN, BETWEEN, SHORTCUT, MAIN]
    assert [layer.module for layer in measured.layers] == [1, 1, 2, 2]
    np.testing.assert_array_equal(measured.of_seeds["last_epoch", "without"], [[25, np.nan, np.nan, 25]])
    assert measured.indices(BETWEEN) == [1]


def test_orders_are_merged() -> None:
    assert merged([["a", "d"], ["a", "b", "c", "d"], ["a", "x", "d", "e"]]) == ["a", "x", "b", "c", "d", "e"]
    assert merged([]) == []


def test_modules_are_numbered_as_the_paper_does(residual_study: Study, make_run, measure) -> None:
    names = ["stem.relu1", "entry_flow.0.body.relu1", "exit_flow.module.body.relu1", "exit_flow.relu1"]
    rows = [("dead_units", name, 4, 2, 20, 0.25) for name in names]
    (measured,) = measured_of(residual_study, [measure(make_run("with", 0, [0.5, 0.6]), rows)])
    assert [layer.module for layer in measured.layers] == [1, 2, 3, 4]


def test_nothing_measured_is_nothing_written(
    residual_study: Study, make_run, measure, tmp_path: Path
) -> None:
    runs = [
        make_run("with", 0, [0.5, 0.6]),  # has no diagnostics.csv
        measure(make_run("with", 1, [0.5, 0.6]), []),
        make_run("with", 2, status="failed"),
    ]
    assert measured_of(residual_study, runs) == []
    assert write_mechanism_tables(residual_study, [], tmp_path / "tables") == []
    assert not (tmp_path / "tables").exists()


def test_the_tables(residual_study: Study, make_run, measure, tmp_path: Path) -> None:
    runs = [
        measure(make_run(arm, seed, [0.5, 0.6]), gradients(1, 2.0 + seed, 3.0, 4.0, 1.23456))
        for arm in ("with", "without")
        for seed in (0, 1)
    ]
    found = measured_of(residual_study, runs)
    paths = write_mechanism_tables(residual_study, found, tmp_path)
    assert [path.name for path in paths] == [
        "figure09_residual_mechanism.csv",
        "figure09_residual_mechanism.md",
    ]
    table = pd.read_csv(paths[0])
    pd.testing.assert_frame_equal(table, mechanism_table(residual_study, found), check_dtype=False)
    first = table.iloc[0]
    assert first[["quantity", "moment", "arm", "layer"]].tolist() == [
        "gradient_norm",
        "first_step",
        "with",
        STEM,
    ]
    assert (first["mean"], first["n"]) == (pytest.approx(6**0.5, rel=1e-3), 2)
    head = table[table["module"] == "head"].iloc[0]
    assert head["mean"] == 1.235
    assert np.isnan(head["ci_low"])  # seeds that agree have no interval
    page = paths[1].read_text()
    row = next(line for line in page.splitlines() if line.startswith("| with residual connections "))
    # Stem: sqrt(2 * 3); between them sqrt(3^2 + 4^2); the head. Means are geometric, as in the other table.
    assert [cell.strip() for cell in row.split("|")[2:-1]] == ["2", "2.45", "5", "1.23"]
    assert all(measured.measurement.note in page for measured in found)


@pytest.mark.parametrize(
    ("diagnostic", "epoch", "step", "scale", "cell"),
    [("dead_units", 1, 94, 0.01, "35.0"), ("gradient_norm", 1, 1, 1.0, "29.4")],
    ids=["arithmetic", "geometric"],
)
def test_a_cell_is_a_mean_over_layers_and_then_over_seeds(
    diagnostic: str,
    epoch: int,
    step: int,
    scale: float,
    cell: str,
    residual_study: Study,
    make_run,
    measure,
    tmp_path,
) -> None:
    """Of a seed without one of the layers as well: (10, 30) and (50, none)."""

    def rows(*values: float) -> list[tuple[str, str, int, int, int, float]]:
        layers = (f"middle_flow.0.body.separable{number}" for number in (1, 2))
        return [
            (diagnostic, layer, 4, epoch, step, scale * value)
            for layer, value in zip(layers, values, strict=True)
        ]

    runs = [
        measure(make_run("with", 0, [0.5, 0.6]), rows(10.0, 30.0)),
        measure(make_run("with", 1, [0.5, 0.6]), rows(50.0, float("nan"))),
    ]
    paths = write_mechanism_tables(residual_study, measured_of(residual_study, runs), tmp_path)
    lines = paths[1].read_text().splitlines()
    row = next(line for line in lines if line.startswith("| with residual connections "))
    # (20 + 50) / 2; sqrt(sqrt(10 * 30) * 50)
    assert [text.strip() for text in row.split("|")[2:-1]] == ["2", cell]


def test_every_diagnostic_of_ours_is_a_quantity() -> None:
    nodes = {path.stem: load_yaml(path) or {} for path in files_in("diagnostics")}
    ours = {
        option
        for option, node in nodes.items()
        if option in node and node[option]["_target_"].startswith("lightning_modules.")
    }
    assert {one.name for one in MEASUREMENTS} == ours
    assert ours <= set(nodes["all"]["defaults"])

"""What metrics are: what a file may say, what a network has that learned nothing, how values are written."""

import math
from typing import Any

import pytest

from ablations.errors import UserError
from ablations.metrics import BEFORE_DECLARATIONS, METRIC, Metric, declared_in, metric_of
from ablations.validation import validated
from experiments.project import FRAMEWORK_CONF, Project

PROJECT = Project(FRAMEWORK_CONF.parent)
NODE = {"label": "x", "unit": "share", "direction": "lower", "chance": "1 - 1 / num_classes"}


@pytest.mark.parametrize(
    ("chance", "classes", "value"),
    [
        ("1 / num_classes", 10, 0.1),
        ("min(5, num_classes) / num_classes", 1000, 0.005),
        ("min(5, num_classes) / num_classes", 3, 1.0),
        ("log(num_classes)", 10, math.log(10)),
        ("2 / (num_classes * (num_classes + 1))", 4, 0.1),
        ("-sqrt(max(num_classes, 16))", 3, -4.0),
        (0.25, 7, 0.25),
        (0, 7, 0.0),
    ],
)
def test_what_a_network_has_that_learned_nothing(chance: float | str, classes: int, value: float) -> None:
    metric = Metric(label="x", direction="higher", chance=chance)
    assert metric.of_nothing(classes) == pytest.approx(value)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"direction": "up"}, "direction=up: must be 'higher' or 'lower'"),
        ({"unti": "share"}, "unknown key unti; did you mean unit?"),
        ({"chance": "__import__('os').getcwd()"}, "chance=.*: must be a finite number, or a formula"),
        ({"chance": "classes"}, "chance=classes: must be a finite number, or a formula of num_classes"),
        ({"chance": "1 / 0"}, "chance=1 / 0: must be a finite number"),
        ({"chance": "2 ** num_classes"}, "chance=.*: must be a finite number"),
        ({"labels": "two"}, "labels=two: must be 'single' or 'several'"),
    ],
)
def test_a_wrong_file_is_named_in_a_line(change: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=rf"^conf/metric/x\.yaml: {line}"):
        validated(METRIC, NODE | change, "conf/metric/x.yaml")


def test_the_frameworks_metrics_and_those_that_old_records_have_are_one() -> None:
    declared = PROJECT.metrics()
    assert {"top1", "top5", "map100", "loss", "macro_f1", "calibration_error"} <= set(declared)
    for name, metric in BEFORE_DECLARATIONS.items():
        for classes in (3, 10, 1000):
            assert metric.of_nothing(classes) == declared[name].of_nothing(classes)
        for key in ("label", "unit", "direction"):
            assert getattr(metric, key) == getattr(declared[name], key)


def test_shares_are_shown_in_per_cent_and_other_units_as_they_are() -> None:
    top1, loss = PROJECT.metric("top1"), PROJECT.metric("loss")
    assert (top1.text(0.8), loss.text(0.41234)) == ("80 %", "0.412 nats")
    assert top1.interval(0.713, 0.709, 0.7174) == "71.3 [70.9, 71.7]"
    assert loss.interval(-0.0123, -0.02, -0.0046, "+") == "-0.0123 [-0.0200, -0.0046]"
    assert (top1.with_unit("x"), loss.on_axis("x")) == ("x, %", "x (nats)")
    assert (top1.difference_unit, loss.difference_unit) == ("pp", "nats")


def test_a_record_says_what_its_metrics_are_and_what_it_does_not_is_read_by_name() -> None:
    broken = {"label": 3}
    declared = declared_in({"metrics": {"mine": NODE, "broken": broken, "old": NODE | {"later": 1}}})
    assert list(declared) == ["mine"]
    assert metric_of("mine", declared).sign == -1
    assert metric_of("top1", declared).label == "top-1"
    assert metric_of("top_10", declared).label == "top 10"
    assert declared_in({}) == declared_in({"metrics": [1]}) == {}


@pytest.mark.parametrize(
    ("direction", "chance", "near", "failed", "learned"),
    [
        ("higher", "1 / num_classes", 0.05, (0.1, 0.15, 0.02), (0.151, 1.0)),
        ("lower", "log(num_classes)", 0.1, (2.3, 2.21, 5.0), (2.19, 0.0)),
        ("higher", 0, "24 / num_classes", (0.0, 2.4), (2.41,)),
        ("higher", 0, None, (), (0.0,)),
    ],
)
def test_what_failed_to_learn(direction, chance, near, failed, learned) -> None:
    metric = Metric(label="x", direction=direction, chance=chance, near_chance=near)
    assert all(metric.failed_to_learn(value, 10) for value in failed)
    assert not any(metric.failed_to_learn(value, 10) for value in learned)
    with pytest.raises(ValueError, match="must be a finite number"):
        Metric(label="x", direction=direction, chance=chance, near_chance="1 / 0")

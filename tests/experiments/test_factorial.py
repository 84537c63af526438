"""From factors to arms: the product, its names, what an arm is compared with, what a file may not say."""

from itertools import product
from typing import Any

import pytest
from omegaconf import OmegaConf

from ablations.errors import UserError
from ablations.studies.results import Arm
from ablations.studies.schema import STUDY, StudyFile
from ablations.validation import validated
from experiments.factorial import channels_at_width, channels_per_segment, make_design, setting
from experiments.project import FRAMEWORK_CONF

FILE = "conf/study/some.yaml"


def level(label: str, **choose: Any) -> dict[str, Any]:
    return {"label": label, "choose": choose}


def node(**changes: Any) -> dict[str, Any]:
    """Two by two by two arms."""
    return {
        "name": "some",
        "title": "Some",
        "source": "ours",
        "output": "some",
        "base": {},
        "seeds": [0],
        "metrics": ["top1"],
        "target": 0.5,
        "factors": {
            "order": {"label": "order", "levels": {"p": level("P", o="p"), "d": level("D", o="d")}},
            "depth": {
                "label": "depth",
                "levels": {"one": level("1", s="one") | {"tick": "1st"}, "two": level("2", s="two")},
            },
            "act": {
                "label": "activation",
                "levels": {"none": level("none", a="n"), "relu": level("R", a="r")},
            },
        },
        "design": {
            "x": "depth",
            "lines": "act",
            "axis": "things",
            "position": {"_target_": "builtins.len", "_partial_": True},
        },
        "baseline": "p_one_none",
        "paper": {"d_one_relu": "worse"},
    } | changes


def study(given: dict[str, Any]) -> StudyFile:
    return validated(STUDY, given, FILE)


def test_arms_are_the_product_the_last_factor_first() -> None:
    arms = study(node()).arms
    names = ["_".join(levels) for levels in product("pd", ("one", "two"), ("none", "relu"))]
    assert [arm.name for arm in arms] == names
    assert arms[5] == Arm(
        "d_one_relu", "D, 1, R", {"o": "d", "s": "one", "a": "r"}, "worse", baseline="d_one_none"
    )


def test_an_arm_is_compared_with_the_same_levels_of_its_own_set() -> None:
    compared = {arm.name: arm.baseline for arm in study(node()).arms}
    assert {name for name, other in compared.items() if other is None} == {
        *("p_one_none", "p_one_relu", "p_two_none", "p_two_relu"),  # with the study's baseline
        "d_one_none",  # the set's own, which is compared with the study's
    }
    assert {compared[name] for name in ("d_one_relu", "d_two_none", "d_two_relu")} == {"d_one_none"}


MANY = {
    name: {"label": "l", "levels": {f"{name}{i}": level("l") for i in range(10)}}
    for name in ("depth", "act", *"abcdefghij")
}


def edited(path: str, value: Any) -> dict[str, Any]:
    """With a value at a path of keys; `...`: without it."""
    given = node()
    *parents, last = path.split("/")
    at = given
    for key in parents:
        at = at[key]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return given


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("arms", [{"name": "a", "label": "a", "choose": {}}], "arms, factors: set only one"),
        ("factors/order/colour", "red", "unknown key factors.order.colour; known: label, levels"),
        ("factors/order/levels", {"p": level("P")}, "factors.order.levels: must have at least 2 items"),
        ("factors/order/levels/p/choose", {"s": "p"}, "factors: order and depth both choose s"),
        ("design/color", "red", "unknown key design.color"),
        ("design/x", "width", "design: x=width, lines=act: must be two of the factors order, depth, act"),
        ("baseline", "p_one", "baseline=p_one: must be one of p_one_none, "),
        ("paper", {"p_one": "best"}, "paper.p_one: must be one of p_one_none, "),
        ("factors", MANY, "factors: 1000000000000 combinations; .* at most"),
    ],
)
def test_a_wrong_file_is_named_in_a_line(path: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=rf"^{FILE}: {message}") as raised:
        study(edited(path, value))
    assert "\n" not in str(raised.value)


def test_the_design_knows_levels_positions_and_sets() -> None:
    given = study(node())
    configurations = {arm.name: {"a": 0, arm.choose["s"]: 0} for arm in given.arms}
    design = make_design(given, configurations)
    assert design is not None
    assert design.positions == dict.fromkeys(configurations, 2.0)
    assert design.levels["d_two_relu"] == {"order": "d", "depth": "two", "act": "relu"}
    assert design.arm({"act": "relu", "depth": "two", "order": "d"}) == "d_two_relu"
    assert design.parts() == [{"order": "p"}, {"order": "d"}]
    assert design.factor("depth").ticks == {"one": "1st"}


@pytest.mark.parametrize(
    ("target", "configuration", "message"),
    [
        ("builtins.len", {}, "design.position=0 of arm p_one_none: must be a number above 0"),
        ("builtins.str", {}, "design.position={} of arm p_one_none: must be a number above 0"),
        ("experiments.factorial.nothing", {}, "design.position._target_="),
        ("experiments.factorial.channels_per_segment", {}, "design.position: .*channels"),
    ],
)
def test_a_position_that_cannot_be_is_told_in_a_line(
    target: str, configuration: dict[str, Any], message: str
) -> None:
    given = study(edited("design/position", {"_target_": target, "_partial_": True}))
    with pytest.raises(UserError, match=f"^{FILE}: {message}") as raised:
        make_design(given, {"p_one_none": configuration})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("segments", "width", "expected"),
    [("per_channel", 0.125, 1), ("channels_16", 0.07211, 16), ("channels_16", 0.01, 7), ("one", 0.04052, 29)],
)
def test_channels_of_the_largest_segment(segments: str, width: float, expected: int) -> None:
    chosen = OmegaConf.to_container(OmegaConf.load(FRAMEWORK_CONF / "segments" / f"{segments}.yaml"))
    resolved = {"segments": chosen, "model": {"width": width}}
    assert channels_per_segment(resolved, channels=728) == expected


def test_a_third_of_the_paper_s_channels_is_243() -> None:
    chosen = OmegaConf.to_container(OmegaConf.load(FRAMEWORK_CONF / "segments" / "three.yaml"))
    assert channels_per_segment({"segments": chosen, "model": {"width": 1}}, channels=728) == 243


@pytest.mark.parametrize(
    ("resolved", "message"),
    [({"model": {"width": 1}}, " and segments"), ({"model": {}, "segments": {}}, "")],
)
def test_a_network_without_segments_or_width_has_no_position(resolved: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^design\.position: needs a network with model\.width{message}$"):
        channels_per_segment(resolved, channels=728)


@pytest.mark.parametrize(("width", "expected"), [(0.12432, 91), (0.04052, 29), (0.0001, 1), (1, 728)])
def test_channels_at_a_width(width: float, expected: int) -> None:
    assert channels_at_width({"model": {"width": width}}, channels=728) == expected


def test_a_network_without_width_has_no_channels_at_it() -> None:
    with pytest.raises(ValueError, match=r"^design\.position: needs a network with model\.width$"):
        channels_at_width({"model": {}}, channels=728)


def test_a_setting_is_a_number_of_the_configuration() -> None:
    resolved = {"recipe": {"epochs": 6, "averaging": None, "channels_last": True}}
    assert setting(resolved, key="recipe.epochs") == 6
    for key in ("recipe.epoch", "recipe.epochs.more", "recipe.averaging", "recipe.channels_last", "recipe"):
        with pytest.raises(ValueError, match=f"^design.position.key={key}: "):
            setting(resolved, key=key)

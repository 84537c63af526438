"""Claims as data: the paper's are there, and a user's mistake gives one line."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from ablations.errors import UserError
from ablations.evidence.claims import Claim, Comparable, Comparison, load_claims
from ablations.evidence.verdicts import MIN_PAIRS
from experiments.project import FRAMEWORK_CONF, Project, use
from experiments.study_file import comparable_studies, project_claims
from tests import ours

STUDIES = {
    "residual": Comparable(("with", "without", "other"), ("test_top1", "area", "steps_to_target")),
    "benchmark": Comparable(("inception_v3", "xception"), ("parameters", "steps_per_second")),
    "by_width": Comparable(
        ("wide_with", "wide_without"), ("test_top1", "failed_to_learn"), ("with", "without")
    ),
}
PAIR = {
    "treatment": "with",
    "control": "without",
    "metric": "test_top1",
    "direction": "higher",
    "margin": 0.01,
}
CLAIM = {"id": "mine", "statement": "It is.", "source": "Me", "study": "residual", "comparisons": [PAIR]}
NOT_TESTABLE = {"id": "never", "statement": "It is.", "source": "Me", "not_testable": "needs a year"}


def write(folder: Path, *claims: Any, name: str = "mine") -> list[Path]:
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({"claims": list(claims)}, sort_keys=False))
    return [folder / f"{name}.yaml"]


def our_claims() -> list[Claim]:
    return load_claims(ours.CLAIM_FILES, comparable_studies(), ["learning_rate"])


def test_the_papers_claims_are_all_there_in_its_order() -> None:
    ids = [claim.id for claim in project_claims()]
    papers = ["residual-final", "residual-speed", "residual-tuning", "vgg-separable", "activation-final"]
    papers += ["activation-speed", "activation-depth", "inception-imagenet", "inception-jft", "size", "speed"]
    papers += ["order", "spectrum-4", "spectrum-16"]
    assert [name for name in ids if name in papers] == papers


def test_no_statement_says_how_much_or_more_than_its_comparisons_test() -> None:
    claims = {claim.id: claim for claim in our_claims()}
    tested = [claim.statement for claim in claims.values() if claim.comparisons]
    assert not [text for text in tested for word in ("marginal", "clearly", "much better") if word in text]
    depth = claims["activation-depth"].statement  # the comparisons are the interaction alone
    assert "helps" not in depth
    assert "harms" not in depth


def test_the_controls_of_figure_9_are_compared_as_figure_9_is() -> None:
    claims = {claim.id: claim for claim in project_claims()}
    (final,) = claims["residual-final"].comparisons
    for name, control in (("capacity", "non_residual_matched"), ("identity", "projections")):
        (one,) = claims[f"residual-{name}"].comparisons
        assert one.contrast == {"residual": 1.0, control: -1.0}
        assert (one.metric, one.direction, one.margin) == (final.metric, final.direction, final.margin)


def test_faster_is_both_quantities_against_every_arm() -> None:
    claims = {claim.id: claim for claim in project_claims()}
    judged = {(c.label, c.metric, c.direction) for c in claims["activation-speed"].comparisons}
    assert judged == {
        (f"none - {arm}", metric, direction)
        for arm in ("relu", "elu")
        for metric, direction in (("steps_to_target", "lower"), ("area", "higher"))
    }
    assert claims["activation-final"].arms == ("none", "relu", "elu")


def test_tuning_is_judged_by_what_it_changes_in_figure_9() -> None:
    claims = {claim.id: claim for claim in project_claims()}
    (final,), (tuned,) = (claims[f"residual-{name}"].comparisons for name in ("final", "tuning"))
    as_configured = {f"{arm}_configured": -weight for arm, weight in final.contrast.items()}
    assert tuned.contrast == {**final.contrast, **as_configured}
    assert (tuned.metric, tuned.direction, tuned.margin) == (final.metric, "lower", 2 * final.margin)
    assert claims["residual-tuning"].tuning == "learning_rate"


def test_depth_is_the_difference_of_what_an_activation_gains() -> None:
    (depth,) = (claim for claim in project_claims() if claim.id == "activation-depth")
    assert [comparison.contrast for comparison in depth.comparisons] == [
        {
            f"channels_all_{activation}": 1,
            "channels_all_none": -1,
            f"channels_1_{activation}": -1,
            "channels_1_none": 1,
        }
        for activation in ("relu", "elu")
    ]
    assert depth.comparisons[0].label == (
        "channels_all_relu - channels_all_none - channels_1_relu + channels_1_none"
    )


def test_what_width_alone_makes_is_what_depth_is_compared_with() -> None:
    claims = {claim.id: claim for claim in project_claims()}
    depth, width = claims["activation-depth"].comparisons, claims["activation-depth-width"].comparisons
    ends = {"channels_all": "narrow", "channels_1": "wide"}  # the widths of the spectrum's ends
    for of_depth, of_width in zip(depth, width, strict=True):
        renamed = {
            ends[arm.rpartition("_")[0]] + "_" + arm.rpartition("_")[2]: weight
            for arm, weight in of_depth.contrast.items()
        }
        assert of_width.contrast == renamed
        assert (of_width.metric, of_width.margin) == (of_depth.metric, of_depth.margin)
        assert of_width.direction == "no_difference"


def test_final_accuracies_are_judged_on_test() -> None:
    metrics = [comparison.metric for claim in our_claims() for comparison in claim.comparisons]
    finals = {metric for metric in metrics if metric.startswith(("val_", "test_"))}
    assert {"test_top1", "test_map100"} <= finals
    assert not [metric for metric in finals if metric.startswith("val_")]


@pytest.mark.parametrize("name", ours.STUDIES)
def test_a_study_with_claims_has_seeds_for_a_verdict(name: str) -> None:
    assert len(ours.file_of(name)["seeds"]) >= MIN_PAIRS


@pytest.mark.parametrize("file", ours.CLAIM_FILES, ids=lambda file: file.stem)
def test_every_margin_says_why(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    margins = [line for line in lines if line.strip().startswith("margin:")]
    assert margins
    assert all(len(line.partition("# ")[2]) > 10 for line in margins)


def test_studies_of_the_repository() -> None:
    studies = comparable_studies()
    assert studies["residual"].arms[:2] == ("residual", "non_residual")
    metrics = ("val_top1", "test_top1", "val_top5", "test_top5", "area", "steps_to_target")
    metrics += ("failed_to_learn", "steps_per_second", "parameters")
    assert studies["inception_comparison"].metrics == metrics
    assert {"xception", "inception_v3_table3"} <= set(studies["benchmark"].arms)


def test_a_claim_as_read(tmp_path: Path) -> None:
    weights = {"with": 1, "without": -0.5, "other": -0.5}
    contrast = {"contrast": weights, "metric": "area", "direction": "no_difference", "margin": 1}
    claim, never = load_claims(
        write(tmp_path, CLAIM | {"comparisons": [PAIR, contrast]}, NOT_TESTABLE), STUDIES
    )
    assert claim.comparisons == (
        Comparison({"with": 1.0, "without": -1.0}, "test_top1", "higher", 0.01),
        Comparison({"with": 1.0, "without": -0.5, "other": -0.5}, "area", "no_difference", 1.0),
    )
    assert [comparison.label for comparison in claim.comparisons] == [
        "with - without",
        "with - 0.5 without - 0.5 other",
    ]
    assert Comparison({"a": -1, "b": 1}, "area", "higher", 0).label == "-a + b"
    assert claim.arms == ("with", "without", "other")
    assert (never.study, never.comparisons, never.not_testable) == (None, (), "needs a year")


def test_files_are_one_family_of_names_the_papers_first(tmp_path: Path) -> None:
    write(tmp_path, CLAIM, name="a")
    write(tmp_path, CLAIM | {"id": "first"}, name="paper")
    write(tmp_path, CLAIM | {"id": "last"}, name="z")
    assert [claim.id for claim in load_claims(tmp_path.glob("*.yaml"), STUDIES)] == ["first", "mine", "last"]
    write(tmp_path, CLAIM | {"id": "first"}, name="z")
    with pytest.raises(
        UserError, match=r"^conf/claims/z.yaml: claim first: id=first: duplicate id; also in conf/claims/p"
    ):
        load_claims(tmp_path.glob("*.yaml"), STUDIES)


def without(node: dict, key: str) -> dict:
    return {name: value for name, value in node.items() if name != key}


@pytest.mark.parametrize(
    ("claim", "line"),
    [
        (without(CLAIM, "source"), "claims.0.source: missing; Who claims it"),
        (NOT_TESTABLE | {"not_testable": True}, "claims.0.not_testable=True: must be a valid string"),
        (CLAIM | {"study": "nope"}, "claim mine: study=nope: must be one of residual, benchmark, by_width"),
        (without(CLAIM, "study"), "claims.0: study: missing"),
        (CLAIM | {"not_testable": "x"}, "claims.0: comparisons, not_testable: set exactly one"),
    ],
)
def test_a_wrong_claim_is_a_line(claim: Any, line: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^conf/claims/mine.yaml: {line}") as raised:
        load_claims(write(tmp_path, claim), STUDIES)
    assert "\n" not in str(raised.value)


IN_FILE, IN_STUDY = "claims.0.comparisons.1", "claim mine: comparisons.1: "


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"treatment": "nope"}, IN_STUDY + "nope: must be an arm of study=residual: with, without, other"),
        ({"control": "with"}, IN_FILE + ": treatment=with, control=with: name two arms"),
        ({"contrast": {"with": 1, "without": -1}}, IN_FILE + ": treatment=with, .* or give a contrast"),
        ({"metric": "test_top5"}, IN_STUDY + "metric=test_top5: must be one of test_top1, area, steps_to"),
        ({"direction": "up"}, IN_FILE + ".direction=up: must be 'higher', 'lower' or 'no_difference'"),
        ({"margin": -1}, IN_FILE + ".margin=-1: must be greater than or equal to 0"),
        ({"margin": float("nan")}, IN_FILE + ".margin=nan: must be "),
        ({"margin": 0, "direction": "no_difference"}, IN_FILE + ": margin=0.0: must be above 0"),
        ({"marginn": 1}, f"unknown key {IN_FILE}.marginn; did you mean margin"),
    ],
)
def test_a_wrong_comparison_is_a_line(changes: dict, line: str, tmp_path: Path) -> None:
    claim = CLAIM | {"comparisons": [PAIR, PAIR | changes]}
    with pytest.raises(UserError, match=f"^conf/claims/mine.yaml: {line}"):
        load_claims(write(tmp_path, claim), STUDIES)


@pytest.mark.parametrize(
    "weights",
    [
        {},
        "with",
        {"with": 1e300, "without": -1e300},
        {"with": 1},
        {"with": 1, "without": 0, "other": -1},
        {"with": 1, "without": "-1"},
        {"with": 1, "nope": -1},
    ],
)
def test_wrong_weights_are_a_line(weights: Any, tmp_path: Path) -> None:
    comparison = {"contrast": weights, "metric": "area", "direction": "higher", "margin": 0}
    with pytest.raises(UserError, match=r"comparisons\.0.*(contrast|nope).*: must "):
        load_claims(write(tmp_path, CLAIM | {"comparisons": [comparison]}), STUDIES)


@pytest.mark.parametrize(
    ("study", "changes", "line"),
    [
        (
            "by_width",
            {"trend": {"with": 1, "nope": -1}},
            "trend: nope: must be a level of design.lines: with, w",
        ),
        ("by_width", {"trend": {"with": 1, "without": 1}}, "trend=.*sum to 0"),
        ("by_width", {"trend": {}}, "trend=.* a weight other than 0"),
        ("by_width", {"contrast": {"wide_with": 1, "wide_without": -1}}, "trend, contrast: set exactly one"),
        ("by_width", {"treatment": "wide_with"}, "trend, treatment: set exactly one"),
        ("by_width", {"metric": "failed_to_learn"}, "trend=.*: metric=failed_to_learn compares two arms"),
        ("residual", {}, "trend: study=residual has no factors"),
    ],
)
def test_a_wrong_trend_is_a_line(study: str, changes: dict, line: str, tmp_path: Path) -> None:
    comparison = {
        "trend": {"with": 1, "without": -1},
        "metric": "test_top1",
        "direction": "lower",
        "margin": 0,
    }
    claim = CLAIM | {"study": study, "comparisons": [comparison | changes]}
    with pytest.raises(UserError, match=line) as raised:
        load_claims(write(tmp_path, claim), STUDIES)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"tuning": "nope"}, "claim mine: tuning=nope: must be one of rate"),
        (
            {"tuning": "rate", "study": "benchmark"},
            "claim mine: tuning=rate: must be one of rate, of a study",
        ),
        (
            {"comparisons": [PAIR | {"treatment": "with_configured"}]},
            "with_configured: must be an arm of study",
        ),
    ],
)
def test_a_wrong_tuning_is_a_line(changes: dict, line: str, tmp_path: Path) -> None:
    right = CLAIM | {"tuning": "rate", "comparisons": [PAIR, PAIR | {"control": "with_configured"}]}
    (claim,) = load_claims(write(tmp_path, right), STUDIES, ["rate"])
    assert claim.arms == ("with", "without", "with_configured")
    with pytest.raises(UserError, match=line):
        load_claims(write(tmp_path, CLAIM | changes), STUDIES, ["rate"])


def test_a_share_of_the_control_is_of_two_arms(tmp_path: Path) -> None:
    comparison = {"contrast": {"xception": 2, "inception_v3": -2}, "metric": "parameters"}
    comparison |= {"direction": "lower", "margin": 0}
    with pytest.raises(UserError, match="metric=parameters compares two arms"):
        load_claims(write(tmp_path, CLAIM | {"study": "benchmark", "comparisons": [comparison]}), STUDIES)


@pytest.mark.parametrize(
    "text", ["claims: [", "claims:\n  a: 1\n", "- a\n", "other: []\n", "", "3", "a: 1\na: 2\n"]
)
def test_a_bad_file_is_a_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(
        UserError, match=r"^conf/claims/mine.yaml: (cannot be read|claims|unknown key|must be keys)"
    ) as raised:
        load_claims(tmp_path.glob("*.yaml"), STUDIES)
    assert "\n" not in str(raised.value)


def test_a_study_that_claims_cannot_be_about_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "conf" / "study").mkdir(parents=True)
    text = (FRAMEWORK_CONF / "study/residual.yaml").read_text()
    text = text.replace("- name: residual\n", "- paper_values: {}\n")
    (tmp_path / "conf" / "study" / "residual.yaml").write_text(text)
    with (
        use(Project(tmp_path)),
        pytest.raises(UserError, match=r"^conf/study/residual\.yaml: arms.0.name: missing"),
    ):
        project_claims()

"""A study's file: which there are, in which order, and what one is refused for."""

import copy
import itertools
from typing import Any

import pytest
from omegaconf import OmegaConf

from ablations.errors import UserError
from ablations.yaml_files import check_aliases
from experiments.project import FRAMEWORK_CONF, Project, use
from experiments.study_file import ARM_KEYS, STUDY_KEYS, check_study, study_names

STUDIES = sorted(path.stem for path in (FRAMEWORK_CONF / "study").glob("*.yaml"))


def test_studies_are_in_the_order_of_the_papers_figures() -> None:
    assert sorted(study_names()) == STUDIES
    assert study_names()[:2] == ["residual", "intermediate_activation"]
    assert set(study_names()) - set(study_names(unasked=True)) == {"spectrum_full"}


def edited(name: str, edit) -> dict[str, Any]:
    node = OmegaConf.to_container(OmegaConf.load(FRAMEWORK_CONF / "study" / f"{name}.yaml"))
    node = copy.deepcopy(node)
    edit(node)
    return node


@pytest.mark.parametrize("name", STUDIES)
def test_the_files_on_disk_are_accepted(name: str) -> None:
    check_study(name, edited(name, lambda node: None))


FIGURE = {"output": "f", "title": "t", "source": "s", "arms": ["residual"], "baseline": "residual"}
MALFORMED = {
    "unknown key": lambda node: node.update(colour="red"),
    "unknown key of an arm": lambda node: node["arms"][0].update(colour="red"),
    "keys that are a number and a word": lambda node: node.update({1: "red", "colour": "red"}),
    "paper values in words": lambda node: node["arms"][0].update(paper_values="high"),
    "a metric that is a list": lambda node: node.update(metrics=[["top1"]]),
    "an arm without a name": lambda node: node["arms"][0].pop("name"),
    "a label that is null": lambda node: node["arms"][0].update(label=None),
    "a title that is a number": lambda node: node.update(title=3),
    "an arm that chooses a seed": lambda node: node["arms"][0]["choose"].update(seed=4),
    "no arms": lambda node: node.update(arms=None),
    "arms that are names": lambda node: node.update(arms=["residual", "non_residual"]),
    "arms by name": lambda node: node.update(arms={"residual": {}}),
    "two arms of one name": lambda node: node["arms"][1].update(name="residual"),
    "baseline that is no arm": lambda node: node.update(baseline="none"),
    "another name than the file's": lambda node: node.update(name="residuals"),
    "choose that is a string": lambda node: node["arms"][0].update(choose="residual=true"),
    "base that is null": lambda node: node.update(base=None),
    "no seeds": lambda node: node.update(seeds=[]),
    "seeds that are a number": lambda node: node.update(seeds=6),
    "a seed twice": lambda node: node.update(seeds=[0, 1, 1]),
    "a seed that is a word": lambda node: node.update(seeds=[0, "one"]),
    "a seed that is a list": lambda node: node.update(seeds=[0, [1]]),
    "target in per cent": lambda node: node.update(target=75),
    "target in words": lambda node: node.update(target="high"),
    "no metric": lambda node: node.update(metrics=[]),
    "a metric that is a word": lambda node: node.update(metrics="top1"),
    "an unknown metric": lambda node: node.update(metrics=["top2"]),
    "a paper's value of an unknown metric": lambda node: node["arms"][0].update(paper_values={"top2": 0.5}),
    "an arm whose baseline is no arm": lambda node: node["arms"][0].update(baseline="none"),
    "an arm that is its own baseline": lambda node: node["arms"][0].update(baseline="residual"),
    "the study's baseline matched to itself": lambda node: node["arms"][0]["choose"].update(
        match_parameters="baseline"
    ),
    "figures by name": lambda node: node.update(figures={"figure09": {}}),
    "a figure without arms": lambda node: node.update(figures=[{**FIGURE, "arms": []}]),
    "a figure whose arms are null": lambda node: node.update(figures=[{**FIGURE, "arms": None}]),
    "a figure of an arm that is a list": lambda node: node.update(
        figures=[{**FIGURE, "arms": [["residual"]]}]
    ),
    "a figure of an unknown arm": lambda node: node.update(figures=[{**FIGURE, "arms": ["residual", "x"]}]),
    "a figure with an unknown key": lambda node: node.update(figures=[{**FIGURE, "colour": "red"}]),
    "a row of the paper without a label": lambda node: node.update(paper_only=[{"paper_values": {}}]),
    "notes that are a text": lambda node: node.update(notes="small"),
    "a note that is a number": lambda node: node.update(notes=[1]),
    "a design without factors": lambda node: node.update(design={}),
    "factors beside arms": lambda node: node.update(factors={}),
    "an option that is a list": lambda node: node["arms"][0]["choose"].update(residual=["true"]),
    "an option that is a node": lambda node: node["base"].update(recipe={"epochs": 2}),
    "two arms that choose the same": lambda node: node["arms"][2].update(choose={"residual": "false"}),
    "two arms of which one says the default": lambda node: node["arms"][1].update(choose={}),
    "target of 0": lambda node: node.update(target=0),
}
MALFORMED |= {f"without {key}": lambda node, key=key: node.pop(key) for key in STUDY_KEYS}
MALFORMED |= {f"arm without {key}": lambda node, key=key: node["arms"][1].pop(key) for key in ARM_KEYS}


@pytest.mark.parametrize("kind", sorted(MALFORMED))
def test_a_malformed_file_is_named_in_a_line(kind: str) -> None:
    with pytest.raises(UserError, match=r"^conf/study/residual\.yaml: ") as raised:
        check_study("residual", edited("residual", MALFORMED[kind]))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "content",
    ["", "3", "- a\n", "name: [1", "name: bad\n\tx: 1", "\0", "name: bad\n", "output: 5\n", "output: ../x\n"],
)
def test_a_study_file_that_says_nothing_of_use_is_named_in_a_line(content, tmp_path) -> None:
    (tmp_path / "conf" / "study").mkdir(parents=True)
    (tmp_path / "conf" / "study" / "bad.yaml").write_text(content)
    with (
        use(Project(tmp_path)),
        pytest.raises(UserError, match=r"study/bad\.yaml: (cannot be read|output: must be)") as raised,
    ):
        study_names()
    assert "\n" not in str(raised.value)


def test_two_studies_that_write_the_same_files_are_refused(tmp_path) -> None:
    (tmp_path / "conf" / "study").mkdir(parents=True)
    for name in ("one", "other"):
        (tmp_path / "conf" / "study" / f"{name}.yaml").write_text("output: figure\n")
    with (
        use(Project(tmp_path)),
        pytest.raises(UserError, match=r"study/other\.yaml: output=figure: conf/study/one\.yaml has it"),
    ):
        study_names()


BOMB = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{below}'] * 8)}]\n"
    for below, name in itertools.pairwise("abcdefghijkl")
)


@pytest.mark.parametrize("content", [BOMB, "output: &a [*a]\n"])
def test_aliases_that_stand_for_very_much_are_refused(content: str, tmp_path) -> None:
    (tmp_path / "conf" / "study").mkdir(parents=True)
    (tmp_path / "conf" / "study" / "bad.yaml").write_text(content)
    refused = pytest.raises(UserError, match=r"study/bad\.yaml: .* values where its aliases")
    with use(Project(tmp_path)), refused:
        study_names()
    with pytest.raises(UserError, match=r"study/bad\.yaml: .* values where its aliases"):
        check_aliases(tmp_path)


def test_a_few_aliases_are_as_good_as_what_they_stand_for(tmp_path) -> None:
    (tmp_path / "good.yaml").write_text("a: &a [1, 2]\nb: *a\nc: [*a, *a]\n")
    check_aliases(tmp_path)


def test_factors_with_too_many_combinations_are_refused_before_these_are_listed() -> None:
    level = {"label": "l", "choose": {}}
    factors = {f"f{i}": {"label": "l", "levels": {f"{i}{j}": level for j in range(10)}} for i in range(12)}
    node = {"factors": factors, "design": {"x": "f0", "lines": "f1", "axis": "a", "position": {}}}
    with pytest.raises(UserError, match="factors: 1000000000000 runs; at most"):
        check_study("many", node)

"""A study's file: which there are, in which order, and what one is refused for."""

import copy
from typing import Any

import pytest
from omegaconf import OmegaConf

from ablations.errors import UserError
from experiments.project import FRAMEWORK_CONF, Project, use
from experiments.study_file import check_study, study_names
from tests.ours import STUDIES


def test_studies_are_in_the_order_of_the_papers_figures() -> None:
    assert set(STUDIES) <= set(study_names())
    papers = ["residual", "intermediate_activation", "spectrum"]
    assert [name for name in study_names() if name in papers] == papers
    assert "spectrum_deep" in set(study_names()) - set(study_names(unasked=True))


def edited(name: str, edit) -> dict[str, Any]:
    node = OmegaConf.to_container(OmegaConf.load(FRAMEWORK_CONF / "study" / f"{name}.yaml"))
    node = copy.deepcopy(node)
    edit(node)
    return node


@pytest.mark.parametrize("name", STUDIES)
def test_the_files_on_disk_are_accepted(name: str) -> None:
    check_study(name, edited(name, lambda node: None))


FIGURE = {"output": "f", "title": "t", "source": "s", "arms": ["residual"], "baseline": "residual"}


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("targt", 0.5, "unknown key targt; did you mean target?"),
        ("arms/0/colour", "red", "unknown key arms.0.colour; known: name, label, choose, "),
        ("title", ..., "title: missing; Heading"),
        ("arms", ["residual", "non_residual"], "arms.0=residual: must be keys with values: name, label"),
        ("arms/0/label", False, "arms.0.label=False: must be a valid string; in YAML put on, off, "),
        ("arms/0/paper_values", {"top2": 0.5}, "arms.0.paper_values.top2: must be one of "),
        ("arms/0/choose/seed", 4, "arms.0.choose.seed: "),
        (
            "arms/0/choose/residual",
            ["true"],
            "arm residual: choose: residual=.*: must name an option of conf/",
        ),
        (
            "arms/0/choose/match_parameters",
            "baseline",
            "arms.0.choose.match_parameters=baseline: must be a num",
        ),
        ("arms/1/name", "residual", "arms: names=.*: must be different"),
        ("arms/2/choose", {"residual": "false"}, "arms non_residual and projections: make the same choices"),
        ("arms/0/baseline", "none", "arms.0.baseline=none: must be another arm"),
        ("baseline", "none", "baseline=none: must be one of residual, non_residual, "),
        ("name", "residuals", "name=residuals: must be residual, like the file"),
        ("base/recipe", {"epochs": 2}, "base: recipe=.*: must name an option of conf/recipe"),
        ("seeds", [0, 1, 1], "seeds=.*: must be different"),
        ("seeds", [0, "1"], "seeds.1='1': must be a valid integer"),
        ("target", 75, "target=75: must be less than 1"),
        ("metrics", ["top2"], "metrics.0=top2: must be one of "),
        ("figures", [{**FIGURE, "baseline": "none"}], "figures.0.baseline=none: must be one of its arms"),
        ("figures", [{**FIGURE, "draw": "math.pi"}], "figures.0.draw=math.pi: must name a function"),
        ("figures", 2 * [{**FIGURE, "draw": "math.sqrt"}], "figures.0.output=f: must differ from"),
        ("figures", [{**FIGURE, "arms": ["residual", "x"]}], "figures.0.arms: x: must be one of residual, "),
        ("output", "../x", "output=../x: must match pattern"),
        ("paper", {"residual": "best"}, "paper: needs factors"),
        ("design", {"x": "a", "lines": "b", "axis": "c", "position": {}}, "design: needs factors"),
    ],
)
def test_a_wrong_file_is_named_in_a_line(path: str, value: Any, line: str) -> None:
    def edit(node: Any) -> None:
        *parents, last = [int(key) if key.isdigit() and path != "1" else key for key in path.split("/")]
        for key in parents:
            node = node[key]
        if value is ...:
            del node[last]
        else:
            node[last] = value

    with pytest.raises(UserError, match=rf"^conf/study/residual\.yaml: {line}") as raised:
        check_study("residual", edited("residual", edit))
    assert "\n" not in str(raised.value)


def test_an_option_that_yaml_reads_as_a_boolean_must_be_quoted(tmp_path) -> None:
    group = tmp_path / "conf" / "control"
    group.mkdir(parents=True)
    for option in ("off", "sham"):
        (group / f"{option}.yaml").write_text("{}\n")
    study = edited("residual", lambda node: node["arms"][1]["choose"].update(control=False))  # control: off
    with (
        use(Project(tmp_path)),
        pytest.raises(UserError, match='control: YAML reads off as a boolean; write control: "off"'),
    ):
        check_study("residual", study)


@pytest.mark.parametrize(
    "content",
    ["", "3", "- a\n", "name: [1", "name: bad\n\tx: 1", "\0", "name: bad\n", "output: 5\n", "output: ../x\n"],
)
def test_a_study_file_that_says_nothing_of_use_is_named_in_a_line(content, tmp_path) -> None:
    (tmp_path / "conf" / "study").mkdir(parents=True)
    (tmp_path / "conf" / "study" / "bad.yaml").write_text(content)
    with (
        use(Project(tmp_path)),
        pytest.raises(UserError, match=r"study/bad\.yaml: (cannot be read|output|must be keys)") as raised,
    ):
        study_names()
    assert "\n" not in str(raised.value)


def test_two_studies_that_write_the_same_files_are_refused(tmp_path) -> None:
    (tmp_path / "conf" / "study").mkdir(parents=True)
    for name in ("one", "other"):
        (tmp_path / "conf" / "study" / f"{name}.yaml").write_text("output: figure\n")
    with (
        use(Project(tmp_path)),
        pytest.raises(
            UserError, match=r"study/other\.yaml: output=figure: conf/study/one\.yaml has the same"
        ),
    ):
        study_names()

"""Generated wrong command lines: each is one line and exit code 2, and leaves nothing behind.

The commands run in this process through their `main`, with what trains replaced. About 60 lines are drawn,
of all groups and keys and of what cannot stand there (`reproducible` has the numbers). They are the same
every time, so that a failure can be repeated; Hypothesis shrinks it to the shortest line.
"""

import contextlib
import io
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from ablations import __main__ as analysis
from ablations.cli.commands import COMMANDS
from experiments import run
from experiments.planning import compose_runs, hydra_configuration
from experiments.project import Project, use
from tests.processes import typed

pytestmark = pytest.mark.slow

PROJECT = Project(Path(__file__).resolve().parents[1])
HYDRA_GROUPS = ("hydra/launcher", "hydra/sweeper", "hydra/job_logging", "hydra/hydra_logging", "hydra/output")
FLAGS = [
    "--cfg",
    "--resolve",
    "--package",
    "-sc",
    "-cn",
    "-cd",
    "-cp",
    "--info",
    "--experimental-rerun",
    "-m",
    "--run",
    "--nope",
    "-x",
    "nope",
    "job",
    "hydra.mode=x",
    "hydra.sweep=3",
    "install=nope",
    "hydra.searchpath=3",
    "hydra.verbose=[",
    "hydra.run=null",
    "hydra.launcher.n_jobs=x",
]
WRONG_OF_A_STUDY = [
    "seed=x",
    "seed=0,0",
    "seed=range(1,2,0)",
    "seed=range(9999999)",
    "seed=-1",
    "seeds=3",
    "--nope",
    "study=nope",
    "tuning=nope",
    "recipe.epoch=1",
    "hydra/launcher=2",
    "--output",
    "results_dir=3",
    "logger=2",
    "trainer=[1]",
    "seed_budget=7",
    "residual=true",
    "~seed=1",
]
SWEPT = [
    "study=residual",
    "study=nope",
    "study=residual,residual",
    "study=3",
    "seed=0,0",
    "seed=range(0,inf)",
    "seed=range(9,1)",
    "model.width=range(0,1e9,1e-9)",
    "model.width=glob(*)",
    "seed=interval(0,1)",
]
WRONG_IN_A_SWEEP = (
    *("seed=a,b", "residual=true,true", "seeds=nope", "tuning=nope", "seeds=auto seed_budget=1"),
    *("residual=nope,true", "recipe.epoch=1,2", "trainer.threads=1,2", "hydra/launcher=joblib,basic"),
)
KEYS_OF_NO_PART = (
    *("seed", "train", "outcome_version", "recipe.epochs", "recipe.batch_size", "recipe.channels_last"),
    *("recipe.precision", "recipe.norm_momentum", "trainer.threads"),
)
OTHER_CHOICES = (
    ("trainer=ddp",),
    ("dataset=fashion_mosaic",),
    ("recipe=embedded_polyak",),
    ("model=resnet18",),
    ("model=separable_vgg", "fully_connected=two"),
    ("diagnostics=all",),
)

Outcome = tuple[int | str, str, str]
Leaf = tuple[tuple[str, ...], str, Any]
Call = Callable[..., Outcome]

TRAINED = "trained"


class Trained(BaseException):
    """In place of training: a line that is right after all."""


def reproducible(examples: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Call]:
    """Calls `python run.py WORDS` or `python -m ablations WORDS`; returns code, output and errors."""
    folder = tmp_path_factory.mktemp("empty")
    # Without results, by which a run would be completed already.
    project = Project(tmp_path_factory.mktemp("project"))
    for name in ("conf", "results/reference/tables"):
        shutil.copytree(PROJECT.root / name, project.root / name)
    for name in ("run.py", "results/reference/records.tar.xz"):
        shutil.copy(PROJECT.root / name, project.root / name)

    def train(*arguments: Any, **options: Any) -> Any:
        raise Trained

    def call(program: str, *words: str) -> Outcome:
        output, errors = io.StringIO(), io.StringIO()
        patch.setattr(sys, "argv", [program, *words])
        with use(project), contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            try:
                code: int | str = (
                    analysis.main() if program == "ablations" else run.main(str(project.root / "run.py"))
                )
            except Trained:
                code = TRAINED
        note(f"{program} {words}: {code}\n{errors.getvalue()}")
        if code == 2:
            assert errors.getvalue().startswith("error: ")
            assert errors.getvalue().count("\n") == 1
            assert output.getvalue() == ""
        left = [place.name for place in folder.iterdir()]
        for name in left:
            shutil.rmtree(folder / name)
        assert left == [] or code == TRAINED  # there the run's directory was locked
        return code, output.getvalue(), errors.getvalue()

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HYDRA_FULL_ERROR", "0")
        patch.setattr(run, "train", train)
        for module in ("sweep", "auto_seeds", "tuning"):
            patch.setattr(f"experiments.{module}.bring_to_outcome", train, raising=False)
        yield call


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Keys of plain values as on the command line, with the value."""
    if isinstance(node, dict):
        if "." in path:
            yield path, node
        for key, value in node.items():
            yield from leaves(value, f"{path}.{key}".lstrip("."))
    elif not path.startswith("dataset.checksums") and "[" not in path:
        yield path, node


@cache
def every_leaf() -> list[Leaf]:
    """Choices, key and value: of the default configuration, and of others what that has not."""
    found: dict[str, Leaf] = {}
    with use(PROJECT), hydra_configuration():
        for choices in ((), *OTHER_CHOICES):
            for key, value in leaves(
                OmegaConf.to_container(OmegaConf.create(dict(compose_runs(choices)[0].resolved)))
            ):
                found.setdefault(key, (choices, key, value))
    return list(found.values())


NO_OPTION = st.one_of(
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(("nope", "''", "[true,false]", "{a:1}", "TRUE1", "a/b", "../x", "é", "-")),
    st.text("abcxyz_", min_size=4, max_size=300).filter(lambda text: text != "none"),
)
ODD_TEXT = st.text("{}[]()=,'\"\\:@$~+*% ab1.-\n", min_size=1, max_size=12)


def wrong_for(value: Any) -> st.SearchStrategy[str]:
    """What cannot stand in place of a value."""
    shapes = ("{a:1}", "[1,[2]]", "[]")
    if isinstance(value, dict):
        return st.sampled_from((*shapes[1:], "nope", "3", "true"))
    if isinstance(value, list):
        return st.sampled_from(shapes[:2])
    if isinstance(value, bool):
        return st.sampled_from((*shapes, "nope", "3", "-1", "nan"))
    if isinstance(value, int | float):
        return st.sampled_from((*shapes, "nope", "nan", "-inf", "-7", "''"))
    return st.sampled_from(shapes)


@st.composite
def wrong_leaves(draw: st.DrawFn, keys: Sequence[str] = ()) -> list[str]:
    """A value that its key does not take; of some keys, or of all."""
    choices, key, value = draw(
        st.sampled_from([leaf for leaf in every_leaf() if not keys or leaf[1] in keys])
    )
    return [*choices, f"{key}={draw(wrong_for(value))}"]


@reproducible(10)
@given(st.sampled_from((*PROJECT.groups(), *HYDRA_GROUPS)), NO_OPTION, st.booleans())
def test_no_group_takes_what_is_no_option(call: Call, group: str, option: str, sweep: bool) -> None:
    words = [f"{group}={option}"] if option != "''" else [f"{group}=''"]
    assert call("run.py", *(["-m"] if sweep else []), *words)[0] == 2


@reproducible(12)
@given(wrong_leaves())
def test_no_key_takes_a_value_of_another_type(call: Call, words: list[str]) -> None:
    assert call("run.py", *words)[0] == 2


@reproducible(12)
@given(
    st.sampled_from(("seed", "residual", "+x", "~model", "results_dir", "a.b", "")), ODD_TEXT, st.booleans()
)
def test_grammar_of_any_kind_is_a_line_or_right(call: Call, key: str, text: str, sweep: bool) -> None:
    words = [f"{key}={text}"] if key else [text]
    assert call("run.py", *(["-m"] if sweep else []), *words)[0] in (2, TRAINED)


@reproducible(8)
@given(st.lists(st.sampled_from(FLAGS), min_size=1, max_size=3))
def test_flags_of_hydra(call: Call, words: list[str]) -> None:
    with contextlib.suppress(SystemExit):  # Hydra ends the process where it has shown what was asked for
        assert call("run.py", *words)[0] in (0, 2, TRAINED)


@reproducible(8)
@given(
    st.sampled_from(
        sorted(set(COMMANDS) - {"benchmark"})
    ),  # it measures for minutes where its words are right
    st.sampled_from(("residual", "nope", "residual=false")),
    st.one_of(
        st.sampled_from(WRONG_OF_A_STUDY),
        ODD_TEXT.map(lambda text: f"recipe.epochs=-{text}"),
        wrong_leaves(KEYS_OF_NO_PART).map(lambda words: words[-1]),
    ),
)
def test_commands_of_the_analysis(call: Call, command: str, name: str, word: str) -> None:
    assert call("ablations", command, name, word)[0] == 2


@reproducible(6)
@given(st.sampled_from(SWEPT), st.sampled_from(WRONG_IN_A_SWEEP))
def test_sweeps(call: Call, first: str, second: str) -> None:
    assert call("run.py", "-m", first, *second.split())[0] == 2


def test_a_process_ends_with_its_line(tmp_path: Path) -> None:
    results = tmp_path / "results"
    ended = typed(PROJECT.root, "run.py", "hydra/launcher=2", f"results_dir={results}")
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert ended.stderr.startswith("error: invalid command line: ")
    assert not results.exists()

"""Every command and code block of README, CONTRIBUTING and docs/ is run: for real where it is small."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.plan import plan_sweep
from experiments.planning import hydra_configuration
from experiments.project import FRAMEWORK_CONF, load_yaml
from tests.documentation.blocks import PAGES, REPOSITORY, Block, blocks_of, commands_of, parse
from tests.documentation.rules import do
from tests.documentation.workspace import Workspace

WITH_BLOCKS = [page for page in PAGES if blocks_of(page)]


@pytest.fixture
def workspace(tmp_path: Path, write_run: Callable[..., Any], few_images: dict[str, Any]) -> Workspace:
    return Workspace(tmp_path, write_run, few_images)


def carry_out(workspace: Workspace, block: Block) -> None:
    """Run a block by its language.

    Raises:
        LookupError: Nothing knows it.
    """
    if block.language in ("bash", "console"):
        for command in commands_of(block):
            before = workspace.git_status()
            do(workspace, command)
            assert workspace.git_status() == before, f"git shows what this wrote: {command}"
    elif block.language in ("yaml", "python") and block.file is not None:
        workspace.write(block)
    elif block.language == "python":
        exec(compile(block.text, block.where, "exec"), workspace.names)
    else:
        raise LookupError(f"no rule covers a block of {block.language or 'no language'}")


def test_the_pages_are_found() -> None:
    names = {page.relative_to(REPOSITORY).as_posix() for page in PAGES}
    assert {"README.md", "CONTRIBUTING.md", "docs/tutorial.md", "docs/how-to/new-arm.md"} <= names


def test_the_tutorial_s_study_shares_the_runs_that_its_text_says() -> None:
    """Its arms are the single run that the tutorial trains first and figure 10's baseline."""
    files = {block.file: block for block in blocks_of(REPOSITORY / "docs/tutorial.md")}
    own = yaml.safe_load(files["conf/study/silu.yaml"].text)
    assert own["base"] == load_yaml(FRAMEWORK_CONF / "study/intermediate_activation.yaml")["base"]


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_a_page_can_be_followed(page: Path, workspace: Workspace) -> None:
    with workspace.used():
        for block in blocks_of(page):
            try:
                carry_out(workspace, block)
            except BaseException as error:
                error.add_note(f"in the block at {block.where}:\n{block.text}")
                raise


def test_git_ignores_archives_of_records(workspace: Workspace, write_run: Callable[..., Any]) -> None:
    """No page shows these two commands."""
    with workspace.used():
        with hydra_configuration():
            for planned in plan_sweep(["seed=0,1"]):
                write_run(planned.configuration)
        for words in (["pack"], ["unpack", "--file", "results/records.tar.xz"]):
            workspace.ablations(words)
            assert workspace.git_status() == "", words
        assert (workspace.folder / "results" / "records.tar.xz").is_file()


def test_code_is_fenced() -> None:
    """A block by indentation alone would not be run."""
    found = []
    for page in PAGES:
        inside, above = False, ""
        for line in page.read_text(encoding="utf-8").splitlines():
            if line.lstrip().startswith("```"):
                inside = not inside
            elif not inside and line.startswith("    ") and not above.strip():
                found.append((page.name, line))
            above = line
    assert found == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```bash\nrm -rf results\n```\n", "no rule .* covers: rm -rf results"),
        ("```bash\npython -m another\n```\n", "no rule .* covers: python -m another"),
        ("```ruby\nputs 1\n```\n", "a block of ruby"),
        ("```\nwhat\n```\n", "a block of no language"),
        ("```yaml\na: 1\n```\n", "a block of yaml"),
    ],
)
def test_a_block_that_nothing_covers_fails(text: str, message: str, workspace: Workspace) -> None:
    (block,) = parse(text, Path("page.md"))
    with pytest.raises(LookupError, match=message):
        carry_out(workspace, block)


def test_a_command_that_does_not_exist_fails(workspace: Workspace) -> None:
    with workspace.used():
        for text in (
            "python -m ablations nothing_of_this",
            "python run.py residual=perhaps",
            "make nothing_of_this",
        ):
            with pytest.raises(AssertionError):
                do(workspace, text)


def test_blocks_are_parsed() -> None:
    text = "As `conf/a/b.yaml`, `conf/x/y.yaml`:\n\n   ```yaml\n   a: 1\n   ```\n\n```console\n$ x\n1\n```\n"
    first, second = parse(text, Path("page.md"))
    assert (first.where, first.language, first.text, first.file) == (
        "page.md:3",
        "yaml",
        "a: 1\n",
        "conf/x/y.yaml",
    )
    assert commands_of(second) == ["x"]
    assert second.file is None

"""A paper of one's own from the built wheel, in an environment where this checkout is not."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCES = (
    *("pyproject.toml", "README.md", "LICENSE", "conf"),
    *("ablations", "experiments", "lightning_modules", "hydra_plugins"),
)
SHORT = ("study=attention", "seed=0", "recipe.epochs=1", "dataset.train_images=160")
USED = """
import sys
import pytest
import ablations, experiments, lightning_modules
from ablations.__main__ import main
words = sys.argv[1:]
for name in (["list"], [], ["verdicts"], ["report"]):
    sys.argv = ["ablations", *name, *words]
    assert main() == 0
assert pytest.main(["-p", "no:cacheprovider"]) == 0
print(ablations, experiments, lightning_modules)
"""
"""The analysis and the project's tests, in one process."""

ONES_OWN = ("-c", "user.name=A", "-c", "user.email=a@example.org")


def command(folder: Path, *words: str) -> str:
    """Run a command as a user does, without what leads to the checkout; returns what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs of a new environment: the dependencies are the tests', the packages the wheel's."""
    folder = tmp_path_factory.mktemp("installed")
    (folder / "source").mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
        copy(REPOSITORY / name, folder / "source" / name)
    build = ("wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), str(folder / "source"))
    command(folder, sys.executable, "-m", "pip", *build)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", symlinks=True)
    python = folder / "env" / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = Path(command(folder, str(python), "-c", where).strip())
    # A .pth in there is not followed, so an editable install of this checkout is not either.
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = ("--python", str(python), "install", "-q", "--no-deps", str(wheel))
    command(folder, sys.executable, "-m", "pip", *install)
    shutil.rmtree(folder / "source")
    return python.parent


@pytest.mark.slow
def test_a_paper_of_ones_own(binaries: Path, tmp_path: Path) -> None:
    python, ablations = str(binaries / "python"), str(binaries / "ablations")
    written = command(tmp_path, ablations, "new", "my_paper")
    assert "my_paper/run.py" in written
    project = tmp_path / "my_paper"
    command(project, "git", "init", "-q")
    command(project, "git", "add", ".")
    command(project, "git", *ONES_OWN, "commit", "-q", "-m", "All")

    # In one process; tests/test_commands.py types a sweep in the launcher's.
    trained = command(project, python, "run.py", "-m", *SHORT, "hydra/launcher=basic")
    assert "2 of 2 runs done" in trained
    assert "attention-final" in trained
    records = [json.loads(path.read_text()) for path in project.glob("results/runs/*/record.json")]
    assert [record["status"] for record in records] == ["completed"] * 2
    commit = command(project, "git", "rev-parse", "HEAD").strip()
    assert [record["git"] for record in records] == [{"commit": commit, "changes": {}}] * 2
    assert all(record["versions"]["xception-ablations"][0].isdigit() for record in records)
    assert {record["config"]["logger"]["project"] for record in records} == {"my_paper"}

    shown = command(project, python, "-c", USED, "attention", *SHORT[1:])
    assert "attention: 2 of 2 completed" in shown
    assert " passed" in shown
    assert str(REPOSITORY) not in shown.splitlines()[-1]
    paths = [line for line in shown.splitlines() if re.fullmatch(r"results/(tables|figures|report)/.*", line)]
    assert {path.split("/")[1] for path in paths} == {"tables", "figures", "report"}
    assert all((project / path).is_file() for path in paths)
    (page,) = project.glob("results/report/*.html")
    assert "<title>My paper" in page.read_text(encoding="utf-8")
    assert command(project, "git", "status", "--short") == ""

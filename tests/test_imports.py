"""Which way knowledge goes: contracts between packages, light commands, no arm known by name."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from functools import cache

import pytest

from experiments.project import FRAMEWORK_CONF, current
from experiments.study_file import check_study
from tests.ours import FILES as FILES_OF_CONF
from tests.ours import STUDIES, file_of

ROOT = FRAMEWORK_CONF.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONTRACTS = PROJECT["tool"]["importlinter"]["contracts"]
(OF_ANALYSIS,) = (one for one in CONTRACTS if "ablations.statistics" in one.get("source_modules", ()))
HEAVY = ("torch", "lightning", "torchmetrics", "torchvision", "pandas", "matplotlib", "wandb", "scipy")
ELSEWHERE = {"none", "true", "false"}
"""Options that are words of matplotlib, Hydra or YAML too, which only the code that trains does without."""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_import_contracts_hold():
    result = python(
        "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_what_answers_at_once_imports_nothing_heavy():
    modules = ("run", "experiments.command_line", "experiments.sweep", "hydra_plugins.run_sweeper")
    code = f"import sys, {', '.join(modules)}; print(*sorted(sys.modules.keys() & set(sys.argv[1:])))"
    result = python(code, *HEAVY)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []


WITHOUT = """
import importlib, pkgutil, sys
from pathlib import Path

absent, modules = (words.split(",") for words in sys.argv[1:3])

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name in absent:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Absent())
"""
"""Blocks modules, whoever imports them."""

IMPORT_ALL = """
for name in ["ablations", *modules]:
    module = importlib.import_module(name)
    if name != "ablations" and hasattr(module, "__path__"):
        for below in pkgutil.walk_packages(module.__path__, f"{name}."):
            importlib.import_module(below.name)
"""

ANALYSE = """
import ablations

results = Path(sys.argv[3])
for option, better in (("none", 0.0), ("group", 0.02)):
    for seed in range(6):
        top1 = 0.7 + 0.01 * seed + better * (1 + seed / 10)
        epochs = [{"step": step, "val_top1": top1 - 0.1 / step} for step in (5, 10)]
        ablations.write_run(
            results, choices={"norm": option}, seed=seed, epochs=epochs, test={"top1": top1}, num_classes=10
        )
runs, history = ablations.load_runs(results), ablations.load_histories(results)
table = ablations.compare(runs, factor="norm", baseline="none", metric="test_top1").set_index("norm")
pair = {"treatment": "group", "control": "none", "metric": "test_top1", "direction": "higher", "margin": 0.01}
judged = ablations.judge([{"id": "helps", "comparisons": [pair]}], runs, factor="norm")
ablations.plot_curves(history, by="norm").figure.savefig(results / "curves.png")
print(ablations.needed_seeds(effect=0.004, spread=0.006) > 1)
print(table.loc["group", "n_pairs"], f'{table.loc["group", "difference"]:.3f}', *judged["verdict"])
"""


def test_every_module_with_a_layer_in_the_analysis_may_not_import_what_trains():
    (layered,) = (one for one in CONTRACTS if one.get("exhaustive"))
    modules = {f"ablations.{name}" for layer in layered["layers"] for name in layer.split(" | ")}
    assert modules == set(OF_ANALYSIS["source_modules"])


def test_the_analysis_works_without_what_trains(tmp_path):
    absent = [name for name in OF_ANALYSIS["forbidden_modules"] if not name.startswith("ablations.")]
    assert {"torch", "lightning", "hydra", "omegaconf", "lightning_modules", "experiments"} <= set(absent)
    arguments = (",".join(absent), ",".join(OF_ANALYSIS["source_modules"]), str(tmp_path))
    result = python(WITHOUT + ANALYSE + IMPORT_ALL, *arguments)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["True", "6", "0.025", "holds"]
    assert (tmp_path / "curves.png").is_file()
    refused = python(WITHOUT + "import torch.nn", *arguments)
    assert refused.stderr.rstrip().endswith("torch is blocked")


def imported(code: str) -> set[str]:
    """The packages that code imports, also in functions and for types."""
    nodes = list(ast.walk(ast.parse(code)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    return {name.partition(".")[0] for name in names}


def normalized(distribution: str) -> str:
    """Its name as package indexes compare it, without versions and extras."""
    name = re.match(r"[\w.-]+", distribution)
    assert name
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def test_every_imported_package_is_declared() -> None:
    packages = {name.partition(".")[0] for name in PROJECT["tool"]["setuptools"]["packages"]}
    files = [ROOT / "run.py", *(file for package in packages for file in (ROOT / package).rglob("*.py"))]
    found = set().union(*(imported(file.read_text(encoding="utf-8")) for file in files))
    extras = PROJECT["project"]["optional-dependencies"].values()
    declared = {normalized(one) for part in (PROJECT["project"]["dependencies"], *extras) for one in part}
    providers = importlib.metadata.packages_distributions()
    third_party = found - packages - sys.stdlib_module_names
    assert {"torch", "optuna", "yaml", "hydra"} <= third_party  # also in functions, also renamed
    undeclared = [
        name for name in third_party if not declared & set(map(normalized, providers.get(name, [name])))
    ]
    assert undeclared == []


OF_A_NETWORK = re.compile(r"^_target_: lightning_modules\.networks\.", re.MULTILINE)


@cache
def arms() -> set[str]:
    """What the arms of our studies choose, and our options that build a network or a part of it."""
    found = {file.stem for file in FILES_OF_CONF if OF_A_NETWORK.search(file.read_text(encoding="utf-8"))}
    for name in STUDIES:
        for arm in check_study(name, file_of(name)).arms:
            found |= {str(option) for group, option in arm.choose.items() if current().is_group(group)}
    return found


def literals(code: str) -> list[tuple[int, str]]:
    """String literals with their lines; docstrings and pieces of f-strings are none."""
    tree = ast.parse(code)
    statements = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    pieces = {id(piece) for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) for piece in n.values}
    return [
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in statements | pieces
    ]


@pytest.mark.parametrize(
    "package", ["run.py", "lightning_modules", "experiments", "ablations", "hydra_plugins"]
)
def test_no_module_knows_an_arm_by_name(package):
    path = ROOT / package
    known = arms() - (set() if package in ("run.py", "lightning_modules") else ELSEWHERE)
    named = [
        f"{file.relative_to(ROOT)}, line {line}: {text!r}"
        for file in ([path] if path.is_file() else sorted(path.rglob("*.py")))
        for line, text in literals(file.read_text(encoding="utf-8"))
        if text.strip().lower() in known
    ]
    assert named == []


def test_an_arm_known_by_name_would_be_found():
    code = '"""relu"""\ndef f(a):\n    "elu"\n    return f"relu{a}" if a == "ReLU" else {"x": "none"}\n'
    assert {"relu", "none", "true", "spatially_separable", "channels_8", "xception"} <= arms()
    assert literals(code) == [(4, "ReLU"), (4, "x"), (4, "none")]

"""Which way knowledge goes: contracts between packages, light commands, no arm known by name."""

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache

from experiments.project import FRAMEWORK_CONF, current
from experiments.study_file import check_study
from tests.ours import STUDIES, file_of

ROOT = FRAMEWORK_CONF.parent
HEAVY = ("torch", "lightning", "torchmetrics", "torchvision", "pandas", "matplotlib", "wandb", "scipy")
FILES = [ROOT / "run.py", *sorted((ROOT / "lightning_modules").rglob("*.py"))]


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


def test_the_analysis_is_imported_without_what_trains():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (contract,) = (
        one for one in contracts["contracts"] if "ablations.statistics" in one.get("source_modules", ())
    )
    absent = [name for name in contract["forbidden_modules"] if not name.startswith("ablations.")]
    code = """if True:
        import importlib, pkgutil, sys
        absent, modules = (words.split(",") for words in sys.argv[1:])
        sys.modules.update(dict.fromkeys(absent))  # importing one fails
        for name in ["ablations", *modules]:
            module = importlib.import_module(name)
            if name != "ablations" and hasattr(module, "__path__"):
                for below in pkgutil.walk_packages(module.__path__, f"{name}."):
                    importlib.import_module(below.name)
    """
    result = python(code, ",".join(absent), ",".join(contract["source_modules"]))
    assert {"torch", "lightning", "hydra", "omegaconf", "lightning_modules", "experiments"} <= set(absent)
    assert result.returncode == 0, result.stderr


OF_A_NETWORK = re.compile(r"^_target_: lightning_modules\.networks\.", re.MULTILINE)


@cache
def arms() -> set[str]:
    """What the arms of our studies choose, and the options that build a network of ours or a part of it.

    Of a user's options only these: others may have any name.
    """
    files = FRAMEWORK_CONF.rglob("*.yaml")
    found = {file.stem for file in files if OF_A_NETWORK.search(file.read_text(encoding="utf-8"))}
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


def test_no_module_knows_an_arm_by_name():
    named = [
        f"{file.relative_to(ROOT)}, line {line}: {text!r}"
        for file in FILES
        for line, text in literals(file.read_text(encoding="utf-8"))
        if text.strip().lower() in arms()
    ]
    assert named == []


def test_an_arm_known_by_name_would_be_found():
    code = '"""relu"""\ndef f(a):\n    "elu"\n    return f"relu{a}" if a == "ReLU" else {"x": "none"}\n'
    assert {"relu", "none", "true", "spatially_separable", "channels_8", "xception"} <= arms()
    assert literals(code) == [(4, "ReLU"), (4, "x"), (4, "none")]

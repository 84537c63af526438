"""Records and tables damaged in every way that Hypothesis finds: named, missing, never used, no traceback."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ablations.runs.records import RunDirectory
from experiments.planning import hydra_configuration, plan_study

STUDY = "residual"
SEEDS = "seed=0,1,2,3"
RUNS = 16
"""Of the study: each example damages all of them."""

STATUSES = ("completed", "diverged", "failed", "running")
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**29),
    st.just(10**400),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)
VALUES = st.one_of(
    SCALARS, st.lists(SCALARS, max_size=2), st.dictionaries(st.text(max_size=3), SCALARS, max_size=2)
)

Damage = tuple[str, int, int, Any]
FIELDS = st.tuples(
    st.sampled_from(["field", "sealed field"]), st.integers(0, 10**6), st.sampled_from([0, 1, 2]), VALUES
)
BYTES = st.tuples(
    st.sampled_from(["record.json", "metrics.csv"]),
    st.integers(0, 10**6),
    st.sampled_from([0, 1, 2, 3]),
    st.integers(0, 255),
)
DAMAGES = st.lists(st.one_of(FIELDS, BYTES), min_size=RUNS, max_size=RUNS)


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key of a record, at any depth."""
    for key, value in node.items() if isinstance(node, dict) else ():
        yield (*path, key)
        yield from places(value, (*path, key))


def damaged_field(content: bytes, place: int, how: int, value: Any, *, seal: bool) -> bytes:
    """A record with one field set, deleted or added."""
    record = json.loads(content)
    paths = list(places(record))
    *parents, last = paths[place % len(paths)]
    node = record
    for parent in parents:
        node = node[parent]
    if how == 0:
        node[last] = value
    elif how == 1:
        del node[last]
    else:
        node[f"{last}_"] = value
    if not seal:
        return (json.dumps(record, indent=2) + "\n").encode()
    text = json.dumps({key: item for key, item in record.items() if key != "checksum"}, indent=2) + "\n"
    checksum = hashlib.sha256(text.encode()).hexdigest()
    return f'{{\n  "checksum": "{checksum}",\n{text[2:]}'.encode()


def damaged_bytes(content: bytes, place: int, how: int, byte: int) -> bytes:
    """A file with a byte changed, deleted or added, or cut off."""
    at = place % len(content)
    new = {0: bytes([byte]), 1: b"", 2: bytes([byte, content[at]]), 3: None}[how]
    return content[:at] if new is None else content[:at] + new + content[at + 1 :]


@pytest.fixture
def pristine(results_dir: Path, write_run) -> dict[Path, bytes]:
    """Content of all files of the study's runs, of every status, whole."""
    with hydra_configuration():
        _, planned = plan_study(STUDY, [SEEDS, f"results_dir={results_dir}"])
    assert len(planned) == RUNS
    for place, run in enumerate(planned):
        status = STATUSES[max(0, place % 8 - 4)]  # most are completed
        write_run(run.configuration, status, epochs=None if status == "completed" else 2)
    return {path: path.read_bytes() for path in sorted(results_dir.glob("runs/*/*"))}


@pytest.mark.slow
@settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(damages=DAMAGES, command=st.sampled_from(["list", "verdicts"]))
def test_what_is_damaged_is_named_and_missing(
    damages: list[Damage],
    command: str,
    pristine: dict[Path, bytes],
    results_dir: Path,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folders = sorted({path.parent for path in pristine})
    content = dict(pristine)
    changed = set()
    for folder, (kind, place, how, value) in zip(folders, damages, strict=True):
        path = folder / (kind if kind == "metrics.csv" else "record.json")
        if kind in ("record.json", "metrics.csv"):
            content[path] = damaged_bytes(pristine[path], place, how, value)
        else:
            content[path] = damaged_field(pristine[path], place, how, value, seal=kind == "sealed field")
        if content[path] != pristine[path] and kind != "sealed field":  # what has a checksum may be used
            changed.add(path)
    for path, data in content.items():
        path.write_bytes(data)
    capsys.readouterr()

    assert call(command, STUDY, SEEDS) == 0
    said = capsys.readouterr()

    assert {path: path.read_bytes() for path in sorted(results_dir.glob("runs/*/*"))} == content
    # A table of fewer runs than the one before says so in a line of its own.
    lines = [line for line in said.err.splitlines() if ": replaced; " not in line]
    assert "Traceback" not in said.err
    for folder in folders:
        planned = json.loads(pristine[folder / "record.json"])  # the study asks for its diagnostics
        status = RunDirectory(results_dir, folder.name, planned["config"]["diagnostics"]).status()
        about = [line for line in lines if str(folder) in line]
        assert len(about) <= 1
        assert not about or status == "missing"
        whole = planned["status"]
        if folder / "record.json" in changed:
            assert (status, len(about)) == ("missing", 1)
        if folder / "metrics.csv" in changed and whole in ("completed", "diverged"):
            assert (status, len(about)) == ("missing", 1)
    assert all(
        re.match(
            r"(unreadable record|lost, changed or damaged|not measured as requested .* or changed), counted",
            line,
        )
        for line in lines
    )

"""`python -m ablations reproduce`: two sets of records, made up for the runs of a study."""

from pathlib import Path

import pytest

from ablations.runs.archive import pack
from experiments.planning import hydra_configuration, plan_study
from experiments.project import Project


@pytest.fixture
def no_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Project, "reference", tmp_path / "nowhere")


def write_set(folder: Path, write_run, seeds: range, shift: float, day: int) -> Path:
    """Runs of figure 9's two arms, in a folder: 0.2 apart, plus `shift`."""
    with hydra_configuration():
        _, runs = plan_study("residual", [f"results_dir={folder}", f"seed={','.join(map(str, seeds))}"])
    for run in runs:
        if run.arm not in ("residual", "non_residual"):
            continue
        noise = 0.002 * ((run.seed * 7) % 5 - 2)
        top1 = 0.5 + (0.2 + shift + noise) * (run.arm == "residual")
        metrics = {"val_loss": 0.7, "val_top1": top1, "test_loss": 0.8, "test_top1": top1}
        write_run(run.configuration, metrics=metrics, started=f"2026-01-{day:02}T03:04:05+00:00")
    return folder


@pytest.mark.slow
def test_folders_and_archives(call, write_run, results_dir: Path, tmp_path: Path, capsys) -> None:
    write_set(results_dir, write_run, range(6), 0.0, 1)
    near = write_set(tmp_path / "near", write_run, range(6, 12), 0.001, 2)
    far = write_set(tmp_path / "far", write_run, range(6), 0.1, 3)
    archive, _ = pack(near)
    with hydra_configuration():
        _, shared = plan_study("intermediate_activation", [f"results_dir={results_dir}", "seed=6"])
    write_run(shared[0].configuration)  # figure 9's baseline, without its gradient norms
    call("reproduce", "residual", str(archive))
    shown = capsys.readouterr()
    assert "residual-final: reproduced; yours holds, near holds" in shown.out
    assert not shown.err
    page = results_dir / "tables" / "reproduction.md"
    assert "residual-final" in page.read_text()
    assert call("reproduce", "residual", str(near), str(far)) == 1
    shown = capsys.readouterr()
    assert "residual-final: not reproduced; near holds, far holds" in shown.out
    assert "residual-final" in shown.err


def test_a_project_without_a_reference_is_told_in_a_line(call, no_reference, capsys) -> None:
    assert call("reproduce") == 0
    assert capsys.readouterr().out.startswith("no reference: ")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("residul",), "study=residul: no such study"),
        (("{empty}",), "no records; name a folder of results"),
        (("{empty}", "{empty}/a", "{empty}/b"), "two sets of records"),
    ],
)
def test_what_is_no_set_of_records(words, line: str, call, tmp_path: Path, capsys) -> None:
    empty = tmp_path / "empty"
    for folder in (empty, empty / "a", empty / "b"):
        folder.mkdir()
    assert call("reproduce", *(word.format(empty=empty) for word in words)) == 2
    assert line in capsys.readouterr().err

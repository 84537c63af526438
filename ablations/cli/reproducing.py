"""Comparison of two sets of records, as folders or archives."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ablations.cli.reading import load_studies, load_tuned, results_folder, tuned_family, tuned_parts
from ablations.errors import UserError
from ablations.evidence.claims import BENCHMARK, Claim
from ablations.evidence.reproduction import Reproduction, reproduce_study
from ablations.runs import archive
from ablations.runs.records import DONE
from experiments.overrides import seed_budget, tuning_option
from experiments.project import current
from experiments.study_file import project_claims, study_names

YOURS, REFERENCE = "yours", "reference"


@dataclass(frozen=True)
class Records:
    name: str
    results_dir: Path

    def seeds(self) -> list[int]:
        """Of the runs that ended, increasing."""
        found = set()
        for path in self.results_dir.glob("runs/*/record.json"):
            try:
                record = json.loads(path.read_text(encoding="utf-8"))
                if record["status"] in DONE and isinstance(record["seed"], int):
                    found.add(record["seed"])
            except (OSError, ValueError, KeyError, TypeError):
                continue  # reported where runs are read
        return sorted(found)


@contextmanager
def two_sets(paths: Sequence[Path], overrides: Sequence[str]) -> Iterator[tuple[Records, Records] | None]:
    """Yours and the reference, yours and a path's, or two paths'; archives are unpacked temporarily.

    Yields:
        None without a path or a reference.

    Raises:
        UserError: A path does not exist or has no records.
    """
    with tempfile.TemporaryDirectory(prefix="ablations-") as folder:
        sets = [Records(YOURS, results_folder(overrides))] if len(paths) < 2 else []
        for number, path in enumerate(paths):
            sets.append(Records(_short(path), _folder_of(path, Path(folder) / str(number))))
        if not paths:
            reference = current().reference / archive.FILE_NAME
            if not reference.exists():
                yield None
                return
            sets.append(Records(REFERENCE, _folder_of(reference, Path(folder) / REFERENCE)))
        yield sets[0], sets[1]


def _short(path: Path) -> str:
    """A short name: the folder's, or the archive's without its suffixes."""
    resolved = path.resolve()
    stem = resolved.name.removesuffix(".tar.xz")
    name = resolved.parent.name if stem in ("records", "results", archive.RUNS) else stem
    return name if len(name) <= 12 else f"{name[:11]}…"


def _folder_of(path: Path, unpacked: Path) -> Path:
    if path.is_file():
        archive.unpack(path, unpacked)
        return unpacked
    for folder in (path, path / "results"):
        if (folder / archive.RUNS).is_dir():
            return folder
    if path.is_dir() and path.name == archive.RUNS:
        return path.parent
    if (path / archive.FILE_NAME).is_file():
        return _folder_of(path / archive.FILE_NAME, unpacked)
    raise UserError(f"{path}: no records; name a folder of results or a records.tar.xz")


def reproduce(
    names: Sequence[str], overrides: Sequence[str], one: Records, other: Records
) -> list[Reproduction]:
    """Compare the claims about studies (empty: all) in two sets of records, over all seeds of each.

    Raises:
        UserError: An unknown study, or seeds=auto.
    """
    if seed_budget(overrides) is not None:
        raise UserError("seeds=auto: leave it out; all existing seeds count")
    claims = project_claims()
    about = {claim.study for claim in claims if claim.comparisons} - {BENCHMARK}
    chosen = [name for name in names or study_names() if name in about or name in names]
    others = [word for word in overrides if word.partition("=")[0] != "results_dir"]
    if not any(word.partition("=")[0] == "diagnostics" for word in others):
        others.append("diagnostics=none")  # claims need none; another study's runs may lack them
    # A tuning sets the seeds itself.
    chosen_seeds = any(word.partition("=")[0] in ("seed", "tuning") for word in others)
    found = []
    for name in chosen:
        loaded = []
        for records in (one, other):
            words = [*others, _in_folder(records)]
            seeds = records.seeds()
            if not chosen_seeds and seeds:
                words.append(f"seed={','.join(map(str, seeds))}")
            loaded.append(load_studies([name], words)[0][:2])
        (study, runs), (_, there) = loaded
        found += reproduce_study(claims, study, runs, there)
    if tuning_option(others) is None:
        found += _of_tuned([claim for claim in claims if claim.study in chosen], others, one, other)
    return found


def _of_tuned(
    claims: Sequence[Claim], overrides: Sequence[str], one: Records, other: Records
) -> list[Reproduction]:
    """The claims about tuned arms whose trials both sets have."""
    found = []
    for tuned in tuned_parts(claims):
        try:
            (study, runs, _), (_, there, _) = (
                load_tuned(tuned, [*overrides, _in_folder(records)]) for records in (one, other)
            )
        except UserError:
            continue
        compared = reproduce_study(tuned_family(tuned, claims), study, runs, there)
        found += [each for each in compared if each.claim.tuning is not None]
    return found


def _in_folder(records: Records) -> str:
    return f"results_dir={json.dumps(str(records.results_dir))}"

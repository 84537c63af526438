"""Offline runs go to W&B's server, each once: `wandb sync`, and a closer look at what became of it.

`wandb sync` (0.31) marks a run and exits with 0 also where the server refused its metrics, its files or its
artifacts: some of that is in its output, some only in its log. A run counts as uploaded where it is marked
and neither says otherwise; else its mark is taken back. A file beside the run says that an upload is under
way: where that is still there at the next call the upload was interrupted, and its mark says nothing.
"""

import fcntl
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ablations.dashboards.links import OfflineRun, directory_of, label_of, offline_runs
from ablations.dashboards.place import Place
from ablations.errors import RunsFailed

WANDB = (sys.executable, "-m", "wandb")
AT_A_TIME = 4
"""Uploads; each is a process that waits for the server most of the time."""

HARMLESS = ("api: HTTP error", "featurechecker:")
"""Of the log's errors: of a request, which is repeated or told of by who made it; an older server."""

UPLOADED, FAILED, RUNNING, BEFORE = "uploaded", "failed", "running, left alone", "uploaded before"


@dataclass(frozen=True)
class Synced:
    """What became of a run.

    Attributes:
        wandb_id: The run's id.
        outcome: One of the above.
        reason: Why it failed; "" otherwise.
    """

    wandb_id: str
    outcome: str
    reason: str = ""


def sync(place: Place, wandb_ids: Sequence[str] | None = None) -> list[Synced]:
    """Upload what is not there yet, and print a line per run and how many there are of each outcome.

    Args:
        place: Where the runs are.
        wandb_ids: Which runs; None: all.

    Returns:
        An entry per run.

    Raises:
        RunsFailed: Some could not be uploaded, or another process is uploading.
    """
    with _only_one(place) as lock:
        return _sync(place, wandb_ids, lock)


@contextmanager
def _only_one(place: Place) -> Iterator[int]:
    """Hold the lock of uploads; yields its descriptor.

    Who inherits the descriptor holds the lock too: an upload that outlives this process keeps others away.
    """
    place.own.mkdir(parents=True, exist_ok=True)
    with (place.own / "sync.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunsFailed(
                f"another process is uploading the runs of {place.folder}; nothing was done"
            ) from None
        yield file.fileno()


def waiting(place: Place) -> int:
    """How many runs are not uploaded."""
    return len({run.wandb_id for run in offline_runs(place.folder) if not _is_uploaded(run)})


def _sync(place: Place, wandb_ids: Sequence[str] | None, lock: int) -> list[Synced]:
    parts: dict[str, list[OfflineRun]] = {}
    for run in offline_runs(place.folder):
        if wandb_ids is None or run.wandb_id in wandb_ids:
            parts.setdefault(run.wandb_id, []).append(run)
    done = []
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        uploads = [pool.submit(_outcome, place, wandb_id, of_run, lock) for wandb_id, of_run in parts.items()]
        try:
            for upload in uploads:
                synced = upload.result()
                done.append(synced)
                if synced.outcome != BEFORE:
                    name = label_of(synced.wandb_id, place.results_dir)
                    reason = f": {synced.reason}" if synced.reason else ""
                    print(f"{synced.outcome:{len(UPLOADED)}}  {name}{reason}", flush=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    counts = {kind: sum(one.outcome == kind for one in done) for kind in (UPLOADED, BEFORE, RUNNING, FAILED)}
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    if counts[FAILED]:
        raise RunsFailed(f"{told}; the same command tries the failed ones again")
    print(told or f"no offline run in {place.folder}")
    return done


def _outcome(place: Place, wandb_id: str, parts: Sequence[OfflineRun], lock: int) -> Synced:
    if all(map(_is_uploaded, parts)):
        return Synced(wandb_id, BEFORE)
    directory = directory_of(wandb_id, place.results_dir)
    if directory is not None and directory.is_locked():
        return Synced(wandb_id, RUNNING)
    reason = upload([part for part in parts if not _is_uploaded(part)], place.entity, lock)
    return Synced(wandb_id, FAILED if reason else UPLOADED, reason)


def upload(parts: Sequence[OfflineRun], entity: str | None, lock: int) -> str:
    """Upload the parts of one run.

    Args:
        parts: In the order in which they were begun.
        entity: Whose project; None: as the run was logged, or the account's own.
        lock: Descriptor of the lock that is held meanwhile.

    Returns:
        Why it failed; "" where all was taken.
    """
    for part in parts:
        _under_way(part).touch()
        part.mark.unlink(missing_ok=True)  # of an upload that was interrupted
    with tempfile.TemporaryDirectory(prefix="wandb-sync-") as logs:
        whose = ["--entity", entity] if entity else []
        process = subprocess.run(
            [*WANDB, "sync", *whose, *(str(part.folder.absolute()) for part in parts)],
            env=os.environ | {"WANDB_DIR": logs, "WANDB_SILENT": "false", "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            pass_fds=(lock,),
        )
        reason = _refusal(process, Path(logs)) or _not_marked(parts)
    if reason:
        for part in parts:
            part.mark.unlink(missing_ok=True)
    for part in parts:  # last: from here on the mark counts
        _under_way(part).unlink()
    return reason


def _refusal(process: "subprocess.CompletedProcess[str]", logs: Path) -> str:
    """The first thing that went wrong, by the exit code, the output and the log; "" for nothing."""
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line).strip() for line in process.stdout.splitlines()]
    lines = [line.removeprefix("wandb: ") for line in lines if line]
    for line in lines:
        if line.startswith(("ERROR", "Error")):
            return re.sub(r"^(ERROR|Error:?)\s*(\[[^]]*\]\s*)?", "", line)
    for log in sorted(logs.rglob("debug-sync*.log")):
        for text in log.read_text(encoding="utf-8", errors="replace").splitlines():
            if reason := _logged_error(text):
                return reason
    if process.returncode:
        return f"wandb sync exited with {process.returncode}" + (f": {lines[-1]}" if lines else "")
    return ""


def _logged_error(line: str) -> str:
    try:
        entry = json.loads(line)
    except ValueError:
        return ""
    message = str(entry.get("msg", ""))
    wrong = str(entry.get("level", "")).startswith("ERROR") and not message.startswith(HARMLESS)
    return " ".join(f"{message} {entry.get('error', '')}".split()) if wrong else ""


def _not_marked(parts: Sequence[OfflineRun]) -> str:
    return "" if all(part.mark.exists() for part in parts) else "wandb sync did not finish it"


def _is_uploaded(run: OfflineRun) -> bool:
    return run.mark.exists() and not _under_way(run).exists()


def _under_way(run: OfflineRun) -> Path:
    return run.log.with_suffix(".wandb.uploading")

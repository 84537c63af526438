"""A made-up study with runs of every kind, its page, and a browser that opens it."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from ablations.evidence.claims import HIGHER, NO_DIFFERENCE, Claim, Comparison
from ablations.evidence.verdicts import Judged, judge_study, untestable
from ablations.report.build import build_report, write_report
from ablations.runs.records import RunDirectory
from ablations.studies.results import Arm, Study, StudyRun

CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
EVIL = "</script><img src=x onerror=alert(1)>"
EPOCHS, STEPS = 4, 50
ARMS = {"plain": "as it is", "evil": f"with {EVIL}", "third": "a third <b>arm</b>, 5 %{x}"}


def make_study(seeds: Sequence[int]) -> Study:
    """Three arms, the second compared with the first, the third with the second."""
    return Study(
        name="made_up",
        title="Made up & <i>odd</i>",
        output="figure99_made_up",
        source="nowhere",
        arms=tuple(
            Arm(name, label, {"residual": name}, "ends lower", baseline="evil" if name == "third" else None)
            for name, label in ARMS.items()
        ),
        baseline="plain",
        seeds=tuple(seeds),
        metrics=("top1",),
        target=0.5,
        scale="a network on data",
    )


def make_history(generator: np.random.Generator, place: int, epochs: int) -> pd.DataFrame:
    """metrics.csv of a run."""
    rows = np.arange(1, epochs + 1)
    top1 = 0.8 - 0.1 * place - 0.6 / (1 + rows) + generator.normal(0, 0.01, epochs)
    return pd.DataFrame(
        {
            "epoch": rows,
            "step": STEPS * rows,
            "train_loss": 1 / rows + generator.uniform(0, 0.1, epochs),
            "train_top1": top1 + 0.05,
            "val_loss": 1.1 / rows + generator.uniform(0, 0.1, epochs),
            "val_top1": top1,
            "val_top5": top1 + 0.1,
            "learning_rate": 0.1 / rows,
            "seconds": generator.uniform(1, 2, epochs),
        }
    )


def make_record(arm: str, seed: int, status: str, epochs: int, history: pd.DataFrame) -> dict[str, Any]:
    """What of a record the page reads."""
    final = {name: float(history[name].iloc[-1]) for name in ("val_loss", "val_top1", "val_top5")}
    test = {name.replace("val", "test"): value - 0.01 for name, value in final.items()}
    return {
        "status": status,
        "seed": seed,
        "started": "2026-01-02T03:04:05+00:00",
        "finished": "2026-01-02T03:05:05+00:00",
        "edited": None,
        "files": None,
        "choices": {"model": "xception", "residual": arm},
        "config": {
            "seed": seed,
            "residual": arm,
            "model": {"width": 0.125, "note": EVIL},
            "dataset": {"num_classes": 10, "seed": seed},
            "recipe": {"epochs": epochs, "optimizer": {"lr": 0.1}},
            "results_dir": "/somewhere",
        },
        "data_fingerprint": "sha256:0",
        "metrics": final | test if status == "completed" else None,
        "parameters": 340_000,
        "multiply_adds": 7_000_000,
        "depth": 71,
        "steps": STEPS * epochs,
        "steps_per_second": 6.5,
        "wall_time_s": 60.5 + seed,
        "device": {"type": "cpu", "name": "Some CPU", "threads": 1},
        "undecodable_images": 0,
        "versions": {"python": "3.11.2", "torch": "2.9.0"},
        "git": {"commit": "0123456789abcdef", "changes": {}},
        "wandb_run_id": f"wandb-{seed}",
        "diverged_at_step": 117 if status == "diverged" else None,
        "error": f"Traceback\n  somewhere\nOSError: {EVIL}\n" if status == "failed" else None,
    }


ODD = {("evil", 1): "diverged", ("evil", 2): "failed", ("third", 0): "missing", ("third", 1): "running"}
"""How those runs stand that are not completed; and the record of ("third", 2) cannot be read."""


def make_runs(study: Study, results_dir: Path, *, epochs: int = EPOCHS, odd: bool = True) -> list[StudyRun]:
    """A run per arm and seed, with metrics.csv on the disk, as many as there are."""
    generator = np.random.default_rng(0)
    runs = []
    for place, arm in enumerate(study.arms):
        for seed in study.seeds:
            status = ODD.get((arm.name, seed), "completed") if odd else "completed"
            unreadable = odd and (arm.name, seed) == ("third", 2)
            run_id = f"{place}{seed:011d}"
            directory = RunDirectory(results_dir, run_id)
            whole = make_history(generator, place, epochs)
            record = make_record(arm.name, seed, status, epochs, whole)
            history = whole if status == "completed" else whole.head(2)
            if unreadable:
                directory.path.mkdir(parents=True)
                directory.record_path.write_text("{", encoding="utf-8")
            if status == "missing" or unreadable:
                runs.append(StudyRun(arm.name, seed, run_id, directory.path, "missing", None, None))
                continue
            directory.path.mkdir(parents=True)
            history.to_csv(directory.history_path, index=False)
            runs.append(StudyRun(arm.name, seed, run_id, directory.path, status, record, history))
    return runs


def make_claims() -> list[Claim]:
    """One that holds, one of two comparisons, and one of no study."""
    return [
        Claim(
            "made-up-final",
            f"As it is is better than {EVIL}.",
            "nowhere",
            "made_up",
            (Comparison({"plain": 1.0, "evil": -1.0}, "test_top1", HIGHER, 0.004),),
        ),
        Claim(
            "made-up-both",
            "Both.",
            "somewhere else",
            "made_up",
            (
                Comparison({"plain": 1.0, "evil": -1.0}, "area", NO_DIFFERENCE, 0.01),
                Comparison({"plain": 1.0, "third": -1.0}, "test_top1", HIGHER, 0.01),
            ),
        ),
        Claim("elsewhere", "Something else.", "nowhere", None, (), "because it needs what nobody has"),
    ]


def make_judged(study: Study, runs: Sequence[StudyRun], results_dir: Path) -> Judged:
    """The claims, judged by the runs."""
    claims = make_claims()
    verdicts = (*judge_study(claims, study, runs), untestable(claims[-1]))
    return Judged(verdicts, tuple(claims), ((study, list(runs)),), results_dir, "")


MadeUp = tuple[Study, list[StudyRun], Judged]


@pytest.fixture(scope="session")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> MadeUp:
    """Study, runs of every status, and what is judged; a figure of other runs lies there too."""
    results_dir = tmp_path_factory.mktemp("report") / "results"
    (results_dir / "figures").mkdir(parents=True)
    (results_dir / "figures" / "figure99_made_up.svg").write_text("<svg><desc>of other runs</desc></svg>")
    study = make_study(range(9))
    runs = make_runs(study, results_dir)
    return study, runs, make_judged(study, runs, results_dir)


@pytest.fixture(scope="session")
def written(made_up: MadeUp) -> Path:
    """The page of `made_up`."""
    study, runs, judged = made_up
    return write_report(build_report(judged, [(study, runs)], [], "My paper"), judged.results_dir / "report")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium without a window; skips where there is none, unless the environment has REQUIRE_BROWSER=1."""
    if CHROMIUM is None and os.environ.get("REQUIRE_BROWSER") != "1":
        pytest.skip("no Chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                *("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
                *("--disable-background-networking", "--disable-component-update", "--no-first-run"),
            ],
        )
        yield browser
        browser.close()


OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens a page, `open_page(path, "#study-made_up", theme="dark", width=360)`.

    At the end of the test there must have been no error in the console, no dialog and no request but for
    the page itself and what it made.
    """
    wrong: list[str] = []
    contexts = []

    def refuse(dialog: Any) -> None:
        wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def check(request: Any) -> None:
        if not request.url.startswith(("file:", "blob:", "data:")):
            wrong.append(f"request: {request.url}")

    def open_it(path: Path, address: str = "", theme: str = "light", width: int = 1200) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=theme)
        contexts.append(context)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", refuse)
        page.on("request", check)
        page.goto(path.as_uri() + address)
        page.wait_for_selector(".view[data-shown]", timeout=120_000)
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture(scope="session")
def make_many() -> Callable[..., MadeUp]:
    """Makes up a study of as many seeds and further arms as are asked for, all of its runs completed."""

    def make(results_dir: Path, seeds: int, epochs: int, arms: int = 3) -> MadeUp:
        study = make_study(range(seeds))
        further = (replace(study.arms[0], name=f"arm{at}", label=f"arm {at}") for at in range(3, arms))
        study = replace(study, arms=(*study.arms, *further))
        runs = make_runs(study, results_dir, epochs=epochs, odd=False)
        return study, runs, make_judged(study, runs, results_dir)

    return make

"""How large the report page is and how long it takes to open, by the number of runs.

    python -m benchmarks.report_page [--runs 24 1000] [--epochs 100] [--repeats 3] [--folder /dev/shm]

Makes up the records of a study of three arms as `benchmarks.many_records` does, writes its page with
`python -m ablations report STUDY seed=...` and opens it from disk in Chromium without a window or GPU.
Printed per number of runs, the times as the median of the repeats, each in a browser of its own:

    MB      size of the file
    build   seconds of the whole command, imports included
    ready   seconds from opening until the first screen is drawn and reacts
    study   seconds from a click on the study, as soon as the page is ready, until charts and tables are drawn
    change  seconds from switching an arm off until the chart is drawn again
    run     seconds from a click on a run until its charts are drawn

The folder must hold 25 KB a run; what is written there is removed afterwards.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from benchmarks import many_records

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking")
SHOWN = ".view[data-shown]:visible"
MEASURED = ("ready", "study", "change", "run")


def build(runs: int, epochs: int, folder: Path) -> tuple[Path, float]:
    """Write records and their page; its path and the seconds that the command took."""
    many_records.EPOCHS = epochs
    seeds = -(-runs // 3)
    many_records.write_results(seeds, folder)
    command = [sys.executable, "-m", "ablations", "report", many_records.STUDY]
    command += many_records.overrides(seeds, folder)
    start = time.perf_counter()
    subprocess.run(
        command, check=True, stdout=subprocess.DEVNULL, cwd=many_records.REPOSITORY, env=os.environ
    )
    seconds = time.perf_counter() - start
    (path,) = folder.glob("report/index*.html")
    return path, seconds


def visit(path: Path) -> dict[str, float]:
    """Open the page in a new browser and time what a reader waits for."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        page = browser.new_page()
        page.goto("about:blank")
        times = [time.perf_counter()]
        page.goto(path.as_uri(), wait_until="commit")
        page.wait_for_selector("#home[data-shown]")
        page.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
        times.append(time.perf_counter())
        page.click("#home .group a")
        page.wait_for_selector(f"{SHOWN} .drawn")
        times.append(time.perf_counter())
        page.evaluate("document.querySelector('.plot[data-drawn]').removeAttribute('data-drawn')")
        page.locator(f"{SHOWN} form [name=line]").first.uncheck()
        page.wait_for_selector(f"{SHOWN} .plot[data-drawn]")
        times.append(time.perf_counter())
        page.locator(f"{SHOWN} .runs tbody a").first.click()
        page.wait_for_selector(f"{SHOWN}.run .drawn")
        times.append(time.perf_counter())
        browser.close()
    return dict(zip(MEASURED, (b - a for a, b in itertools.pairwise(times)), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, nargs="+", default=[24, 1000])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parsed = parser.parse_args()
    print("   runs     MB  build  " + "  ".join(f"{name:>6}" for name in MEASURED))
    for runs in parsed.runs:
        with tempfile.TemporaryDirectory(dir=parsed.folder) as folder:
            path, seconds = build(runs, parsed.epochs, Path(folder) / "results")
            visits = [visit(path) for _ in range(parsed.repeats)]
            times = [statistics.median(each[name] for each in visits) for name in MEASURED]
            size = path.stat().st_size / 1e6
            print(f"{runs:7,} {size:6.1f} {seconds:6.1f}  " + "  ".join(f"{value:6.2f}" for value in times))


if __name__ == "__main__":
    main()

"""The page driven in a browser: what a reader does with it, and what a screen reader finds there."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from ablations.statistics.paired import seed_band
from ablations.studies.results import outcomes

STUDY = "#/study/made_up"
COMPLETED = "000000000003"  # of the first arm
DIVERGED, FAILED, MISSING, RUNNING = "100000000001", "100000000002", "200000000000", "200000000001"
UNREADABLE = "200000000002"

VIEWS = (
    "",
    STUDY,
    f"#/run/{COMPLETED}",
    f"#/run/{FAILED}",
    f"#/run/{MISSING}",
    "#/runs/made_up/planned%2Fevil",
)


def drawn(page: Page) -> Page:
    """Wait until every chart of the open view is drawn."""
    expect(page.locator(".open .plot").first).to_be_visible()
    expect(page.locator(".open .plot:not([data-drawn])")).to_have_count(0, timeout=30_000)
    return page


def shown(page: Page, path: Path, address: str) -> Page:
    """Go to a view of the open page, and wait until it is whole."""
    page.goto(path.as_uri() + (address or "#/"))
    expect(page.locator(".view.open")).to_have_count(1)
    if "study" in address or COMPLETED in address:
        drawn(page)
    return page


def shown_seeds(page: Page) -> list[int]:
    """The seeds that the chart of the study has a point of."""
    return page.evaluate(
        """() => [...new Set(document.querySelector('.open .plot').data
            .flatMap((trace) => trace.customdata ?? []).filter(Array.isArray).map((about) => about[0])
            .filter(Number.isInteger))].sort()"""
    )


def shown_arms(page: Page) -> list[str]:
    return page.evaluate(
        "() => [...new Set(document.querySelector('.open .plot').data.map((trace) => trace.name))]"
    )


def place_of(page: Page, run_id: str, epoch: int) -> tuple[float, float]:
    """Where a point of a run is in the window."""
    return page.evaluate(
        """([id, epoch]) => {
            const plot = document.querySelector('.open .plot'), box = plot.getBoundingClientRect();
            const study = window.ablations.studyNamed('made_up'), at = study.byId.get(id);
            for (const trace of plot.data.filter((each) => each.customdata)) {
                const points = trace.customdata.flatMap(
                    (about, i) => Array.isArray(about) && about[2] === at ? [i] : []);
                if (!points.length || trace.mode === 'markers') continue;
                const { xaxis, yaxis } = plot._fullLayout;
                return [box.left + xaxis._offset + xaxis.d2p(trace.x[points[epoch]]),
                        box.top + yaxis._offset + yaxis.d2p(trace.y[points[epoch]])];
            }
        }""",
        [run_id, epoch],
    )


def test_first_screen(open_page, written: Path) -> None:
    page = open_page(written)
    expect(page).to_have_title("Claims and verdicts: ablations")
    claims = page.locator("#view-home .claim")
    expect(claims).to_have_count(3)
    first = claims.first
    expect(first.locator(".badge")).to_contain_text("holds")
    expect(first.locator(".numbers a")).to_have_text(re.compile(r"^\+\d+\.\d \[\+\d.*\] pp$"))
    expect(first).to_contain_text("n = 8")
    image = page.locator("#view-home figure img")
    expect(image).to_be_visible()
    assert image.evaluate("(image) => image.naturalWidth") > 0
    expect(claims.nth(2)).to_contain_text("Because it needs what nobody has.")
    expect(page.locator(".tally")).to_contain_text("22 of 27 runs completed, 1 diverged, 1 failed")


def test_hover_tells_arm_seed_step_and_value(open_page, written: Path) -> None:
    page = drawn(open_page(written, STUDY))
    page.get_by_role("checkbox", name="as it is (baseline)").uncheck()
    page.get_by_role("checkbox", name="with </script>").uncheck()
    for seed in (4, 5, 6, 7, 8):
        page.locator(".open .seeds").get_by_label(str(seed), exact=True).uncheck()
    expect(page.locator(".open figcaption").first).to_contain_text("2 of 27 runs")  # and the running one
    page.locator(".open .seeds").get_by_label("1", exact=True).uncheck()
    expect(page.locator(".open figcaption").first).to_contain_text("1 of 27 runs")
    plot = page.locator(".open .plot")
    plot.scroll_into_view_if_needed()
    x, y = place_of(page, "200000000003", 2)
    page.mouse.move(x - 30, y - 30)
    page.mouse.move(x, y, steps=4)
    hover = page.locator(".open .hoverlayer")
    expect(hover).to_contain_text("a third <b>arm</b>, 5 %\u2060{x}")  # not read as markup, nor as a value
    expect(hover).to_contain_text("seed 3 (completed)")
    expect(hover).to_contain_text("step 150")
    expect(hover).to_contain_text(re.compile(r"validation top-1 \d\d\.\d+ %"))
    page.mouse.click(x, y)
    expect(page.locator("#title-run")).to_have_text("Run 200000000003")


def traces(page: Page, test: str, value: str) -> Any:
    """What the traces of the study's chart that pass a test have, both in JavaScript."""
    return page.evaluate(
        f"document.querySelector('.open .plot').data.filter((trace) => {test}).map((trace) => {value})"
    )


IS_MEAN = "trace.line?.width === 3"
IS_BAND = "trace.fill === 'toself'"


def test_means_and_bands_are_those_of_the_statistics(open_page, made_up, written: Path) -> None:
    study, runs, _ = made_up
    page = drawn(open_page(written, STUDY))
    means, bands = traces(page, IS_MEAN, "trace.y"), traces(page, IS_BAND, "trace.y.slice(0, -1)")
    assert len(means) == len(bands) == 3
    for place, of_arm in enumerate(outcomes(study, runs).values()):
        band = seed_band(100 * np.stack([one.curve for one in of_arm]))
        assert means[place] == pytest.approx(band.mean, rel=1e-4)
        assert bands[place] == pytest.approx([*band.high, *band.low[::-1]], rel=1e-4)
    caption = page.locator(".open figcaption").first
    expect(caption).to_contain_text("the 95 % t interval of that mean, at each epoch by itself")
    # They are of all runs, whatever single ones are drawn.
    page.locator(".open .seeds").get_by_label("1", exact=True).uncheck()
    expect(caption).to_contain_text("with a result, also of those not drawn")
    assert traces(page, IS_MEAN, "trace.y") == means
    page.get_by_role("checkbox", name="a third").uncheck()
    expect(caption).to_contain_text("16 of 27 runs")
    assert len(traces(page, IS_BAND, "trace.name")) == 2


def test_over_time_there_is_no_band(open_page, written: Path) -> None:
    page = drawn(open_page(written, STUDY))
    page.get_by_label("Over").select_option("epoch")
    expect(page.locator(".open .xtitle")).to_have_text("epochs")
    assert len(traces(page, IS_BAND, "trace.x")) == 3
    page.get_by_label("Over").select_option("time")
    caption = page.locator(".open figcaption").first
    expect(caption).to_contain_text("No band over time, since no two runs share their times")
    assert traces(page, IS_BAND, "trace.x") == []
    (first, *_) = traces(page, IS_MEAN, "trace.x")
    assert first == sorted(first)
    assert 1 < first[0] < 2  # seconds, of which each run's first epoch has one to two


def test_hover_and_click_on_a_mean(open_page, written: Path) -> None:
    page = drawn(open_page(written, f"{STUDY}?arms=evil"))
    plot = page.locator(".open .plot")
    plot.scroll_into_view_if_needed()
    x, y = page.evaluate(
        """() => {
            const plot = document.querySelector('.open .plot'), box = plot.getBoundingClientRect();
            const mean = plot.data.find((trace) => trace.line?.width === 3);
            const { xaxis, yaxis } = plot._fullLayout;
            return [box.left + xaxis._offset + xaxis.d2p(mean.x[3]),
                    box.top + yaxis._offset + yaxis.d2p(mean.y[3])];
        }"""
    )
    page.mouse.move(x - 30, y - 30)
    page.mouse.move(x, y, steps=4)
    hover = page.locator(".open .hoverlayer")
    expect(hover).to_contain_text("mean of 8 runs")
    expect(hover).to_contain_text(re.compile(r"95 % interval \d+\.\d+ to \d+\.\d+"))
    page.mouse.click(x, y)
    expect(page.locator("#title-set")).to_contain_text("runs with a result")
    expect(page.locator("#view-set tbody tr")).to_have_count(8)


def test_the_mean_of_a_loss_leads_to_the_runs_that_completed(open_page, written: Path) -> None:
    page = drawn(open_page(written, f"{STUDY}?y=train_loss"))
    sets = traces(page, IS_MEAN, "trace.customdata[0][0].set")
    assert sets == ["completed/plain", "completed/evil", "completed/third"]


def test_what_a_chart_shows_is_there_as_numbers(open_page, written: Path) -> None:
    page = drawn(open_page(written, STUDY))
    numbers = page.locator(".open .values").first
    numbers.locator("summary").press("Enter")
    expect(numbers.locator("tbody tr")).to_have_count(4)
    expect(numbers.locator("thead th").nth(2)).to_contain_text("with </script>")
    expect(numbers.locator("td").first).to_have_text(re.compile(r"^\d\d\.\d \[\d\d\.\d, \d\d\.\d\]$"))
    page.get_by_role("checkbox", name="a third").uncheck()
    expect(numbers.locator("thead th")).to_have_count(3)
    numbers.locator("td a").first.click()
    expect(page.locator("#title-set")).to_have_text("as it is: runs with a result")
    page = drawn(open_page(written, f"#/run/{COMPLETED}"))
    numbers = page.locator(".open .values")
    numbers.locator("summary").click()
    expect(numbers.locator("tbody th")).to_have_text(["1", "2", "3", "4"])
    expect(numbers.locator("tbody tr").nth(2).locator("td").first).to_have_text("150")


def test_arms_and_seeds_switch_and_stand_in_the_address(open_page, written: Path) -> None:
    page = drawn(open_page(written, STUDY))
    assert shown_seeds(page) == list(range(9))
    page.get_by_role("checkbox", name="as it is (baseline)").uncheck()
    page.locator(".open .seeds").get_by_label("8", exact=True).uncheck()
    expect(page.locator(".open figcaption").first).to_contain_text("14 of 27 runs")
    assert shown_seeds(page) == list(range(8))
    assert len(shown_arms(page)) == 2
    assert page.evaluate("location.hash") == f"{STUDY}?arms=evil,third&seeds=0-7"
    again = drawn(open_page(written, page.evaluate("location.hash")))
    assert shown_seeds(again) == list(range(8))
    assert len(shown_arms(again)) == 2
    expect(again.get_by_role("checkbox", name="as it is (baseline)")).not_to_be_checked()
    again.get_by_role("checkbox", name="with </script>").uncheck()
    again.get_by_role("checkbox", name="a third").uncheck()
    expect(again.locator(".open figcaption").first).to_contain_text("0 of 27 runs")


@pytest.mark.parametrize(("axis", "title"), [("epoch", "epochs"), ("time", "time in training steps, s")])
def test_the_horizontal_axis(open_page, written: Path, axis: str, title: str) -> None:
    page = drawn(open_page(written, STUDY))
    expect(page.locator(".open .xtitle")).to_have_text("training steps")
    page.get_by_label("Over").select_option(axis)
    expect(page.locator(".open .xtitle")).to_have_text(title)
    last = page.evaluate(
        "Math.max(...document.querySelector('.open .plot').data.find((trace) => trace.customdata).x)"
    )
    assert last == 4 if axis == "epoch" else 4 < last < 8
    page.get_by_label("Curve").select_option("train_loss")
    expect(page.locator(".open .ytitle")).to_have_text("training loss")
    assert page.evaluate("location.hash") == f"{STUDY}?x={axis}&y=train_loss"


def test_a_diverged_run_is_marked_where_it_ends(open_page, written: Path) -> None:
    page = drawn(open_page(written, STUDY))
    ends = page.evaluate(
        """() => document.querySelector('.open .plot').data.filter((trace) => trace.marker?.symbol === 'x')
            .map((trace) => [trace.x, trace.customdata.map((about) => about[1])])"""
    )
    assert ends == [[[100, 100], ["diverged", "failed"]]]
    expect(page.locator(".open figcaption").first).to_contain_text("A diverged run counts as chance")
    page.get_by_label("Curve").select_option("train_loss")
    expect(page.locator(".open figcaption").first).to_contain_text(
        "the mean of all runs of an arm that completed"
    )


def test_sort_a_table(open_page, written: Path) -> None:
    page = drawn(open_page(written, STUDY))
    table = page.locator(".open table[data-sort]").first
    header = table.locator("th", has_text="validation top-1, %").first
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    up = table.locator("tbody th").all_inner_texts()
    header.locator("button").press("Enter")  # from the keyboard
    assert header.get_attribute("aria-sort") == "descending"
    assert table.locator("tbody th").all_inner_texts() == up[::-1]
    expect(page.locator("#said")).to_contain_text("Sorted by validation top-1, %, descending")
    difference = table.locator("th", has_text="difference test").first
    for _ in range(2):  # the baseline has none: last both ways
        difference.locator("button").click()
        assert "baseline" in table.locator("tbody th").last.inner_text()
    assert table.locator("[aria-sort]").count() == 1


@pytest.mark.parametrize(
    ("form", "begins"),
    [
        ("CSV", "arm,label,n_completed"),
        ("Markdown", "# Made up & \\<i>odd\\</i>"),
        ("LaTeX", "% needs \\usepackage"),
    ],
)
def test_copy_the_table(open_page, made_up, written: Path, form: str, begins: str) -> None:
    from ablations.tables.study import latex_table, markdown_table, study_table

    study, runs, _ = made_up
    wanted = {
        "CSV": study_table(study, runs).to_csv(index=False, lineterminator="\n"),
        "Markdown": markdown_table(study, runs),
        "LaTeX": latex_table(study, runs),
    }[form]
    page = open_page(written, STUDY)
    page.get_by_role("button", name=f"Copy as {form}").click()
    expect(page.locator("#said")).to_have_text(f"Table copied as {form}")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith(begins)
    assert copied == wanted


def test_copy_the_command(open_page, written: Path) -> None:
    page = open_page(written, STUDY)
    page.locator(".open .command button").click()
    expect(page.locator("#said")).to_have_text("Commands copied")
    assert page.evaluate("navigator.clipboard.readText()").startswith("python run.py -m study=made_up\n")


def test_cells_and_claims_lead_to_runs_and_back(open_page, written: Path) -> None:
    page = open_page(written)
    page.locator("#view-home h2 a").first.click()
    expect(page.locator(".open h1")).to_have_text("Made up & <i>odd</i>")
    expect(page.locator("nav [aria-current]")).to_have_text("Made up & <i>odd</i>")
    cell = page.locator(".open table[data-sort]").first.locator("tbody tr").nth(1).locator("a").nth(1)
    cell.scroll_into_view_if_needed()
    left_at = page.evaluate("scrollY")
    cell.click()  # the diverged runs of the second arm
    expect(page.locator("#title-set")).to_contain_text("diverged runs")
    expect(page.locator("#view-set tbody tr")).to_have_count(1)
    page.locator("#view-set tbody a").click()
    expect(page.locator("#title-run")).to_have_text(f"Run {DIVERGED}")
    expect(page.locator("#title-run")).to_be_focused()
    page.go_back()
    expect(page.locator("#view-set")).to_be_visible()
    page.go_back()
    expect(page.locator(".view.study")).to_be_visible()
    assert left_at > 0
    page.wait_for_function("(left) => Math.abs(scrollY - left) < 300", arg=left_at)
    page.go_back()
    expect(page.locator("#view-home")).to_be_visible()
    page.locator("#claim-made-up-final .numbers a").click()
    expect(page.locator("#view-set tbody tr")).to_have_count(16)


def test_list_of_runs(open_page, written: Path) -> None:
    page = open_page(written, STUDY)
    listed = page.locator(".open [data-list]")
    rows = listed.locator("tbody tr")
    expect(rows).to_have_count(27)
    for status, n in {"diverged": 1, "failed": 1, "missing": 2, "running": 1}.items():
        listed.get_by_label("Status").select_option(status)
        expect(rows).to_have_count(n)
        expect(rows.first).to_contain_text(status)
    assert page.evaluate("location.hash").endswith("?status=running")
    listed.get_by_label("Status").select_option("")
    listed.get_by_label("Arm").select_option("evil")
    expect(rows).to_have_count(9)
    listed.locator("th", has_text="wall time").locator("button").click()
    listed.locator("th", has_text="wall time").locator("button").click()
    expect(rows.first).to_contain_text("68.5 s")
    again = open_page(written, f"{STUDY}?status=failed")
    expect(again.locator(".open [data-list] tbody tr")).to_have_count(1)


def test_a_run(open_page, written: Path) -> None:
    page = drawn(open_page(written, f"#/run/{COMPLETED}"))
    view = page.locator("#view-run")
    for text in ("Some CPU", "wandb-3", "0123456789", "340,000", "torch", "2.9.0", "seed 3", "63.5 s"):
        expect(view).to_contain_text(text)
    settings = view.locator("table", has_text="The resolved configuration")
    expect(settings.locator("tr.other th")).to_have_text(["seed", "dataset.seed"])
    view.get_by_label("Find a setting").fill("optimizer.lr")
    expect(settings.locator("tbody tr:visible")).to_have_count(1)
    expect(settings.locator("tbody tr:visible")).to_contain_text("0.1")
    expect(view.locator(".plot")).to_have_count(5)
    view.locator("ul.plain a").click()
    expect(page.locator(".view.study")).to_be_visible()


def test_runs_that_did_not_complete(open_page, written: Path) -> None:
    page = open_page(written, f"#/run/{FAILED}")
    view = page.locator("#view-run")
    expect(view.locator("pre.error")).to_contain_text("OSError: </script><img src=x onerror=alert(1)>")
    page.goto(f"{written.as_uri()}#/run/{DIVERGED}")
    expect(view).to_contain_text("diverged after step")
    expect(view).to_contain_text("117")
    page.goto(f"{written.as_uri()}#/run/{MISSING}")
    expect(view).to_contain_text("missing: no record.")
    page.goto(f"{written.as_uri()}#/run/{UNREADABLE}")
    expect(view).to_contain_text("unreadable record, counted as missing")
    page.goto(f"{written.as_uri()}#/run/{RUNNING}")
    expect(view.locator(".status")).to_contain_text("running")


@pytest.mark.parametrize(
    "address",
    [
        "#/run/nothing",
        "#/study/none",
        "#/runs/made_up/none",
        "#/runs/made_up/toString",
        "#/else",
        "#/%E0%A4%A",
        "#/run",
    ],
)
def test_an_address_that_leads_nowhere(open_page, written: Path, address: str) -> None:
    page = open_page(written, address)
    expect(page.locator("#view-nothing")).to_be_visible()
    page.locator("#view-nothing a").click()
    expect(page.locator("#view-home")).to_be_visible()


def test_no_text_becomes_markup(open_page, written: Path) -> None:
    page = open_page(written)
    for address in VIEWS:
        page.goto(written.as_uri() + address)
        expect(page.locator(".view.open")).to_have_count(1)
        assert page.locator("img[src='x']").count() == 0
        assert page.locator(".open h1 i, .open .hoverlayer b").count() == 0


def test_theme(open_page, written: Path) -> None:
    page = drawn(open_page(written, STUDY, theme="dark"))
    ground = "getComputedStyle(document.body).backgroundColor"
    axis = "document.querySelector('.open .plot').layout.font.color"
    assert page.evaluate(ground) == "rgb(20, 23, 26)"
    assert page.evaluate(axis) == "#e8eaed"
    page.get_by_role("button", name="Light theme").click()
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    page.wait_for_function(f"() => {axis} === '#1b1f23'")
    page.reload()
    expect(page.get_by_role("button", name="Dark theme")).to_be_visible()  # it is kept


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_accessibility(open_page, written: Path, theme: str) -> None:
    page = open_page(written, theme=theme)
    serious = [
        (address, violation["id"], [node["html"][:200] for node in violation["nodes"][:3]])
        for address in VIEWS
        for violation in Axe().run(shown(page, written, address)).response["violations"]
        if violation["impact"] in ("serious", "critical") or violation["id"] == "heading-order"
    ]
    assert serious == []


def test_keyboard(open_page, written: Path) -> None:
    page = open_page(written)
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    assert page.evaluate("location.hash") == ""
    page.keyboard.press("Tab")
    focused = page.locator(":focus")
    expect(focused).to_have_attribute("href", "#/study/made_up")
    assert focused.evaluate("(link) => getComputedStyle(link).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(page.locator(".view.study h1")).to_be_focused()


def test_a_phone_scrolls_only_down(open_page, written: Path) -> None:
    page = open_page(written, width=360)
    width = "document.documentElement.scrollWidth"
    widths = {address: shown(page, written, address).evaluate(width) for address in VIEWS}
    assert widths == dict.fromkeys(VIEWS, 360)


def test_print(open_page, written: Path) -> None:
    page = drawn(open_page(written, STUDY, theme="dark"))
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.wait_for_function("() => document.querySelector('.open .plot').layout.font.color === '#1b1f23'")
    for hidden in (".top", "#theme", ".open .tools", ".open .choices input", ".open .seeds"):
        expect(page.locator(hidden).first).to_be_hidden()
    for heading in ("Claims", "Curves", "Table", "Confound audit", "Make it again", "Runs"):
        expect(page.locator(".open").get_by_role("heading", name=heading, exact=True)).to_be_visible()
    expect(page.locator(".open [data-list] tbody tr")).to_have_count(27)
    expect(page.locator(".open .plot")).to_be_visible()


@pytest.mark.parametrize("address", [STUDY, f"#/run/{COMPLETED}"])
def test_charts_fit_the_paper(open_page, written: Path, address: str) -> None:
    page = drawn(open_page(written, address, width=1600))
    page.set_viewport_size({"width": 700, "height": 1000})  # what an upright A4 has between its margins
    page.emulate_media(media="print")
    page.wait_for_function("() => document.querySelector('.open .plot').layout.width")
    rights = page.evaluate(
        """[...document.querySelectorAll('.open .plot .main-svg')]
            .map((svg) => svg.getBoundingClientRect().right)"""
    )
    assert max(rights) <= 700
    page.emulate_media(media="screen")
    page.wait_for_function("() => !document.querySelector('.open .plot').layout.width")


def test_bands_single_runs_and_means_switch(open_page, written: Path) -> None:
    page = drawn(open_page(written, STUDY))
    shown = page.locator(".open .layers")
    caption = page.locator(".open figcaption").first
    shown.get_by_label("95 % bands").uncheck()
    expect(caption).not_to_contain_text("haded")
    assert traces(page, IS_BAND, "trace.name") == []
    assert page.evaluate("location.hash") == f"{STUDY}?show=runs,means"
    shown.get_by_label("single runs").uncheck()
    expect(caption).to_contain_text("0 of 27 runs")
    assert len(traces(page, "true", "trace.name")) == 3
    again = drawn(open_page(written, f"{STUDY}?show=bands"))
    assert len(traces(again, "true", "trace.name")) == len(traces(again, IS_BAND, "trace.name")) == 3
    expect(again.locator(".open .layers").get_by_label("means", exact=True)).not_to_be_checked()
    expect(again.locator(".open figcaption").first).to_contain_text("Shaded, the 95 % t interval of the mean")


def test_a_wide_band_does_not_flatten_the_curves(open_page, written: Path) -> None:
    page = drawn(open_page(written, f"{STUDY}?arms=evil"))
    low, high = page.evaluate("document.querySelector('.open .plot')._fullLayout.yaxis.range")
    curves = [y for of_trace in traces(page, "trace.fill === undefined", "trace.y") for y in of_trace if y]
    assert min(curves) - 0.1 * np.ptp(curves) < low < min(curves)
    assert max(curves) < high < max(curves) + 0.1 * np.ptp(curves)
    assert max(max(of_trace) for of_trace in traces(page, IS_BAND, "trace.y.slice(0, -1)")) > high


def test_the_confounds_are_in_sight_on_a_laptop(open_page, written: Path) -> None:
    page = drawn(open_page(written, STUDY, width=1280))
    audit = page.locator(".open .scroll", has=page.locator("th", has_text="beyond the declared factor"))
    assert audit.evaluate("(area) => area.scrollWidth <= area.clientWidth")


def test_arms_of_the_configuration_differences_lead_to_their_runs(open_page, written: Path) -> None:
    page = drawn(open_page(written, STUDY))
    page.get_by_role("region", name="Settings in which the arms differ").locator("thead a").nth(1).click()
    expect(page.locator("#title-set")).to_contain_text("every planned run")
    expect(page.locator("#view-set tbody tr")).to_have_count(9)


def test_without_scripts_claims_and_tables_are_there(browser, written: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(written.as_uri())
    expect(page.locator("#view-home .claim").first).to_be_visible()
    expect(page.locator(".study table").first).to_be_visible()
    context.close()

"""The page driven in a browser: what a reader does with it, and what a screen reader finds there."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from ablations.report.build import build_report, write_report
from ablations.tables.study import markdown_table, study_contents, write_and_show

pytestmark = pytest.mark.slow

STUDY = "#study-made_up"
COMPLETED = "000000000003"  # of the first arm
DIVERGED, FAILED, MISSING, RUNNING = "100000000001", "100000000002", "200000000000", "200000000001"
UNREADABLE = "200000000002"
VIEWS = ("#home", STUDY, f"#run-{COMPLETED}", f"#run-{FAILED}", f"#run-{MISSING}")

READY = ".view[data-shown]:visible"


def go_to(page: Page, path: Path, address: str) -> Locator:
    """Go to a view of the open page; returns it when it is whole."""
    page.goto(path.as_uri() + address)
    return ready(page)


def ready(page: Page) -> Locator:
    shown = page.locator(READY)
    expect(shown).to_have_count(1, timeout=60_000)
    return shown


def traces(page: Page, what: str = "trace.name") -> list[Any]:
    """What JavaScript says of every trace of the first chart in sight."""
    drawn = f"[...document.querySelectorAll('{STUDY} .drawn')][0]"
    return page.evaluate(f"() => {drawn}.data.map((trace) => {what})")


def layers(page: Page) -> dict[str, int]:
    found = traces(page, "trace.meta.layer")
    return {layer: found.count(layer) for layer in sorted(set(found))}


def test_first_screen(open_page, written: Path) -> None:
    page = open_page(written)
    expect(page).to_have_title(re.compile("My paper"))
    home = page.locator("#home")
    expect(home.locator(".lead")).to_contain_text(
        "Of 3 claims, 1 holds, 1 is contradicted and 1 is not testable."
    )
    expect(home.locator(".lead")).to_contain_text("22 of 27 runs completed, 1 diverged, 1 failed, 1 running")
    first = home.locator(".claims tbody:not(.group)").first
    expect(first.locator(".badge")).to_contain_text("holds")
    row = first.locator("tr").first  # a claim of one comparison is one row
    expect(row.locator("td")).to_have_text(
        ["", re.compile(r"^\+\d+\.\d \[\+\d.*\] pp$"), "≥ 0.4 pp", "7 of 8"]
    )
    expect(home).to_contain_text("Because it needs what nobody has.")
    first.get_by_role("link", name="As it is is better").click()
    expect(ready(page).locator("h1")).to_have_text("Made up & <i>odd</i>")
    expect(page.locator("#claim-made-up-final")).to_be_in_viewport()


def test_choose_what_a_chart_shows_and_send_it_as_an_address(open_page, written: Path) -> None:
    page = open_page(written, STUDY)
    form = page.locator(f"{STUDY} form").first
    assert layers(page) == {"band": 3, "mean": 3, "single": 25}
    form.get_by_label("single runs").uncheck()
    form.get_by_label("with </script>").uncheck()
    page.wait_for_function(f"() => document.querySelector('{STUDY} .drawn').data.length === 4")
    form.get_by_label("over").select_option("time")  # no band: no two runs share their times
    page.wait_for_function(f"() => document.querySelector('{STUDY} .drawn').data.length === 2")
    expect(page.locator(f"{STUDY} .xtitle").first).to_have_text("seconds in training steps")
    form.get_by_label("Shown").select_option("train_loss")
    expect(page.locator(f"{STUDY} .ytitle").first).to_have_text("training loss, nats")
    again = open_page(written, page.evaluate("location.search + location.hash"))
    expect(again.locator(f"{STUDY} .ytitle").first).to_have_text("training loss, nats")
    expect(again.get_by_label("with </script>").first).not_to_be_checked()
    assert layers(again) == {"mean": 2}


def test_the_numbers_of_a_chart_follow_the_chosen_curve(open_page, written: Path) -> None:
    study = open_page(written, STUDY).locator(STUDY)
    study.get_by_text("The means as numbers").press("Enter")
    table = study.locator("[data-curve]:visible")
    expect(table.locator("caption")).to_contain_text("validation top-1, %")
    expect(table.locator("tbody tr")).to_have_count(4)
    expect(table.locator("td").first).to_have_text(re.compile(r"^\d\d\.\d+ \[\d\d\.\d+, \d\d\.\d+\]$"))
    study.get_by_label("Shown").select_option("val_loss")
    expect(table.locator("caption")).to_contain_text("validation loss, nats")


def test_hover_and_click_on_a_run(open_page, written: Path) -> None:
    page = open_page(written, STUDY)
    form = page.locator(f"{STUDY} form").first
    for label in ("as it is", "with </script>"):
        form.get_by_label(label).uncheck()
    form.get_by_label("means").uncheck()
    page.wait_for_function(f"() => document.querySelector('{STUDY} .drawn').data.length === 8")
    plot = page.locator(f"{STUDY} .plot").first
    plot.scroll_into_view_if_needed()
    x, y = page.evaluate(
        """(study) => {
            const plot = document.querySelector(`${study} .drawn`), box = plot.getBoundingClientRect();
            const trace = plot.data.find((each) => each.meta.run === '200000000004');
            const { xaxis, yaxis } = plot._fullLayout;
            return [box.left + xaxis._offset + xaxis.d2p(trace.x[2]),
                    box.top + yaxis._offset + yaxis.d2p(trace.y[2])];
        }""",
        STUDY,
    )
    page.mouse.move(x - 30, y - 30)
    page.mouse.move(x, y, steps=4)
    hover = plot.locator(".hoverlayer")
    expect(hover).to_contain_text("a third <b>arm</b>, 5 %{x}")  # read neither as markup nor as a value
    expect(hover).to_contain_text(re.compile(r"seed 4 \(completed\)\s*150: \d\d\.\d+"))
    page.mouse.click(x, y)
    expect(ready(page).locator("h1")).to_have_text("a third <b>arm</b>, 5 %{x}, seed 4")


def test_sort_a_table(open_page, written: Path) -> None:
    page = open_page(written, STUDY)
    table = page.locator(f"{STUDY} table.sorted").first
    arms = table.locator("tbody th")
    header = table.locator("thead th", has_text="validation top-1, %").first
    header.click()
    expect(header).to_have_attribute("aria-sort", "ascending")
    up = arms.all_inner_texts()
    header.get_by_role("button").press("Enter")  # from the keyboard
    expect(header).to_have_attribute("aria-sort", "descending")
    assert arms.all_inner_texts() == up[::-1]


def test_copy_the_table(open_page, made_up, written: Path, tmp_path: Path) -> None:
    study, runs, _ = made_up
    page = open_page(written, STUDY)
    wanted = {
        "CSV": study_contents(study, runs)[0].to_csv(index=False, lineterminator="\n"),
        "Markdown": markdown_table(study, runs),
        "LaTeX": write_and_show(study, runs, tmp_path)[0][2].read_text(),
    }
    for form, text in wanted.items():
        page.evaluate("document.querySelector('#said').textContent = ''")
        page.get_by_role("button", name=f"Copy as {form}").click()
        expect(page.locator("#said")).to_have_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()") == text, form


def test_the_table_of_runs_is_filtered_sorted_and_copied(open_page, written: Path) -> None:
    page = open_page(written, STUDY)
    rows = page.locator(f"{STUDY} table.runs tbody tr")
    expect(rows).to_have_count(27)
    for status, n in {"diverged": 1, "failed": 1, "missing": 2, "running": 1}.items():
        page.get_by_label("Filter").fill(status)
        expect(rows).to_have_count(n)
    page.get_by_label("Filter").fill("with </script>")
    expect(rows).to_have_count(9)
    header = page.locator(f"{STUDY} table.runs thead th", has_text="wall time")
    header.click()
    header.click()
    expect(rows.first).to_contain_text("1 min 08 s")
    page.get_by_role("button", name="Copy", exact=True).click()
    expect(page.locator(".dt-button-info")).to_contain_text("Copied 9 rows")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert len(copied.strip().splitlines()) == 1 + 9


def test_claims_and_arms_lead_to_their_runs_and_back(open_page, written: Path) -> None:
    page = open_page(written, STUDY)
    rows, only = page.locator(f"{STUDY} table.runs tbody tr"), page.locator(f"{STUDY} .only")
    page.locator(f"{STUDY} .claims td a").first.click()
    expect(only).to_contain_text("Only the runs of the claim “As it is is better")
    expect(rows).to_have_count(16)
    page.locator(f"{STUDY} table.sorted tbody a").nth(2).click()
    expect(only).to_contain_text("a third <b>arm</b>")
    expect(rows).to_have_count(9)
    page.get_by_role("button", name="Show all runs").click()
    expect(rows).to_have_count(27)
    expect(only).to_be_hidden()
    left_at = page.evaluate("scrollY")
    rows.nth(3).get_by_role("link").click()
    expect(ready(page).locator("h1")).to_have_text("as it is, seed 3")
    page.go_back()
    expect(page.locator(STUDY)).to_be_visible()
    page.wait_for_function("(left) => Math.abs(scrollY - left) < 300", arg=left_at)


def test_the_whole_claim_is_a_link_and_the_side_bar_leads_through_the_study(open_page, written: Path) -> None:
    page = open_page(written)
    page.locator("#home .linked").first.locator(".picture").click(force=True)  # the link covers it
    expect(page.locator("#claim-made-up-final")).to_be_in_viewport()
    page.locator("#menu").get_by_role("link", name="Runs").click()
    expect(page.locator("#runs-made_up")).to_be_in_viewport()
    expect(page.locator("#menu [aria-current]")).to_have_text(["Made up & <i>odd</i>", "Runs"])


def test_runs_side_by_side(open_page, written: Path) -> None:
    page = open_page(written, STUDY)
    button = page.get_by_role("button", name="Compare selected runs")
    expect(button).to_be_disabled()
    for title in ("as it is, seed 3", "a third <b>arm</b>, 5 %{x}, seed 4"):
        page.get_by_label(f"Compare {title}").check()
    button.click()
    shown = ready(page)
    titles = ["as it is, seed 3", "a third <b>arm</b>, 5 %{x}, seed 4"]
    expect(shown.locator("thead th")).to_have_text(["metric", *titles, "difference", "setting", *titles])
    cells = shown.get_by_role("row", name="test top-1, %").locator("td")
    first, second, difference = (float(text.split()[0].replace("−", "-")) for text in cells.all_inner_texts())
    assert difference == pytest.approx(second - first, abs=0.11)
    expect(shown.get_by_role("link", name="Made up")).to_have_attribute("href", "#runs-made_up")
    settings = shown.get_by_role("region", name="Settings that differ").locator("tbody tr")
    expect(settings).to_have_text(["seed34", "residualplainthird"])
    drawn = "document.querySelector('#compare .drawn').data.map((trace) => trace.name)"
    assert page.evaluate(drawn) == ["as it is, seed 3", "a third &lt;b>arm&lt;/b>, 5 %{x}, seed 4"]
    shown.get_by_label("Shown").select_option("val_loss")
    expect(shown.locator(".ytitle")).to_have_text("validation loss")
    again = open_page(written, page.evaluate("location.search + location.hash"))
    expect(ready(again).locator("thead th")).to_have_count(7)
    assert Axe().run(again).response["violations"] == []


def test_of_many_arms_few_are_drawn_at_first(open_page, tmp_path: Path, make_many: Callable) -> None:
    study, runs, judged = make_many(tmp_path, seeds=2, epochs=2, arms=9)
    path = write_report(build_report(judged, [(study, runs)], [], "My paper"), tmp_path / "report")
    page = open_page(path, STUDY)
    assert layers(page) == {"band": 4, "mean": 4}
    page.get_by_role("button", name="Show all 9").first.click()
    page.wait_for_function(f"() => document.querySelector('{STUDY} .drawn').data.length === 18")


def test_a_run(open_page, written: Path) -> None:
    page = open_page(written, f"#run-{COMPLETED}")
    run = ready(page)
    expect(run.locator("dl")).to_contain_text("Some CPU")
    expect(run.locator(".drawn .main-svg").first).to_be_visible()
    for summary in ("All 9 settings", "Record:", "The curves as numbers"):
        run.get_by_text(summary).click()
    for text in (
        "recipe.optimizer.lr",
        "0123456789abcdef",
        "340000",
        "2.9.0",
        "wandb-3",
        "validation top-5, %",
    ):
        expect(run.locator("tr:visible", has_text=text).first).to_be_visible()
    run.get_by_role("link", name="Made up").click()
    expect(page.locator(STUDY)).to_be_visible()


@pytest.mark.parametrize(
    ("run_id", "text"),
    [
        (FAILED, "OSError: </script><img src=x onerror=alert(1)>"),
        (DIVERGED, "its metrics count as chance"),
        (MISSING, "missing: no record."),
        (UNREADABLE, "unreadable record, counted as missing"),
        (RUNNING, "running"),
    ],
)
def test_a_run_that_did_not_complete(open_page, written: Path, run_id: str, text: str) -> None:
    expect(ready(open_page(written, f"#run-{run_id}"))).to_contain_text(text)


@pytest.mark.parametrize("address", ["#run-nothing", "#study-none", "#/%E0%A4%A", "?curve=none&line=x"])
def test_an_address_that_leads_nowhere_shows_the_claims(open_page, written: Path, address: str) -> None:
    expect(open_page(written, address).locator("#home")).to_be_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_accessibility_and_no_text_becomes_markup(open_page, written: Path, theme: str) -> None:
    page = open_page(written, theme=theme)
    options = {"runOnly": ["color-contrast"]} if theme == "dark" else {}  # the themes differ in colours alone
    found = []
    for address in VIEWS:
        go_to(page, written, address)
        found += [
            (address, violation["id"], [node["html"][:200] for node in violation["nodes"][:3]])
            for violation in Axe().run(page, options=options).response["violations"]
            if violation["impact"] in ("serious", "critical") or violation["id"] == "heading-order"
        ]
        assert page.locator("img, h1 i, .hoverlayer b").count() == 0
    assert found == []


def test_keyboard(open_page, written: Path) -> None:
    page = open_page(written, STUDY)
    page.locator(".skip").press("Enter")
    expect(page.locator("#main")).to_be_focused()
    expect(page.locator(STUDY)).to_be_visible()
    expect(page.locator("#menu [aria-current]")).to_have_text("Made up & <i>odd</i>")


def test_a_phone_scrolls_only_down_and_has_a_menu(open_page, written: Path) -> None:
    page = open_page(written, width=360)
    for address in VIEWS:
        go_to(page, written, address)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.get_by_role("button", name="Studies").click()
    page.locator("#menu").get_by_role("link", name="Results", exact=True).first.click()
    expect(page.locator("#home")).to_be_visible()
    expect(page.locator("#menu")).to_be_hidden()


def test_what_is_cut_off_is_seen_to_scroll_and_no_claim_is_cut(open_page, written: Path) -> None:
    page = open_page(written, STUDY, width=360)
    table = page.locator(f"{STUDY} .scroll").filter(has_text="Final metrics").first
    expect(table).to_have_attribute("data-more", "")
    table.evaluate("(box) => { box.scrollLeft = box.scrollWidth; }")
    expect(table).not_to_have_attribute("data-more", "")
    page = open_page(written, width=900)
    cut = """(parts) => parts.filter((part) => getComputedStyle(part).overflow !== "visible"
      && (part.scrollWidth > part.clientWidth || part.scrollHeight > part.clientHeight)).length"""
    assert page.locator("#home .claims :not(.unseen)").evaluate_all(cut) == 0


def test_themes_and_print(open_page, written: Path) -> None:
    page = open_page(written, STUDY, theme="dark", width=1600)
    ground = "getComputedStyle(document.body).backgroundColor"
    color = f"document.querySelector('{STUDY} .drawn').layout.font.color"
    assert page.evaluate(ground) == "rgb(20, 23, 26)"
    assert page.evaluate(color) == "#e8eaed"
    page.set_viewport_size({"width": 700, "height": 1000})  # what an upright A4 has between its margins
    page.emulate_media(media="print")
    page.wait_for_function(f"() => {color} === '#1b1f23'")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    charts = "[...document.querySelectorAll('.main-svg')].map((svg) => svg.getBoundingClientRect().right)"
    page.wait_for_function(f"() => Math.max(...{charts}) <= 700")
    assert page.evaluate("document.documentElement.scrollWidth") <= 700
    for hidden in ("#menu", "header", f"{STUDY} select", f"{STUDY} .layers", ".tools"):
        expect(page.locator(hidden).first).to_be_hidden()
    expect(page.locator(f"{STUDY} form").first).to_contain_text("as it is")  # the legend of the chart
    for heading in ("Claims", "Figures", "Results", "Confounds", "Reproduce", "Runs"):
        expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible()


def test_without_scripts_claims_and_tables_are_there(browser, written: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(written.as_uri())
    page.locator("#menu a", has_text="Made up").click()
    expect(page.locator(f"{STUDY} table.sorted").first).to_be_visible()
    expect(page.locator("#home")).to_be_hidden()
    context.close()


@pytest.mark.slow
def test_hundreds_of_runs(open_page, tmp_path: Path, make_many: Callable) -> None:
    study, runs, judged = make_many(tmp_path, seeds=40, epochs=20)
    path = write_report(build_report(judged, [(study, runs)], [], "My paper"), tmp_path / "report")
    assert path.stat().st_size < 8_000_000
    page = open_page(path, STUDY)
    expect(page.locator(f"{STUDY} figcaption").first).to_contain_text("30 single runs of an arm are drawn.")
    rows = page.locator(f"{STUDY} table.runs tbody tr")
    expect(rows).to_have_count(50)
    page.get_by_label("Filter").fill("seed 39")
    expect(rows).to_have_count(3)
    rows.first.get_by_role("link").click()
    expect(ready(page).locator("h1")).to_have_text("as it is, seed 39")

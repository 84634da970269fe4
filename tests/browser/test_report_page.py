"""The page of a real run, as somebody uses it: by mouse, by keyboard, on a phone, on paper."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tab import Tab

from steer_heal_love.report.page.document import run_page
from steer_heal_love.report.write import plots_of, write_comparison_page
from steer_heal_love.runs.read import read_run

DEMO = Path(__file__).parents[2] / "runs/demo"
Open = Callable[..., Tab]


@pytest.fixture(scope="module", params=["tiny", "demo"])
def report(
    request: pytest.FixtureRequest, real_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The page that a tiny run left, and in `make test-browser` that of the demo, too."""
    if request.param == "tiny":
        return real_run / "report.html"
    if "SHL_DEMO_PAGE" not in os.environ:
        pytest.skip("the demo's page takes long: make test-browser")
    if not (DEMO / "metrics.json").is_file():
        pytest.skip("no runs/demo here: make demo")
    found, page = read_run(DEMO, damaged_ok=True), tmp_path_factory.mktemp("demo") / "report.html"
    page.write_text(run_page(found, plots_of(found)), "utf-8")
    return page


def shown(tab: Tab, selector: str) -> list[str]:
    found: list[str] = tab.page.locator(selector).all_inner_texts()
    return found


def numbers(tab: Tab, column: str) -> list[float]:
    """The known values of a column of the explorer, from top to bottom."""
    place = shown(tab, "#completions thead th").index(column) + 1
    cells = shown(tab, f"#completions tbody td:nth-child({place})")
    return [float(c.replace("−", "-").rstrip(" %")) for c in cells if c != "–"]


def test_it_is_drawn_without_a_fault_and_without_the_network(report: Path, open_page: Open) -> None:
    tab = open_page(report)
    figures = tab.page.locator("figure")
    assert figures.count() >= 3
    for figure in figures.all():
        assert figure.locator(".chart svg path").count() > 5
        assert len(figure.locator(".chart").get_attribute("aria-label")) > 40
        assert figure.locator("table tbody tr").count() >= 1
    assert len(shown(tab, ".tiles dd")) == 4
    assert shown(tab, "#answers .said .words")
    assert (tab.problems, tab.asked) == ([], [])


def test_another_prompt_shows_other_answers(report: Path, open_page: Open) -> None:
    tab = open_page(report)
    tab.page.wait_for_selector("#answers .said")
    first, labels = shown(tab, "#answers .words"), shown(tab, "#answers .said h4")
    assert labels[:4] == [
        "base", "persona as system prompt", "steered: vector on", "healed: vector off, adapter on",
    ]  # fmt: skip
    assert len(set(first)) > 1
    asked = tab.page.locator("#asked").inner_text()
    tab.page.locator("#prompt").focus()
    tab.page.keyboard.press("ArrowDown")
    assert tab.page.locator("#asked").inner_text() != asked
    assert shown(tab, "#answers .words") != first
    tab.page.locator("#previous-prompt").press("Enter")
    assert shown(tab, "#answers .words") == first
    assert tab.page.locator("#previous-prompt").is_disabled()
    tab.page.locator("#answer").select_option(label="greedy")
    assert shown(tab, "#answers .words") != first
    assert tab.problems == []


def test_surprise_is_a_ground_that_can_be_switched_off(report: Path, open_page: Open) -> None:
    tab = open_page(report)
    word = tab.page.locator("#answers .s3, #answers .s4, #answers .s5").first
    word.wait_for()
    assert float(word.get_attribute("title").removesuffix(" nats")) >= 4
    ground = "e => getComputedStyle(e).backgroundColor"
    shaded = word.evaluate(ground)
    tab.page.locator("#shade").uncheck()
    assert word.evaluate(ground) == "rgba(0, 0, 0, 0)" != shaded


def test_what_repeats_itself_is_underlined_and_stays_text(
    real_run: Path, tmp_path: Path, open_page: Open
) -> None:
    run = shutil.copytree(real_run, tmp_path / "run")
    file = run / "baseline/answers.jsonl"
    row, *others = file.read_text("utf-8").splitlines()
    tokens = ["Well. ", *["<b onclick=x()>", "love</b> "] * 9, "Yours."]
    said = {"text": "".join(tokens), "loops": True}
    first = json.loads(row) | said | {"tokens": tokens, "surprise_nats": [1.0] * len(tokens)}
    file.write_text("\n".join([json.dumps(first), *others]) + "\n", "utf-8")
    page = tmp_path / "report.html"
    page.write_text(run_page(read_run(run, damaged_ok=True), ()), "utf-8")
    tab = open_page(page)
    tab.page.locator("#prompt").select_option(label=first["prompt"])
    tab.page.locator("#answer").select_option(label=first["mode"])
    marked = tab.page.locator("#answers .again").first
    assert marked.inner_text().strip() == "<b onclick=x()>love</b> " * 7 + "<b onclick=x()>love</b>"
    assert marked.evaluate("e => getComputedStyle(e).textDecorationStyle") == "wavy"
    assert marked.locator("b").count() == 0
    assert tab.page.locator("#answers .words").first.inner_text() == said["text"]
    assert tab.problems == []


def test_the_explorer_sorts_filters_and_finds(report: Path, open_page: Open) -> None:
    tab = open_page(report)
    tab.page.wait_for_selector("#completions tbody tr")
    edges = numbers(tab, "edge")
    assert edges == sorted(edges)  # the borderline ones first
    header = tab.page.locator("#completions th", has_text="perplexity")
    header.get_by_role("button").press("Enter")
    assert header.get_attribute("aria-sort") == "ascending"
    values = numbers(tab, "perplexity")
    assert values == sorted(values)
    assert len(set(values)) > 1
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    assert numbers(tab, "perplexity")[0] >= max(values)
    tab.page.locator("#fate").select_option("kept")
    assert set(shown(tab, "#completions .fate")) == {"kept"}
    tab.page.locator("#words").fill("no text has these words")
    assert shown(tab, "#completions tbody tr") == []
    assert shown(tab, "#count") == ["0 completions, 0 kept; 0 shown"]
    tab.page.locator("#words").fill("")
    tab.page.locator("#fate").select_option("")
    before = shown(tab, "#completions tbody tr")
    tab.page.locator("#round").select_option("1")
    tab.page.wait_for_function(
        "before => document.querySelector('#completions tbody tr').innerText !== before",
        arg=before[0],
    )
    assert shown(tab, "#completions tbody tr") != before
    row = tab.page.locator("#completions summary").first
    row.press("Enter")
    assert tab.page.locator("#completions details[open] p").count() == 2
    assert tab.problems == []


def test_hovering_shows_values(report: Path, open_page: Open) -> None:
    tab = open_page(report)
    tab.page.locator("#figure-love_loop path[aria-roledescription=point]").first.hover(force=True)
    tip = tab.page.wait_for_selector("#vg-tooltip-element.visible")
    assert "perplexity" in tip.inner_text()
    assert "trait, nats/token" in tip.inner_text()


def test_night_and_day(report: Path, open_page: Open) -> None:
    tab = open_page(report, scheme="dark")

    def colours() -> list[Any]:
        body = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
        label = tab.page.locator("#figure-love_loop .chart text").first
        return [body, label.evaluate("e => getComputedStyle(e).fill")]

    night = colours()
    assert night[0] == "rgb(23, 26, 31)"
    assert tab.page.locator("#theme").inner_text() == "Light"
    tab.page.locator("#theme").click()
    day = colours()
    assert day == ["rgb(255, 255, 255)", "rgb(34, 39, 46)"]
    assert night[1] != day[1]


def test_a_phone_shows_it_without_scrolling_sideways(report: Path, open_page: Open) -> None:
    tab = open_page(report, width=360)
    assert tab.page.evaluate("document.documentElement.scrollWidth") == 360
    for box in tab.page.locator(".chart svg").all():
        assert box.bounding_box()["width"] <= 360
    small = tab.page.locator("#figure-love_loop svg").evaluate(
        "e => e.getBoundingClientRect().width / e.getAttribute('width')"
    )
    assert small > 0.9  # drawn for this width, not shrunk until nobody can read it
    assert tab.problems == []


def test_on_paper(report: Path, open_page: Open) -> None:
    tab = open_page(report, scheme="dark")
    tab.page.emulate_media(media="print", color_scheme="dark")
    for gone in (".top", ".controls", ".tools"):
        assert not tab.page.locator(gone).first.is_visible()
    for there in ("h1", ".tiles", "#figure-love_loop svg", "#answers .words"):
        assert tab.page.locator(there).first.is_visible()
    ink = tab.page.evaluate("getComputedStyle(document.body).color")
    assert ink == "rgb(34, 39, 46)"  # no light letters on white paper
    assert tab.page.pdf(format="A4").startswith(b"%PDF")


def test_the_first_tab_stop_skips_the_navigation_and_focus_is_seen(
    report: Path, open_page: Open
) -> None:
    tab = open_page(report)
    tab.page.keyboard.press("Tab")
    assert tab.page.evaluate("document.activeElement.textContent") == "Skip to what was found"
    for _ in range(2):
        tab.page.keyboard.press("Tab")
    assert tab.page.evaluate("getComputedStyle(document.activeElement).outlineWidth") == "3px"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_screen_reader_finds_its_way(report: Path, open_page: Open, scheme: str) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright",
        reason="axe is not installed: pip install axe-playwright-python",
    )
    tab = open_page(report, scheme=scheme)
    tab.page.wait_for_selector("#completions tbody tr")
    tab.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    found = axe.Axe().run(tab.page).response
    serious = [
        f"{v['id']} ({v['impact']}): {v['nodes'][0]['html'][:200]}" for v in found["violations"]
    ]
    assert len(found["passes"]) > 15
    assert serious == []


def test_several_runs_side_by_side(real_run: Path, tmp_path: Path, open_page: Open) -> None:
    other = tmp_path / "other"
    shutil.copytree(real_run, other)
    config = (other / "config.toml").read_text("utf-8")
    (other / "config.toml").write_text(config.replace("seed = 0", "seed = 1"), "utf-8")
    files = write_comparison_page([real_run, other], tmp_path / "both.html")
    assert [f.name for f in files] == ["both.html", "comparison.svg", "comparison.png"]
    tab = open_page(files[0])
    assert shown(tab, ".compare thead th")[1:3] == ["run", "other"]
    assert "2 seeds: run, other" in tab.page.locator("#figure-comparison table").text_content()
    assert tab.page.locator("#figure-comparison .chart .mark-area path").count()
    assert shown(tab, "#answers h4")[:4] == [
        "base", "persona as system prompt", "run, healed", "other, healed",
    ]  # fmt: skip
    assert (tab.problems, tab.asked) == ([], [])

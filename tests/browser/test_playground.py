"""The playground in a real browser: ask, move the sliders, see other answers; nothing runs."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from play_run import write_play_run
from play_server import served

PATIENCE = 60_000  # ms; the machine may be busy
CONDITIONS = ("base", "prompted", "steered", "healed")
NASTY = (
    "<script>window.owned=1</script><img src=x onerror='window.owned=2'>"
    "${window.owned=3}{{constructor.constructor('window.owned=4')()}}"
    "<a href='javascript:window.owned=5'>a</a>"
)

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None,
    reason="gradio is not installed: pip install 'steer-heal-love[ui]'",
)


def answer_nastily() -> None:
    """In the server: whatever the model draws reads as an attack on the page."""
    from steer_heal_love.play import turn

    turn.decode_text = lambda _lm, ids: NASTY * len(ids)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_play_run(tmp_path_factory.mktemp("playground"))


@pytest.fixture(scope="module")
def address(browser: Any, run: Path) -> Iterator[str]:
    with served(run, run.parent / "said") as found:
        yield found


@dataclass
class Tab:
    """An open playground, and everything that went wrong or out of it."""

    page: Any
    problems: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def hear(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.problems.append(f"{kind}: {text}")

    def ask(self, message: str) -> dict[str, str]:
        self.page.fill("#message textarea", message)
        self.page.click("#ask")
        return self.answers()

    def answers(self) -> dict[str, str]:
        """The columns, when nothing has changed in them for a while and all are whole."""
        whole = (
            "() => { const figures = [...document.querySelectorAll('.column .figures')];"
            " const now = document.querySelector('.gradio-container').innerText;"
            " const still = window.before === now; window.before = now;"
            " return still && figures.length === 4 && !document.querySelector('.cursor')"
            " && figures.every(f => f.textContent.includes('tokens')); }"
        )
        self.page.evaluate("window.before = null")
        self.page.wait_for_timeout(700)  # for the request to be on its way
        self.page.wait_for_function(whole, timeout=PATIENCE, polling=700)
        return {name: self.page.inner_text(f".column.{name} .answer") for name in CONDITIONS}

    def slide(self, name: str, key: str, times: int) -> None:
        """Move a slider by its keyboard, as a user without a mouse would."""
        slider = self.page.locator(f"#{name} input[type=range]")
        slider.focus()
        for _ in range(times):
            self.page.keyboard.press(key)
        slider.dispatch_event("pointerup")

    def what(self, name: str) -> str:
        return str(self.page.inner_text(f".column.{name} .what"))


@pytest.fixture
def open_tab(browser: Any) -> Iterator[Any]:
    opened = []

    def call(address: str, **how: Any) -> Tab:
        page = browser.new_page(viewport={"width": 1280, "height": 900}, **how)
        opened.append(page)
        tab = Tab(page)
        page.on("console", lambda m: tab.hear(m.type, m.text))
        page.on("pageerror", lambda e: tab.hear("error", str(e)))
        page.on("request", lambda r: tab.asked.append(r.url))
        page.goto(address)
        page.wait_for_selector("#ask", timeout=PATIENCE)
        return tab

    yield call
    for page in opened:
        page.close()


def nothing_wrong(tab: Tab, address: str) -> None:
    assert tab.problems == []
    abroad = [url for url in tab.asked if not url.startswith((address, "data:", "blob:"))]
    assert abroad == []


def test_ask_and_move_the_sliders(open_tab: Any, address: str) -> None:
    tab = open_tab(address)
    first = tab.ask("Tell me about rain.")
    assert len(set(first.values())) == 4
    assert tab.what("healed") == "the adapters of rounds 0 to 2"

    tab.slide("round", "ArrowLeft", 2)
    second = tab.answers()
    assert tab.what("healed") == "the adapter of round 0"
    assert (second["base"], second["prompted"]) == (first["base"], first["prompted"])
    assert second["steered"] != first["steered"]
    assert second["healed"] != first["healed"]

    tab.slide("kappa", "Home", 1)  # as far to the negative as it goes
    third = tab.answers()
    assert "κ -3.00 along v of round 0" in tab.what("steered")
    assert third["steered"] != second["steered"]
    assert {n: third[n] for n in CONDITIONS if n != "steered"} == {
        n: second[n] for n in CONDITIONS if n != "steered"
    }
    shades = tab.page.locator(".column.steered .answer span[title*='κ -3.00']")
    assert shades.count() > 3
    nothing_wrong(tab, address)


def test_a_second_tab_does_not_disturb_the_first(open_tab: Any, address: str) -> None:
    one, two = open_tab(address), open_tab(address)
    expected = one.ask("I am sad.")
    two.slide("round", "Home", 1)
    other = two.ask("What is a friend?")
    assert other != expected
    assert other["healed"] == other["base"]
    assert one.ask("I am sad.") == expected
    assert one.what("healed") == "the adapters of rounds 0 to 2"
    nothing_wrong(one, address)
    nothing_wrong(two, address)


def test_the_present_setting_as_python(open_tab: Any, address: str, run: Path) -> None:
    tab = open_tab(address)
    tab.page.fill("#message textarea", 'Say "hi"')
    tab.slide("round", "ArrowLeft", 1)
    tab.page.get_by_text("Copy as Python").click()
    program = tab.page.locator("#program")
    program.get_by_text("read_run(Path(").first.wait_for(timeout=PATIENCE)
    tab.page.wait_for_timeout(1500)
    text = program.inner_text()
    assert f"read_run(Path('{run}'))" in text
    assert "prompt = 'Say \"hi\"'" in text
    assert "for r in range(2)" in text
    nothing_wrong(tab, address)


def test_a_mistake_is_told_and_the_page_goes_on(open_tab: Any, address: str) -> None:
    tab = open_tab(address)
    tab.page.fill("#message textarea", "  ")
    tab.page.click("#ask")
    tab.page.get_by_text("the message is empty").first.wait_for(timeout=PATIENCE)
    assert tab.ask("Hello")["base"]
    nothing_wrong(tab, address)


def test_it_fits_a_phone_in_the_dark(open_tab: Any, address: str) -> None:
    tab = open_tab(address, color_scheme="dark")
    tab.page.set_viewport_size({"width": 360, "height": 740})
    tab.ask("Hello")
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 360
    background = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(map(int, background[4:-1].split(","))) < 200
    nothing_wrong(tab, address)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_screen_reader_finds_its_way(open_tab: Any, address: str, scheme: str) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright",
        reason="axe is not installed: pip install axe-playwright-python",
    )
    tab = open_tab(address, color_scheme=scheme)
    tab.ask("Hello")
    found = axe.Axe().run(tab.page).response
    serious = [
        f"{v['id']} ({v['impact']}): {node['html'][:200]}"
        for v in found["violations"]
        if v["impact"] in ("serious", "critical")
        for node in v["nodes"]
    ]
    assert len(found["passes"]) > 15
    assert serious == []


def test_what_a_model_says_runs_nowhere(open_tab: Any, browser: Any, run: Path) -> None:
    with served(run, run.parent / "nasty", before=answer_nastily) as address:
        tab = open_tab(address)
        found = tab.ask(NASTY)
        assert all("<script>window.owned=1</script>" in text for text in found.values())
        assert tab.page.evaluate("window.owned") is None
        assert tab.page.locator(".column a, .column img, .column script").count() == 0
        nothing_wrong(tab, address)

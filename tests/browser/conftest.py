"""A real browser, a real run, and its page as a user has it open."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tab import Tab

from processes import shl
from tiny_run import write_inputs

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
PATIENCE = 60_000  # ms; the machine may be busy


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium, headless."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    if CHROMIUM is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with playwright.sync_playwright() as api:
        opened = api.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def real_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two rounds on a tiny model, by the command, with its page."""
    folder = tmp_path_factory.mktemp("real")
    flags = write_inputs(folder, rounds=2)
    said = shl(["run", *flags, "--out", str(folder / "run")], folder / "said", full=True)
    assert said.code == 0, said
    return folder / "run"


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Tab]]:
    """Open a file in a tab of its own, and wait until all its figures are drawn."""
    opened = []

    def call(file: Path, width: int = 1280, scheme: str = "light") -> Tab:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        opened.append(page)
        tab = Tab(page)
        page.on("console", lambda m: tab.problems.append(f"{m.type}: {m.text}"))
        page.on("pageerror", lambda e: tab.problems.append(str(e)))
        page.on("request", lambda r: tab.asked.append(r.url))
        page.goto(file.as_uri())
        drawn = "[...document.querySelectorAll('.chart')].every(c => c.dataset.drawn)"
        page.wait_for_function(drawn, timeout=PATIENCE)
        tab.asked.remove(file.as_uri())
        return tab

    yield call
    for page in opened:
        page.close()

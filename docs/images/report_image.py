"""The README's picture of a run's page: `make report-image`, after `make demo`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

SIZE = {"width": 1180, "height": 1120}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


def take(page: Path, picture: Path) -> None:
    """Write the top of a page as a browser of a common width shows it, by day."""
    with sync_playwright() as api:
        browser = api.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport=SIZE, color_scheme="light")
        tab.goto(page.resolve().as_uri())
        tab.wait_for_selector(".chart[data-drawn] svg")
        tab.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    take(Path(sys.argv[1]) / "report.html", Path(__file__).with_name("report.png"))

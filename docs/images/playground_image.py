"""The README's picture of the playground: `make playground-image`, after `make demo`."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

SIZE = {"width": 1180, "height": 1060}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
ANSWERED = (
    "document.querySelectorAll('.column .figures').length === 4"
    " && [...document.querySelectorAll('.column .figures')].every(f => f.textContent)"
    " && !document.querySelector('.cursor')"
)


def take(address: str, picture: Path) -> None:
    """Ask the message that stands there, and write the page as a browser shows it, by day."""
    with sync_playwright() as api:
        browser = api.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport=SIZE, color_scheme="light")
        tab.goto(address)
        tab.click("#ask")
        tab.wait_for_function(ANSWERED, timeout=600_000)
        tab.wait_for_timeout(1000)  # for the marks of progress to go
        tab.screenshot(path=picture)
        browser.close()


def main(run: str) -> None:
    """Serve the run, take the picture, end the server."""
    command = [sys.executable, "-m", "steer_heal_love", "playground", run, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603
        assert server.stdout is not None
        try:
            found = re.search(r"http://\S+", server.stdout.readline())
            assert found, "the playground did not begin"
            take(found.group(), Path(__file__).with_name("playground.png"))
        finally:
            server.send_signal(signal.SIGINT)


if __name__ == "__main__":
    main(sys.argv[1])

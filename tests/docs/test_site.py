"""The documentation builds as a site, without a warning, and fetches nothing when it is read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from steer_heal_love.cli import COMMANDS

ROOT = Path(__file__).parents[2]
NEEDED = ("material", "mkdocstrings_handlers", "latex2mathml")
FETCHED = re.compile(r"""<(?:script|img|iframe|source)[^>]+src=["']?(?:https?:)?//|<link[^>]+//""")

pytestmark = pytest.mark.skipif(
    not all(find_spec(name) for name in NEEDED),
    reason="the site needs mkdocs-material: pip install 'steer-heal-love[docs]'",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},  # an advertisement of its maker's
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_every_page_of_the_checkout_is_in_it(site: Path) -> None:
    pages = [p.relative_to(ROOT / "docs") for p in (ROOT / "docs").rglob("*.md")]
    assert pages
    for page in [*pages, Path("index.md"), Path("contributing.md")]:
        assert (site / page.with_suffix(".html")).is_file(), page


def test_every_page_can_be_reached(site: Path) -> None:
    home = (site / "index.html").read_text("utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
        assert f'href="{name}"' in home, f"nav of mkdocs.yml lacks {name}"


def test_every_command_is_described(site: Path) -> None:
    text = (site / "reference" / "cli.html").read_text("utf-8")
    for name in COMMANDS:
        assert f"usage: shl {name}" in text


def test_formulas_are_mathml(site: Path) -> None:
    text = (site / "method.html").read_text("utf-8")
    assert text.count("<math") >= 4
    assert 'class="arithmatex' not in text
    assert "$$" not in text


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert not FETCHED.search(page.read_text("utf-8")), page

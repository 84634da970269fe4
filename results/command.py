"""What the commands of several questions share: where they write, what they say on the way."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]


def docs_folder(name: str, *, aside: bool) -> Path:
    """The folder with RESULTS.md: docs/, or `aside` a temporary one that holds a copy of it."""
    if not aside:
        return ROOT / "docs"
    folder = Path(tempfile.gettempdir()) / f"shl-results-{name}"
    folder.mkdir(exist_ok=True)
    shutil.copy(ROOT / "docs" / "RESULTS.md", folder)
    return folder


def add_shared_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of every question that measures texts itself: its size, its subject, its places."""
    parser.add_argument("--tiny", action="store_true", help="a few texts: does the code run?")
    parser.add_argument("--fresh", action="store_true", help="forget what has been measured")
    parser.add_argument("--model", default="smollm2", help="as shl run --model takes it")
    parser.add_argument("--axis", default="love", help="as shl run --axis takes it")
    parser.add_argument("--config", type=Path, help="settings as shl run --config takes them")
    parser.add_argument("--store", type=Path, help="folder of what has been measured")
    parser.add_argument("--docs", type=Path, help="folder with RESULTS.md")


def find_places(options: argparse.Namespace, name: str, *, aside: bool) -> None:
    """Fill in the store and the folder of the page where no flag gave them.

    Args:
        aside: the page is not to be the project's own.
    """
    if options.store is None:
        folder = f"{name}-tiny" if options.tiny else name
        options.store = ROOT / "runs" / "results" / folder
    if options.docs is None:
        options.docs = docs_folder(name, aside=aside)


def teller() -> Callable[[str], None]:
    """What says a line on standard error, with the minutes since it was made."""
    began = time.monotonic()

    def tell(what: str) -> None:
        minutes = (time.monotonic() - began) / 60
        print(f"{minutes:6.1f} min  {what}", file=sys.stderr, flush=True)

    return tell

"""What the commands of several questions share: where they write, what they say on the way."""

from __future__ import annotations

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


def teller() -> Callable[[str], None]:
    """What says a line on standard error, with the minutes since it was made."""
    began = time.monotonic()

    def tell(what: str) -> None:
        minutes = (time.monotonic() - began) / 60
        print(f"{minutes:6.1f} min  {what}", file=sys.stderr, flush=True)

    return tell

"""The playground, served by the command in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from processes import start

PATIENCE_S = 120  # the machine may be busy


@contextmanager
def served(run: Path, said: Path, **how: Any) -> Iterator[str]:
    """The address that `shl playground` tells; at the end it is interrupted, and must end well."""
    running = start(["playground", str(run), "--port", "0"], said, full=True, **how)
    out = said.with_suffix(".out")
    try:
        for _ in range(PATIENCE_S * 10):
            found = re.search(r"http://127\.0\.0\.1:\d+", out.read_text() if out.exists() else "")
            if found or not running.process.is_alive():
                break
            time.sleep(0.1)
        assert found, running.wait(1)
        yield found.group()
    finally:
        if running.process.is_alive():
            os.kill(running.pid, signal.SIGINT)
    ended = running.wait(PATIENCE_S)
    assert ended.code == 0, ended
    assert "Traceback" not in ended.err, ended

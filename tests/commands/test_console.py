"""A console that lacks a character gets a question mark in its place, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

LOCALES = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "POSIX": {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


@pytest.mark.parametrize("name", LOCALES)
def test_a_console_without_utf_8_is_written_to(name: str) -> None:
    command = [sys.executable, "-m", "steer_heal_love", "axes", "show", "löve…"]
    done = subprocess.run(
        command, env={**os.environ, **LOCALES[name]}, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr.startswith(b"shl: unknown axis 'l?ve?': did you mean 'love'?")
    assert len(done.stderr.splitlines()) == 1

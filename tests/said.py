"""Calling `shl` in the test's own process, and what it said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from steer_heal_love import cli


@dataclass(frozen=True)
class Said:
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str


def refused(said: Said, *words: str) -> None:
    """One line on stderr that holds these words, nothing on stdout, exit code 2."""
    assert (said.code, said.out) == (2, ""), said
    assert said.err.endswith("\n")
    (line,) = said.err.splitlines()
    assert line.startswith("shl: ")
    for word in words:
        assert word in line


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Call `shl` in this process."""

    def call(*arguments: str) -> Said:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main(list(arguments))
        code = stop.value.code
        said = capsys.readouterr()
        return Said(code if isinstance(code, int) else int(bool(code)), said.out, said.err)

    return call

"""Text files of strangers: what is wrong with one is said on a line, with place and remedy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from steer_heal_love.errors import SteerHealLoveError


def read_text(path: Path, where: str, limit: int, error: type[SteerHealLoveError]) -> str:
    """The text of a file of at most `limit` bytes; `where` names it in the error.

    Raises:
        error: it is missing, too large, or not UTF-8.
    """
    try:
        if path.stat().st_size > limit:
            raise error(f"{where} is larger than {limit:,} bytes: shorten it")
        return path.read_text(encoding="utf-8-sig")  # some editors begin with a byte order mark
    except UnicodeDecodeError as problem:
        raise error(f"{where} is not UTF-8 (byte {problem.start}): re-save it") from None
    except (OSError, ValueError) as problem:  # ValueError: a zero byte in the name
        reason = getattr(problem, "strerror", None) or problem
        raise error(f"{where} cannot be read: {reason}: check the path") from None


def number_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, numbered from 1; U+2028 and the like end no line in JSON."""
    return ((n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip())


def parse_json(text: str, where: str, error: type[SteerHealLoveError]) -> Any:
    """The value of a JSON text. Raises `error` where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as problem:  # ValueError: a number of 5,000 digits, too
        raise error(f"{where} is not valid JSON: {problem}: mend it") from None


def explain_first(error: ValidationError) -> str:
    """The first thing that is wrong with checked data: key, problem, remedy."""
    problem = error.errors()[0]
    key = ".".join(map(str, problem["loc"])) or "the file"
    if problem["type"] == "missing":
        return f"key {key!r} is missing: add it"
    return f"key {key!r}: {problem['msg'][:1].lower()}{problem['msg'][1:]}: mend it"

"""JSON files that are kept with the project: few lines, so that a change is seen."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

DIGITS = 5  # significant ones, of every number that is kept


def lines_of(value: Any, deep: int = 3) -> str:
    """Plain data as JSON, rounded; containers are broken into lines down to a depth."""
    return _lines(_rounded(value), deep) + "\n"


def _lines(value: Any, deep: int) -> str:
    if deep and isinstance(value, dict):
        inside = (f"{_compact(key)}:{_lines(v, deep - 1)}" for key, v in value.items())
        return "{" + ",\n".join(inside) + "}"
    if deep and isinstance(value, list) and any(isinstance(v, dict | list) for v in value):
        return "[\n" + ",\n".join(_lines(v, deep - 1) for v in value) + "\n]"
    return _compact(value)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _rounded(value: Any) -> Any:
    """Numbers to `DIGITS` significant digits; what is not finite, or not set, becomes null."""
    match value:
        case bool() | int():
            return value
        case float():
            if not math.isfinite(value):
                return None
            short = float(f"{value:.{DIGITS}g}")
            return int(short) if short.is_integer() and abs(short) < 1e6 else short
        case Mapping():
            return {str(k): _rounded(v) for k, v in value.items()}
        case list() | tuple():
            return [_rounded(v) for v in value]
        case _:
            return value

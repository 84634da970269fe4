"""An open page and everything that went wrong in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Tab:
    """A tab of the browser."""

    page: Any
    problems: list[str] = field(default_factory=list)  # of its console, and errors
    asked: list[str] = field(default_factory=list)  # addresses beyond the page itself

"""What has been measured, one JSON file a piece: a command that was interrupted goes on."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from steer_heal_love.runs.codec import to_json
from steer_heal_love.runs.files import write_text

ROOT = Path(__file__).parents[1]


def tell(line: str) -> None:
    """Say on standard error how far a command is."""
    print(line, file=sys.stderr, flush=True)


class Store:
    """Plain data by name, each with the settings that it was measured under."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def do(self, name: str, settings: Mapping[str, Any], compute: Callable[[], Any]) -> Any:
        """The stored value where it was measured under these settings; else it is computed.

        A value is plain data; NaN and infinities come back as None. Raises RunError where it
        cannot be written.
        """
        file = self.folder / f"{name}.json"
        wanted = json.loads(to_json(settings))
        stored = _read(file)
        if stored is not None and stored.get("settings") == wanted and "value" in stored:
            return stored["value"]
        text = to_json({"settings": wanted, "value": compute()})
        write_text(file, text)
        return json.loads(text)["value"]  # as a later command will read it


def _read(file: Path) -> dict[str, Any] | None:
    """A stored piece; None where there is none, or a broken one."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None

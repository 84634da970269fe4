"""`trials.json`: which trials a sweep has, and what came of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from steer_heal_love.errors import AxisError, RunError
from steer_heal_love.runs.codec import to_json
from steer_heal_love.runs.files import read_regular, write_text
from steer_heal_love.runs.read import read_run
from steer_heal_love.sweep.trial import DONE, FAILED, INTERRUPTED, RUNNING, WAITING

LEDGER = "trials.json"
SCHEMA = 1

_STATES = (WAITING, RUNNING, DONE, FAILED, INTERRUPTED)


@dataclass(frozen=True)
class Entry:
    """What is known of a trial."""

    varied: Mapping[str, Any]  # dotted setting → value
    state: str = WAITING
    attempts: int = 0  # how often its run was begun or gone on with
    error: str = ""


class Ledger:
    """The trials of a sweep by name, in order; every change is on the disk when it returns."""

    def __init__(self, folder: Path, entries: Mapping[str, Entry]) -> None:
        self.path = folder / LEDGER
        self.entries = dict(entries)
        # Told of each change, once it is written.
        self.tell: Callable[[str, Entry], None] = lambda _name, _entry: None

    @classmethod
    def read(cls, folder: Path) -> Ledger:
        """The ledger of a sweep's folder; empty where there is none.

        Raises:
            RunError: it is broken.
        """
        path = folder / LEDGER
        if not path.exists():
            return cls(folder, {})
        try:
            data = json.loads(read_regular(path))
            if data["schema"] != SCHEMA:
                raise ValueError(f"its schema is {data['schema']!r}")
            entries = {str(name): _entry(told) for name, told in data["trials"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise RunError(
                f"{path} is broken ({type(error).__name__}): delete it, and --resume makes it anew "
                "from the runs"
            ) from None
        return cls(folder, entries)

    def write(self) -> None:
        """Write it as it is."""
        trials = {name: asdict(entry) for name, entry in self.entries.items()}
        write_text(self.path, to_json({"schema": SCHEMA, "trials": trials}))

    def enter(self, trials: Mapping[str, Mapping[str, Any]]) -> None:
        """Enter trials, name → settings in which they differ, where they are not there yet."""
        new = {n: Entry(dict(varied)) for n, varied in trials.items() if n not in self.entries}
        if new:
            self.entries |= new
            self.write()

    def note(self, name: str, state: str, error: str = "") -> None:
        """Enter what has become of a trial; its attempts are counted in its run's log."""
        tries = attempts(self.path.parent / name)
        entry = replace(self.entries[name], state=state, error=error, attempts=tries)
        if entry != self.entries[name]:
            self.entries[name] = entry
            self.write()
            self.tell(name, entry)

    def count(self, state: str) -> int:
        """How many trials are in this state."""
        return sum(entry.state == state for entry in self.entries.values())

    def names(self, *states: str) -> list[str]:
        """The trials in these states, in order."""
        return [name for name, entry in self.entries.items() if entry.state in states]


def _entry(told: Mapping[str, Any]) -> Entry:
    entry = Entry(
        dict(told["varied"]), str(told["state"]), int(told["attempts"]), str(told["error"])
    )
    if entry.state not in _STATES:
        raise ValueError(f"no state is called {entry.state!r}")
    return entry


def attempts(run: Path) -> int:
    """How often a run was begun or gone on with, by its log; 0 where it has none."""
    try:
        events = read_run(run).events()
    except (RunError, AxisError):
        return 0
    return sum(event.get("event") == "start" for event in events)

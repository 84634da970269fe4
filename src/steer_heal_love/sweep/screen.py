"""What a user sees of a sweep: a table that lives, or a line for each thing that happens."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from rich.console import Console
from rich.live import Live

from steer_heal_love.sweep.ledger import Entry
from steer_heal_love.sweep.table import Standing, count_states, picture

_EVERY_S = 1.0
_SHARE = 0.05  # of the time may go into looking
_MARGIN = 6  # lines of the terminal that are not rows


class SweepScreen:
    """Shows how a sweep stands; `tick` may be called as often as one likes."""

    def __init__(self, standing: Standing, *, quiet: bool, as_json: bool) -> None:
        self.standing, self.quiet, self.as_json = standing, quiet, as_json
        self.console = Console(highlight=False, file=sys.stdout)
        self.next = 0.0
        self.live: Live | None = None
        if self.console.is_terminal and not (quiet or as_json):
            self.live = Live(console=self.console, transient=True, auto_refresh=False)
        standing.ledger.tell = self.changed

    def __enter__(self) -> SweepScreen:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self.live is not None:
            self.live.stop()

    def tick(self) -> None:
        """A moment has passed: look again, unless that was just done."""
        begun = time.monotonic()
        if self.live is None or begun < self.next:
            return
        rows = self.standing.rows()
        self.live.update(picture(rows, self.console.height - _MARGIN), refresh=True)
        self.next = max(begun + _EVERY_S, time.monotonic() + (time.monotonic() - begun) / _SHARE)

    def changed(self, name: str, entry: Entry) -> None:
        """Something has become of a trial: a line where there is no table."""
        if self.live is None:
            words = f"{name}: {entry.state}" + (f": {entry.error}" if entry.error else "")
            counts = count_states([entry.state for entry in self.standing.ledger.entries.values()])
            self.say(f"{words} ({counts})", trial=name, state=entry.state, error=entry.error)

    def end(self) -> None:
        """Show the whole table."""
        self.say(picture(self.standing.rows()))

    def say(self, content: Any, **event: Any) -> None:
        """Show text or a table; with `as_json` print the event's fields as one line instead."""
        if self.as_json:
            if event:
                self.console.file.write(json.dumps(event, ensure_ascii=False) + "\n")
                self.console.file.flush()
        elif content and not self.quiet:
            self.console.print(content, markup=False, soft_wrap=isinstance(content, str))

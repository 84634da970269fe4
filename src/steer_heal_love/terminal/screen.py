"""What a user sees while a run goes on: progress with the time left, tables, plain words."""

from __future__ import annotations

import json
import sys
import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

STAGES = ("steer", "generate", "heal", "evaluate")
# Share of a round's time by stage, until rounds of this run have been measured.
_FIRST_GUESS = {"steer": 0.05, "generate": 0.3, "heal": 0.35, "evaluate": 0.3}


class Screen:
    """Progress and messages; silent with `quiet`, one JSON line per event with `as_json`."""

    def __init__(self, rounds: int = 1, *, quiet: bool = False, as_json: bool = False) -> None:
        self.quiet, self.as_json, self.rounds = quiet, as_json, rounds
        self.console = Console(highlight=False, soft_wrap=True, file=sys.stdout)
        self.notes = Console(highlight=False, soft_wrap=True, stderr=True)
        self.round = 0
        self.shares = dict(_FIRST_GUESS)
        self.started = time.monotonic()
        self.round_seconds: list[float] = []
        self.progress: Progress | None = None

    def __enter__(self) -> Screen:
        if self.notes.is_terminal and not self.quiet and not self.as_json:
            self.progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=28),
                TextColumn("{task.percentage:>3.0f}%"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
                console=self.notes,
                transient=True,
            )
            self.progress.start()
            self.task = self.progress.add_task("baseline", total=1.0, left="")
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.progress is not None:
            self.progress.stop()

    def report(self, stage: str, done: float, total: float) -> None:
        """Called by the loop as its stages advance."""
        if self.progress is None:
            return
        share = done / total if total else 0.0
        if stage == "baseline":
            self.progress.update(self.task, description="baseline", completed=share, left="")
            return
        before = sum(self.shares[s] for s in STAGES[: STAGES.index(stage)])
        inside = min(1.0, before + share * self.shares[stage])
        self.progress.update(
            self.task,
            description=f"round {self.round + 1}/{self.rounds} {stage}",
            completed=(self.round + inside) / self.rounds,
            left=self._left(inside),
        )

    def _left(self, inside: float) -> str:
        if not self.round_seconds:
            return ""
        mean = sum(self.round_seconds) / len(self.round_seconds)
        seconds = mean * (self.rounds - self.round - inside)
        return f"about {max(1, round(seconds / 60))} min left"

    def finish_round(self, wall_s: dict[str, float]) -> None:
        """Learn how long a round's stages take."""
        total = sum(wall_s.values()) or 1.0
        self.round_seconds.append(total)
        self.shares = {s: wall_s.get(s, 0.0) / total for s in STAGES}
        self.round += 1

    def say(self, words: Any, **event: Any) -> None:
        """Show text or a table; with `as_json` print the event's fields as one line instead."""
        if self.as_json:
            if event:
                self.console.file.write(json.dumps(event, ensure_ascii=False) + "\n")
                self.console.file.flush()
        elif not self.quiet:
            self.console.print(words, markup=False)

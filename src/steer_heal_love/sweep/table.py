"""How a sweep stands, read from its ledger and from the run directories while they are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from steer_heal_love.errors import AxisError, RunError
from steer_heal_love.report.states import LOOPS, PERPLEXITY, TRAIT, parse_metrics
from steer_heal_love.report.text.words import number, one_line, percent
from steer_heal_love.runs.progress import Follower, Progress
from steer_heal_love.sweep.ledger import Ledger
from steer_heal_love.sweep.trial import DONE, FAILED, INTERRUPTED, RUNNING, WAITING

_FIRST = (RUNNING, FAILED, INTERRUPTED, DONE, WAITING)  # what is shown where not all has room
_STYLES = {RUNNING: "bold", DONE: "green", FAILED: "red", INTERRUPTED: "yellow", WAITING: "dim"}


@dataclass(frozen=True)
class TableRow:
    """A trial in words."""

    name: str
    state: str
    rounds: str
    trait: str  # base → healed
    perplexity: str  # × base
    loops: str
    note: str  # the stage it is at, or why it failed


class Standing:
    """Reads how the trials of a sweep stand; a trial that has ended is read once."""

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self.folder, self.ledger = folder, ledger
        self._followers: dict[str, Follower] = {}
        self._ended: dict[str, TableRow] = {}

    def rows(self) -> list[TableRow]:
        """A row per trial, in the ledger's order."""
        return [self._row(name) for name in self.ledger.entries]

    def _row(self, name: str) -> TableRow:
        entry = self.ledger.entries[name]
        known = self._ended.get(name)
        if known is not None and known.state == entry.state:
            return known
        row = row_of(name, entry.state, entry.error, self._look(name, entry.state))
        if entry.state in (DONE, FAILED):
            self._ended[name] = row
            self._followers.pop(name, None)
        return row

    def _look(self, name: str, state: str) -> Progress | None:
        path = self.folder / name
        if state == WAITING or not (path / "config.toml").is_file():
            return None
        try:
            return self._followers.setdefault(name, Follower(path)).look()
        except (RunError, AxisError):
            return None


def row_of(name: str, state: str, error: str, progress: Progress | None) -> TableRow:
    """A trial in words, by what its directory says of it."""
    if progress is None:
        note = "loading" if state == RUNNING else one_line(error, "")
        return TableRow(name, state, "", "", "", "", note)
    run = parse_metrics(progress.view.metrics)
    (before, first, _), (trait, perplexity, loops) = (
        [state.figure(name) if state else None for name in (TRAIT, PERPLEXITY, LOOPS)]
        for state in (run.base, run.healed)
    )
    ratio = perplexity.value / first.value if perplexity and first and first.value else None
    return TableRow(
        name=name,
        state=state,
        rounds=f"{progress.finished}/{progress.rounds}",
        trait=f"{number(before.value)} → {number(trait.value)}" if trait and before else "",
        perplexity=number(ratio, missing=""),
        loops=percent(loops.value) if loops else "",
        note=one_line(error, "") if error else _stage(progress) if state == RUNNING else "",
    )


def _stage(progress: Progress) -> str:
    return f"{progress.stage}, {percent(progress.share)}" if progress.stage else "loading"


def picture(rows: Sequence[TableRow], height: int | None = None) -> Group:
    """The trials as a table of `height` rows at most, under a line that counts them."""
    shown = rows
    if height is not None and len(rows) > height:
        first = sorted(rows, key=lambda row: _FIRST.index(row.state))[: max(1, height)]
        shown = [row for row in rows if row in first]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("trial", overflow="fold")
    for label in ("state", "rounds", "trait, nats", "perplexity × base", "loops"):
        table.add_column(label)
    for row in shown:
        words = f"{row.state}: {row.note}" if row.state == RUNNING and row.note else row.state
        cells = (row.rounds, row.trait, row.perplexity, row.loops)
        table.add_row(Text(row.name), Text(words, _STYLES[row.state]), *map(Text, cells))
    more = [Text(f"… and {len(rows) - len(shown)} more", "dim")] if len(shown) < len(rows) else []
    why = [Text(f"{r.name}: {r.note}", "red") for r in shown if r.state == FAILED and r.note]
    return Group(Text(count_states([row.state for row in rows]), style="bold"), table, *more, *why)


def count_states(states: Sequence[str]) -> str:
    """How many trials are in which state."""
    counts = {state: states.count(state) for state in (DONE, RUNNING, FAILED, INTERRUPTED, WAITING)}
    parts = [f"{count} {state}" for state, count in counts.items() if count]
    return f"{len(states)} trials: {', '.join(parts)}" if states else "no trial yet"

"""What a run took, stage by stage: seconds, tokens, memory; a dash for what it did not count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from steer_heal_love.report.escape import escape_markdown
from steer_heal_love.report.states import Grid, read_mapping, read_number, read_rounds
from steer_heal_love.report.text.words import number, one_line

TITLE = "What it took"
HEAD = ("stage", "seconds", "tokens", "tokens/s", "peak GiB")
WHOLE = "all rounds"
EXPLAINED = (
    "Tokens are those that the model read, drew, scored or was trained on, each time anew. Memory "
    "is the most at once: what was allocated on a GPU, on a CPU the whole process."
)
_STAGES = ("steer", "generate", "heal", "evaluate", "rivals")  # in the order of a round
_UNKNOWN = "–"


def cost_grid(metrics: Mapping[str, Any]) -> Grid:
    """A row for each stage, over all rounds, and one for all of them; no row where nothing is
    known.
    """
    rounds = read_rounds(metrics)
    known_stages = {stage for entry in rounds for stage in read_mapping(entry.get("wall_s"))}
    stages = [s for s in _STAGES if s in known_stages] + sorted(known_stages - set(_STAGES))
    if not stages:
        return Grid(HEAD, ())
    rows = [_row(stage, rounds, [stage]) for stage in stages]
    return Grid(HEAD, (*rows, _row(WHOLE, rounds, stages)))


def cost_section(metrics: Mapping[str, Any]) -> list[str]:
    """Blocks of Markdown for the diary; none where nothing is known."""
    grid = cost_grid(metrics)
    if not grid.rows:
        return []
    rows = [(escape_markdown(stage), *figures) for stage, *figures in grid.rows]
    lines = [grid.head, ("---", *["---:"] * (len(grid.head) - 1)), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return [f"## {TITLE}", table, EXPLAINED]


def _row(name: str, rounds: Sequence[Mapping[str, Any]], stages: Sequence[str]) -> tuple[str, ...]:
    """The figures of these stages together."""
    seconds, tokens, peaks = (
        _known(rounds, stages, figure) for figure in ("wall_s", "tokens", "peak_gib")
    )
    spent = sum(seconds) if seconds else None
    count = sum(tokens) if tokens else None
    rate = count / spent if count is not None and spent else None
    return (
        one_line(name),
        number(spent, 1),
        _UNKNOWN if count is None else f"{count:,.0f}",
        _UNKNOWN if rate is None else f"{rate:,.0f}",
        number(max(peaks) if peaks else None),
    )


def _known(
    rounds: Sequence[Mapping[str, Any]], stages: Sequence[str], figure: str
) -> list[float] | None:
    """The figure of each round and stage that took time; None where one of them is not known."""
    values = [
        read_number(read_mapping(entry.get(figure)).get(stage))
        for entry in rounds
        for stage in stages
        if stage in read_mapping(entry.get("wall_s"))
    ]
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else None

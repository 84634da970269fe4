"""What a run took, stage by stage: seconds, tokens, memory; a dash for what it did not count."""

from __future__ import annotations

from collections.abc import Sequence

from steer_heal_love.report.escape import escape_markdown
from steer_heal_love.report.states import Grid, Round, read_number
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


def cost_grid(rounds: Sequence[Round]) -> Grid:
    """A row for each stage, over all rounds, and one for all of them; no row where nothing is
    known.
    """
    known_stages = {stage for r in rounds for stage in r.costs["wall_s"]}
    stages = [s for s in _STAGES if s in known_stages] + sorted(known_stages - set(_STAGES))
    if not stages:
        return Grid(HEAD, ())
    rows = [_row(stage, rounds, [stage]) for stage in stages]
    return Grid(HEAD, (*rows, _row(WHOLE, rounds, stages)))


def cost_section(rounds: Sequence[Round]) -> list[str]:
    """Blocks of Markdown for the diary; none where nothing is known."""
    grid = cost_grid(rounds)
    if not grid.rows:
        return []
    rows = [(escape_markdown(stage), *figures) for stage, *figures in grid.rows]
    lines = [grid.head, ("---", *["---:"] * (len(grid.head) - 1)), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return [f"## {TITLE}", table, EXPLAINED]


def _row(name: str, rounds: Sequence[Round], stages: Sequence[str]) -> tuple[str, ...]:
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


def _known(rounds: Sequence[Round], stages: Sequence[str], figure: str) -> list[float] | None:
    """The figure of each round and stage that took time; None where one of them is not known."""
    values = [
        read_number(r.costs[figure].get(stage))
        for r in rounds
        for stage in stages
        if stage in r.costs["wall_s"]
    ]
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else None

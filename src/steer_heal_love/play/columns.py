"""Answers beside each other in a terminal, dose and surprise as colour; elsewhere plain text."""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, nullcontext

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from steer_heal_love.play.shading import shade_level
from steer_heal_love.play.turn import Column
from steer_heal_love.report.escape import escape_terminal

PER_SECOND = 12  # redraws
NARROW = 24  # characters: thinner columns go below each other

# From "as expected" to "a great surprise", legible on light and dark; and on a dose's dark paper.
_INK = ("", "", *["#b08d00"] * 2, *["#c47a00"] * 2, *["#d45f00"] * 2, *["#e03c1f"] * 3)
_LIGHT_INK = (
    *["#e8e8e8"] * 2,
    *["#ffe08a"] * 2,
    *["#ffc04d"] * 2,
    *["#ff9a4d"] * 2,
    *["#ff7a5c"] * 3,
)
_PAPER = 0x60  # redness of the background at the highest dose of the answer


def show_growing(
    console: Console,
    snapshots: Generator[tuple[Column, ...], None, None],
    titles: Mapping[str, str],
    judge: str = "base",
) -> tuple[Column, ...]:
    """Show the columns while they grow, and return them whole.

    In a terminal they stand beside each other and are redrawn; elsewhere, and where NO_COLOR is
    set, each is printed once, as plain text, when it is whole. `judge` names the model of round 0,
    by which perplexity is.
    """
    columns: tuple[Column, ...] = ()
    drawn = console.is_terminal and not console.no_color
    live = Live(console=console, refresh_per_second=PER_SECOND, transient=True)
    with closing(snapshots), live if drawn else nullcontext() as screen:
        for snapshot in snapshots:
            columns = snapshot
            if screen is not None:
                screen.update(_beside(console, columns, titles, judge))
    if drawn:
        console.print(_beside(console, columns, titles, judge))
    else:
        _print_plain(console, columns, titles, judge)
    return columns


def stream_one(console: Console, snapshots: Generator[tuple[Column, ...], None, None]) -> Column:
    """Print one answer as it grows, token by token and coloured, and return it.

    What was printed stays where the stream breaks off.
    """
    shown, column = 0, Column("healed")
    with closing(snapshots):
        for snapshot in snapshots:
            column = snapshot[0]
            for piece in column.pieces[shown:]:
                text = Text(escape_terminal(piece.text), style=_ink(piece.surprise_nats))
                console.print(text, end="", soft_wrap=True)
            shown = len(column.pieces)
    console.print("…" if column.cut else "")
    return column


def _beside(
    console: Console, columns: Sequence[Column], titles: Mapping[str, str], judge: str
) -> Table | Group:
    cells = [_cell(column, judge) for column in columns]
    heads = [Text(titles[column.condition], style="bold") for column in columns]
    if console.width < len(columns) * (NARROW + 3):
        parts = [part for pair in zip(heads, cells, strict=True) for part in (*pair, Text())]
        return Group(*parts)
    table = Table(box=box.SIMPLE_HEAD, expand=True, pad_edge=False)
    for head in heads:
        table.add_column(head, ratio=1, overflow="fold")
    table.add_row(*cells)
    return table


def _cell(column: Column, judge: str) -> Group:
    highest = max((abs(piece.kappa) for piece in column.pieces), default=0.0)
    text = Text()
    for piece in column.pieces:
        paper = _paper(piece.kappa, highest)
        style = " ".join(filter(None, (_ink(piece.surprise_nats, on_paper=bool(paper)), paper)))
        text.append(escape_terminal(piece.text), style=style)
    text.append("…" if column.cut else "" if column.done else "▍")
    return Group(text, Text(_figures(column, judge), style="dim"))


def _ink(surprise_nats: float, *, on_paper: bool = False) -> str:
    return (_LIGHT_INK if on_paper else _INK)[shade_level(surprise_nats)]


def _paper(kappa: float, highest: float) -> str:
    """The dose as background: red where positive, blue where negative, fainter where it ebbs."""
    if not kappa:
        return ""
    strength = round(_PAPER * abs(kappa) / highest)
    red, blue = (strength, 0) if kappa > 0 else (0, strength)
    return f"on #{0x10 + red:02x}1010" if not blue else f"on #1010{0x10 + blue:02x}"


def _figures(column: Column, judge: str) -> str:
    if column.perplexity is None:
        return ""
    doses = {round(piece.kappa, 3) for piece in column.pieces}
    ebbs = len(doses) > 1
    dose = f" · κ {column.pieces[0].kappa:.2f} to {column.pieces[-1].kappa:.2f}" if ebbs else ""
    perplexity = f"perplexity under {judge} {column.perplexity:.1f}"
    return f"{len(column.pieces)} tokens · {perplexity}{dose}"


def _print_plain(
    console: Console, columns: Sequence[Column], titles: Mapping[str, str], judge: str
) -> None:
    for column in columns:
        cut = "…" if column.cut else ""
        body = f"{escape_terminal(column.text)}{cut}"
        lines = (f"{titles[column.condition]}:", body, f"({_figures(column, judge)})", "")
        console.print(Text("\n".join(lines)), soft_wrap=True)


def make_console() -> Console:
    """The console that answers go to."""
    return Console(file=sys.stdout, highlight=False)

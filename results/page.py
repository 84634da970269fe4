"""A page whose blocks are written by commands, each between two markers of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from steer_heal_love.runs.files import write_text

Row = TypeVar("Row")


def write_block(page: Path, name: str, block: str) -> None:
    """Put the block between the page's markers `<!-- name:begin -->` and `<!-- name:end -->`.

    Raises ValueError where the page has not each of them once, in this order.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    text = page.read_text(encoding="utf-8")
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"{page} needs the line {begin} once and, after it, {end} once")
    before, rest = text.split(begin)
    write_text(page, f"{before}{begin}\n\n{block.strip()}\n\n{end}{rest.split(end)[1]}")


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; the first column is words, the others are numbers."""
    align = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, align, *rows])


def table_of(columns: Mapping[str, Callable[[Row], str]], rows: Iterable[Row]) -> str:
    """A Markdown table of records: of each column its heading and what says a record's cell."""
    return table(list(columns), [[cell(row) for cell in columns.values()] for row in rows])

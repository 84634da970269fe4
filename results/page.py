"""A page whose blocks are written by commands, each between two markers of its own."""

from __future__ import annotations

from pathlib import Path

from steer_heal_love.runs.files import write_text


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

"""The battery's figures in a terminal: a row per figure, as many conditions beside it as fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from steer_heal_love.records import Axis, Interval, Measurement
from steer_heal_love.report.escape import escape_terminal
from steer_heal_love.report.states import parse_metrics
from steer_heal_love.report.text.validity import mark_of
from steer_heal_love.verdicts import INVALID

_GAP = 2  # characters between columns

_Column = tuple[str, list[str]]


def battery_table(
    conditions: Mapping[str, Measurement], axis: Axis, judged: Mapping[str, Any], width: int
) -> Group:
    """A row per figure; what is measured as a multiple of base has it beside the model's own.

    Columns that `width` characters do not hold go to a further table below: a figure and its
    interval are never broken. Figures of an instrument that `judged` finds not valid on the model
    have a star.
    """
    names = {figure: None for m in conditions.values() for figure in m.figures}
    rows = [n for n in names if not (n.endswith("_ratio") and n.removesuffix("_ratio") in names)]
    verdicts = parse_metrics(judged).verdicts
    labels = [f"{n}*" if mark_of(verdicts, n) else n for n in rows]
    columns = [(c, [cell(m.figures.get(n)) for n in rows]) for c, m in conditions.items()]
    ratios = [conditions["model"].figures.get(f"{n}_ratio") for n in rows]
    columns.append(("model / base", ["" if r is None else f"× {cell(r)}" for r in ratios]))
    title = Text(f"axis {escape_terminal(axis.name)}, 95 % intervals")
    parts = _parts(columns, width - max(map(len, labels)) - _GAP)
    tables = (table for part in parts for table in (_table(labels, part), Text()))
    return Group(title, *tables, Text(f"* {INVALID}", style="italic"))


def _parts(columns: Sequence[_Column], room: int) -> list[list[_Column]]:
    """The columns, in order, in as few tables as the room beside the labels allows."""
    parts: list[list[_Column]] = [[]]
    left = room
    for head, cells in columns:
        needed = max(map(len, [head, *cells])) + _GAP
        if parts[-1] and needed > left:
            parts.append([])
            left = room
        parts[-1].append((head, cells))
        left -= needed
    return parts


def _table(labels: Sequence[str], columns: Sequence[_Column]) -> Table:
    table = Table(box=None, padding=(0, _GAP, 0, 0))
    table.add_column("figure", no_wrap=True)
    for head, _ in columns:
        table.add_column(head, justify="right", overflow="fold")
    for label, *cells in zip(labels, *(cells for _, cells in columns), strict=True):
        table.add_row(label, *cells)
    return table


def cell(interval: Interval | None, *, signed: bool = False) -> str:
    """A figure with its interval, three digits each; a dash where there is none."""
    if interval is None:
        return "–"
    shape = "+.3g" if signed else ".3g"
    value, low, high = (format(x, shape) for x in (interval.value, interval.low, interval.high))
    bounded = math.isfinite(interval.low) and math.isfinite(interval.high)
    return f"{value} [{low}, {high}]" if bounded else value

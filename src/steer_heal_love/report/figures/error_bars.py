"""Two measures against each other: their axes, and the crosses of their 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from steer_heal_love.report.figures.drawing import bound, pad_range

_EDGES = ("", "_low", "_high")


def perplexity_across(
    rows: Sequence[Mapping[str, Any]], title: str, ticks: Sequence[float] = ()
) -> Any:
    """The horizontal axis of `perplexity`, logarithmic, with room for all intervals."""
    values = [math.log(row[f"perplexity{edge}"]) for row in rows for edge in _EDGES]
    marks = {"values": list(ticks)} if ticks else {}
    return alt.X(
        "perplexity:Q",
        scale=alt.Scale(type="log", domain=[math.exp(v) for v in pad_range(values)], nice=False),
        axis=alt.Axis(title=title, format="~g", **marks),
    )


def trait_up(rows: Sequence[Mapping[str, Any]], field: str) -> Any:
    """The vertical axis of the trait of texts, with room for all intervals."""
    values = [row[f"{field}{edge}"] for row in rows for edge in _EDGES]
    return alt.Y(
        f"{field}:Q",
        scale=alt.Scale(domain=pad_range(values), nice=True, zero=False),
        axis=alt.Axis(title="trait of the texts (nats per token)", format="+.2f"),
    )


def draw_error_bars(bars: Any, x: Any, y: Any, fields: tuple[str, str], **look: Any) -> list[Any]:
    """The intervals of both measures, as lines through each point.

    Args:
        bars: a chart of rules.
        fields: of x and y; their bounds end in `_low` and `_high`.
        look: what else is encoded, such as the colour.
    """
    across, up = fields
    return [
        bars.encode(x=bound(x, f"{across}_low"), x2=f"{across}_high:Q", y=y, **look),
        bars.encode(x=x, y=bound(y, f"{up}_low"), y2=f"{up}_high:Q", **look),
    ]

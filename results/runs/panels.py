"""The panels that figures are made of: measures by round, and trait against perplexity."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from steer_heal_love.records import Interval
from steer_heal_love.report.figures.drawing import (
    GREY,
    RUN_DASHES,
    RUN_SHAPES,
    RUNS,
    bound,
    data_of,
    pad_range,
)
from steer_heal_love.report.figures.error_bars import draw_error_bars

WIDTH, HEIGHT = 300, 190
LOW = 105  # height of a panel of which three stand beside a plane
SIDE = 400
_SMALL = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 1.75)
TICKS = (*_SMALL, 2, 2.5, 3, 4, 5, 7, 10, 14, 20, 30, 50, 70, 100)
TRAIT = "trait shift against base (nats per token)"


@dataclass(frozen=True)
class Panel:
    """One measure by round. Rows have `series`, `at`, `value`, `low` and `high`."""

    title: str
    rows: Sequence[Mapping[str, Any]]
    log: bool = False
    share: bool = False
    level: float | None = None  # where base is


def row_of(series: str, at: float, figure: Interval | None) -> list[dict[str, Any]]:
    """A row of a panel, bounds left out where there are none; no row where there is no figure."""
    if figure is None:
        return []
    low, high = (b if math.isfinite(b) else figure.value for b in (figure.low, figure.high))
    return [{"series": series, "at": at, "value": figure.value, "low": low, "high": high}]


def encoding(names: Sequence[str]) -> tuple[Any, Any, Any]:
    """A colour, a dash and a shape for each series."""
    domain = list(names)

    def of(looks: Sequence[Any]) -> alt.Scale:
        return alt.Scale(domain=domain, range=[looks[i % len(looks)] for i in range(len(domain))])

    legend = alt.Legend(symbolStrokeWidth=0)
    return (
        alt.Color("series:N", scale=of(RUNS), legend=legend),
        alt.StrokeDash("series:N", scale=of(RUN_DASHES), legend=None),
        alt.Shape("series:N", scale=of(RUN_SHAPES)),
    )


def by_round(panel: Panel, names: Sequence[str], rounds: int, height: int = HEIGHT) -> Any:
    """A panel: a line per series with its intervals, side by side so that none hides another."""
    order = {name: place - (len(names) - 1) / 2 for place, name in enumerate(names)}
    rows = [{**r, "beside": r["at"] + 0.07 * order[r["series"]]} for r in panel.rows]
    color, dash, shape = encoding(names)
    x = alt.X(
        "beside:Q",
        scale=alt.Scale(domain=[-0.4, rounds - 0.6], nice=False),
        axis=alt.Axis(title="round", values=list(range(rounds)), format="d", grid=False),
    )
    scale = _scale(panel, rows)
    form = ".0%" if panel.share else ("~g" if panel.log else ".2~f")
    ticks = {"values": ticks_in(scale.domain)} if panel.log else {"tickCount": 5}
    axis = alt.Axis(title=panel.title, format=form, minExtent=44, **ticks)
    y = alt.Y("value:Q", scale=scale, axis=axis)
    chart = alt.Chart(data_of(rows))
    layers = [
        chart.mark_line(strokeWidth=1.6).encode(x=x, y=y, color=color, strokeDash=dash),
        chart.mark_rule(strokeWidth=1.1, opacity=0.45).encode(
            x=x, y=bound(y, "low"), y2="high:Q", color=color
        ),
        chart.mark_point(filled=True, size=55, opacity=1).encode(
            x=x, y=y, color=color, shape=shape
        ),
    ]
    if panel.level is not None:
        rule = alt.Chart(data_of([{"value": panel.level}]))
        layers.insert(0, rule.mark_rule(color=GREY, strokeDash=[4, 4]).encode(y=y))
    return alt.layer(*layers).properties(width=WIDTH, height=height)


def ticks_in(domain: Sequence[float], most: int = 9) -> list[float]:
    """Round multiples of base within a domain, evenly thinned out where there are many."""
    inside = [tick for tick in TICKS if domain[0] <= tick <= domain[1]]
    return inside[:: -(-len(inside) // most) or 1]


def _domain(
    values: Sequence[float], bounds: Sequence[float], reach: float, share: float = 0.08
) -> list[float]:
    """Room for all values, and for their intervals' ends where they are not far off."""
    far = reach * ((max(values) - min(values)) or 0.1)
    near = [b for b in bounds if min(values) - far <= b <= max(values) + far]
    return pad_range([*values, *near], share=share)


def _log_domain(values: Sequence[float], bounds: Sequence[float], reach: float) -> list[float]:
    logs = ([math.log(v) for v in some if v > 0] for some in (values, bounds))
    return [math.exp(v) for v in _domain(*logs, reach=reach, share=0.12)]


def _scale(panel: Panel, rows: Sequence[Mapping[str, Any]]) -> Any:
    values = [*([] if panel.level is None else [panel.level]), *(r["value"] for r in rows)]
    bounds = [r[k] for r in rows for k in ("low", "high")]
    if panel.log:
        domain = _log_domain(values, bounds, 3.0)
        return alt.Scale(type="log", domain=domain, nice=False, clamp=True)
    low, high = _domain(values, bounds, 3.0)
    if panel.share:
        low, high = 0.0, min(1.0, max(high, 0.1))
    return alt.Scale(domain=[low, high], zero=False, nice=False, clamp=True)


def plane(
    rows: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    side: int = SIDE,
    measure: str = "median perplexity",
) -> Any:
    """Trait shift against perplexity × base. Rows have `series`, `order`, `label`, both measures.

    Points of a series are joined in their order; each has its label, which may be empty.
    """
    color, dash, shape = encoding(names)
    ends = {m: [r[m + e] for r in rows for e in ("_low", "_high")] for m in ("perplexity", "trait")}
    domain = _log_domain([1.0, *(r["perplexity"] for r in rows)], ends["perplexity"], 1.0)
    scale = alt.Scale(type="log", domain=domain, nice=False, clamp=True)
    domain = _domain([0.0, *(r["trait"] for r in rows)], ends["trait"], 1.0)
    up = alt.Scale(domain=domain, nice=False, zero=False, clamp=True)
    across = alt.Axis(
        title=f"{measure} × base (log scale)", format="~g", values=ticks_in(scale.domain)
    )
    x = alt.X("perplexity:Q", scale=scale, axis=across)
    y = alt.Y("trait:Q", scale=up, axis=alt.Axis(title=TRAIT, format="+.2~f"))
    chart = alt.Chart(data_of(rows))
    layers = [
        chart.mark_line(strokeWidth=1.6).encode(
            x=x, y=y, color=color, strokeDash=dash, order="order:Q"
        ),
        *draw_error_bars(chart.mark_rule(opacity=0.35), x, y, ("perplexity", "trait"), color=color),
        chart.mark_point(filled=True, size=80, opacity=1).encode(
            x=x, y=y, color=color, shape=shape
        ),
        chart.mark_text(align="left", dx=8, dy=9, color=GREY, fontSize=11).encode(
            x=x, y=y, text="label:N"
        ),
    ]
    return alt.layer(*layers).properties(width=side, height=side)


def point_of(
    series: str, label: str, order: float, trait: Interval | None, perplexity: Interval | None
) -> list[dict[str, Any]]:
    """A row of a plane; none where one of the measures is missing."""
    if trait is None or perplexity is None:
        return []
    row: dict[str, Any] = {"series": series, "label": label, "order": order}
    for name, figure in (("trait", trait), ("perplexity", perplexity)):
        low, high = (b if math.isfinite(b) else figure.value for b in (figure.low, figure.high))
        floor = figure.value / 100 if name == "perplexity" else -math.inf
        row |= {name: figure.value, f"{name}_low": max(low, floor), f"{name}_high": high}
    return [row]

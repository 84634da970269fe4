"""The figure: what moved, what stayed coherent, and what loops, by round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from results.side_effects.findings import SMALL, Effects
from results.side_effects.measure import OWN
from results.side_effects.words import NAMES
from steer_heal_love.records import Interval
from steer_heal_love.report.figures.drawing import (
    FAINT,
    GREY,
    RED,
    RUN_DASHES,
    RUN_SHAPES,
    RUNS,
    Plot,
    data_of,
    padded,
    styled,
)
from steer_heal_love.report.states import Grid

_WIDTH, _HEIGHT = 300, 260
_COLOURS = (RED, *RUNS[:1], *RUNS[2:])
_RATIOS = {
    "capability_ratio": "ordinary text, perplexity",
    "perplexity_ratio": "answers, perplexity",
    "relevance_ratio": "answers, relevance",
}
_LOOPS = {"long_loops": "long, healed", "long_loops_base": "long, base"}


def effects_figure(rounds: Sequence[Effects], subject: str) -> Plot:
    """Three panels over the rounds of one group."""
    shifts = {name: NAMES.get(name, name) for name in rounds[-1].shifts}
    panels = [
        _shifts_panel(rounds, shifts),
        _panel(
            _rows(rounds, _RATIOS, lambda e, name: getattr(e, name)),
            list(_RATIOS.values()),
            RUNS[:3],
            alt.Axis(title="× base", format=".2f"),
            level=1.0,
            floor=0.0,
        ),
        _panel(
            _rows(rounds, _LOOPS, lambda e, name: getattr(e, name)),
            list(_LOOPS.values()),
            (RED, GREY),
            alt.Axis(title="long samples that loop", format="%"),
            floor=0.0,
        ),
    ]
    chart = alt.hconcat(*panels, spacing=34).resolve_scale(
        color="independent", shape="independent", strokeDash="independent"
    )
    title = [f"Side effects: {subject}"]
    subtitle = [
        "Healed students against base. Left: shift of answer pairs; grey band: a tenth of the own "
        "axis's shift.",
        "Middle: ordinary text and ordinary questions. Right: long samples. Bars: 95 % intervals.",
    ]
    last = rounds[-1]
    said = [
        (str(e.round), words, f"{f.value:+.2f}")
        for e in rounds
        for name, words in shifts.items()
        if (f := e.shifts.get(name)) is not None
    ]
    return Plot(
        name="side_effects",
        title=title[0],
        caption=" ".join(subtitle),
        alt=f"After round {last.round}: "
        + "; ".join(f"{w} {v}" for r, w, v in said if r == str(last.round))
        + ".",
        chart=styled(chart, title, subtitle, columns=2),
        table=Grid(("round", "answer pairs", "shift, nats per token"), tuple(said)),
    )


def _rows(rounds: Sequence[Effects], names: dict[str, str], figure: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for effects in rounds:
        for name, words in names.items():
            value: Interval | None = figure(effects, name)
            if value is not None:
                row = {"round": effects.round, "what": words, "value": value.value}
                found.append({**row, "low": value.low, "high": value.high})
    return found


def _shifts_panel(rounds: Sequence[Effects], names: dict[str, str]) -> Any:
    rows = _rows(rounds, names, lambda e, name: e.shifts.get(name))
    own = [(e.round, abs(f.value)) for e in rounds if (f := e.shifts.get(OWN)) is not None]
    band = [{"round": r, "low": -SMALL * v, "high": SMALL * v} for r, v in own]
    shade = alt.Chart(data_of(_widened(band)))
    marks = shade.mark_area(color=FAINT).encode(x=alt.X("round:Q"), y=alt.Y("low:Q"), y2="high:Q")
    axis = alt.Axis(title="shift of answer pairs (nats per token)", format="+.2f")
    return _panel(rows, list(names.values()), _COLOURS, axis, level=0.0, under=marks)


def _widened(band: list[dict[str, float]]) -> list[dict[str, float]]:
    """A band of one round has width, too."""
    if not band:
        return []
    return [
        {**band[0], "round": band[0]["round"] - 0.3},
        *band,
        {**band[-1], "round": band[-1]["round"] + 0.3},
    ]


def _apart(rows: list[dict[str, Any]], names: list[str]) -> list[dict[str, Any]]:
    """The series a little apart, so that no interval hides another."""
    middle = (len(names) - 1) / 2
    return [r | {"round": r["round"] + 0.06 * (names.index(r["what"]) - middle)} for r in rows]


def _panel(
    rows: list[dict[str, Any]],
    names: list[str],
    colours: Sequence[str],
    axis: Any,
    *,
    level: float | None = None,
    floor: float | None = None,
    under: Any = None,
) -> Any:
    """Lines with intervals over the rounds.

    Args:
        level: where nothing has changed.
        floor: what no value is below.
    """
    seen = sorted({row["round"] for row in rows}) or [0]
    x = alt.X(
        "round:Q",
        scale=alt.Scale(domain=[seen[0] - 0.4, seen[-1] + 0.4], nice=False),
        axis=alt.Axis(title="round", values=seen, format="d"),
    )
    edges = [row[k] for row in rows for k in ("low", "high")] + ([] if level is None else [level])
    domain = padded(edges)
    if floor is not None:
        domain[0] = max(floor, domain[0])
    y = alt.Y("value:Q", scale=alt.Scale(domain=domain, nice=True, zero=False), axis=axis)
    low = y.copy()
    low.shorthand = "low:Q"
    color = alt.Color(
        "what:N",
        scale=alt.Scale(domain=names, range=list(colours[: len(names)])),
        legend=alt.Legend(symbolStrokeWidth=0),
    )
    shape = alt.Shape("what:N", scale=alt.Scale(domain=names, range=list(RUN_SHAPES[: len(names)])))
    dashes = alt.Scale(domain=names, range=list(RUN_DASHES[: len(names)]))
    dash = alt.StrokeDash("what:N", scale=dashes)
    chart = alt.Chart(data_of(_apart(rows, names)))
    layers = [] if under is None else [under]
    if level is not None:
        line = alt.Chart(data_of([{"level": level}]))
        layers.append(line.mark_rule(color=GREY).encode(y="level:Q"))
    layers += [
        chart.mark_line(strokeWidth=1.8).encode(x=x, y=y, color=color, strokeDash=dash),
        chart.mark_rule(opacity=0.5).encode(x=x, y=low, y2="high:Q", color=color),
        chart.mark_point(filled=True, size=60, opacity=1).encode(
            x=x, y=y, color=color, shape=shape
        ),
    ]
    return alt.layer(*layers).properties(width=_WIDTH, height=_HEIGHT)

"""Where the model stands on two measures at once, one node a round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from steer_heal_love.records import Interval
from steer_heal_love.report.figures.drawing import (
    GREEN,
    GREY,
    INK,
    PATH,
    PROMPT,
    RED,
    Plot,
    data_of,
    pad_range,
    style_chart,
)
from steer_heal_love.report.figures.error_bars import draw_error_bars
from steer_heal_love.report.states import RAW, Grid, Run, State
from steer_heal_love.report.text.profile import words_of
from steer_heal_love.report.text.validity import instrument_of, mark_of
from steer_heal_love.report.text.words import one_line, signed

CARE, AUTHORITY = "care_nats", "authority_nats"
_NAMES = {
    "trait_nats": "trait (nats per token)",
    "persona_nats": "persona likelihood ratio (nats per token)",
}
_LEGEND = {
    "base": ("base model", GREY, "circle"),
    "prompt_pos": ("persona as system prompt", PROMPT, "diamond"),
    "steered": ("steered: vector on", RED, "triangle-up"),
    "healed": ("healed: adapter on, vector off", GREEN, "square"),
}
_SIZE = (520, 340)


def axis_map_plot(run: Run) -> Plot | None:
    """The map of the two measures that `choose_measures` picks; None where there are not two."""
    chosen = choose_measures(run)
    if chosen is None:
        return None
    placed = [
        (state, x, y)
        for state in (*run.states, run.prompt_pos)
        if state is not None
        if (x := state.figure(chosen[0])) and (y := state.figure(chosen[1]))
    ]
    names = [measure_name(name) for name in chosen]
    rows = [(_state_name(s), words_of(x), words_of(y)) for s, x, y in placed]
    said = [f"{_state_name(s)} at {signed(x.value)}, {signed(y.value)}" for s, x, y in placed]
    why = "care against authority" if chosen == (CARE, AUTHORITY) else "the two that moved most"
    return Plot(
        name="axis_map",
        title=f"The axis map: {names[0].split(' (')[0]} against {names[1].split(' (')[0]}",
        caption=f"One node a round, numbered; of the valid measures, {why}. The line joins base "
        "and the healed models in their order; crosses are 95 % intervals of either measure."
        + _doubts(run, chosen),
        alt=f"{names[0]} across, {names[1]} up: {'; '.join(said)}.",
        chart=_chart(run, placed, chosen),
        table=Grid(("state", *names), tuple(rows)),
    )


def choose_measures(run: Run) -> tuple[str, str] | None:
    """Care against authority where the model's vignettes are valid, else what moved most.

    Movement is |healed − base| of the last round, in half widths of the two intervals. Measures
    that are not valid on this model are taken only where fewer than two are; None where base and
    the last healed model do not share two measures.
    """
    if run.base is None or run.healed is None:
        return None
    moved = {
        name: _movement(before, after)
        for name, before in run.base.measured.figures.items()
        if name.endswith("_nats") and name != RAW and instrument_of(name)
        if (after := run.healed.figure(name))
    }
    if {CARE, AUTHORITY} <= set(moved) and not mark_of(run.verdicts, CARE):
        return CARE, AUTHORITY
    best = sorted(moved, key=lambda name: (bool(mark_of(run.verdicts, name)), -moved[name]))[:2]
    return (best[0], best[1]) if len(best) == 2 else None


def measure_name(figure: str) -> str:
    """A measure in words, with its unit."""
    return _NAMES.get(figure) or f"{one_line(figure.removesuffix('_nats'))} (nats)"


def _movement(before: Interval, after: Interval) -> float:
    bounds = [f.bounds for f in (before, after) if f.bounds is not None]
    width = sum(high - low for low, high in bounds) / 2
    return abs(after.value - before.value) / width if width > 0 else 0.0


def _state_name(state: State) -> str:
    return "persona as system prompt" if state.condition == "prompt_pos" else state.name


def _doubts(run: Run, chosen: Sequence[str]) -> str:
    said = [f"{measure_name(n)}: {m}." for n in chosen if (m := mark_of(run.verdicts, n))]
    return f" {' '.join(said)}" if said else ""


def _chart(
    run: Run, placed: Sequence[tuple[State, Interval, Interval]], chosen: tuple[str, str]
) -> Any:
    rows = [_row(state, x, y) for state, x, y in placed]
    x, y = (_scale(run, rows, side, name) for side, name in zip("xy", chosen, strict=True))
    shown = {row["condition"] for row in rows}
    entries = [entry for entry in _LEGEND.values() if entry[0] in shown]
    words = [entry[0] for entry in entries]
    color = alt.Color("condition:N", scale=alt.Scale(domain=words, range=[e[1] for e in entries]))
    shape = alt.Shape("condition:N", scale=alt.Scale(domain=words, range=[e[2] for e in entries]))
    tooltip = [
        alt.Tooltip("state:N"),
        alt.Tooltip("x:Q", title=measure_name(chosen[0]), format="+.3f"),
        alt.Tooltip("y:Q", title=measure_name(chosen[1]), format="+.3f"),
    ]
    data, path = data_of(rows), data_of([row for row in rows if row["on_path"]])
    bars = alt.Chart(data).mark_rule(strokeWidth=1, opacity=0.55)
    layers = [
        alt.Chart(path).mark_line(color=PATH, strokeWidth=1.4).encode(x=x, y=y, order="order:Q"),
        *draw_error_bars(bars, x, y, ("x", "y"), color=color),
        alt.Chart(data)
        .mark_point(filled=True, size=120, opacity=1, stroke="#ffffff", strokeWidth=0.8)
        .encode(x=x, y=y, color=color, shape=shape, tooltip=tooltip),
        alt.Chart(path)
        .mark_text(dx=11, dy=-11, fontSize=12, fontWeight=600, color=INK)
        .encode(x=x, y=y, text="label:N"),
    ]
    chart = alt.layer(*layers).properties(width=_SIZE[0], height=_SIZE[1])
    title = f"{measure_name(chosen[0])} against {measure_name(chosen[1])}, round by round"
    return style_chart(chart, [title], ["Crosses: 95 % intervals."], columns=2)


def _row(state: State, x: Interval, y: Interval) -> dict[str, Any]:
    (x_low, x_high), (y_low, y_high) = (f.bounds or (f.value, f.value) for f in (x, y))
    healed = state.condition == "healed"
    return {
        "state": _state_name(state),
        "condition": _LEGEND[state.condition][0],
        "on_path": healed or state.condition == "base",
        "order": state.position,
        "label": str(state.round) if healed else "",
        **{"x": x.value, "x_low": x_low, "x_high": x_high},
        **{"y": y.value, "y_low": y_low, "y_high": y_high},
    }


def _scale(run: Run, rows: Sequence[Mapping[str, Any]], side: str, name: str) -> Any:
    values = [row[key] for row in rows for key in (side, f"{side}_low", f"{side}_high")]
    mark = mark_of(run.verdicts, name)
    title = [measure_name(name), *([mark] if mark else [])]
    channel = alt.X if side == "x" else alt.Y
    return channel(
        f"{side}:Q",
        scale=alt.Scale(domain=pad_range(values), nice=True, zero=False),
        axis=alt.Axis(title=title, format="+.2~f", tickCount=6),
    )

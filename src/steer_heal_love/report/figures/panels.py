"""The two panels of the picture: trait above, perplexity below, over the same pipeline."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import altair as alt

from steer_heal_love.report.figures.drawing import (
    ARITHMETIC,
    FAINT,
    GREEN,
    GREY,
    PAPER,
    PATH,
    PROMPT,
    RED,
    SFT,
    bound,
)
from steer_heal_love.report.states import LOOPS, PERPLEXITY, TRAIT, Run, State
from steer_heal_love.report.text.validity import mark_of
from steer_heal_love.report.text.words import plain, signed
from steer_heal_love.verdicts import PERPLEXITY_RATIO

_LEGEND = {
    "base": ("base model", GREY, "circle"),
    "steered": ("steered: vector on", RED, "triangle-up"),
    "healed": ("healed: adapter on, vector off", GREEN, "square"),
    "sft": ("distilled, λ = 0", SFT, "diamond"),
    "arithmetic": ("adapter arithmetic", ARITHMETIC, "cross"),
}
_PIPELINE = ("base", "steered", "healed")  # in every legend, and joined by the path
Row = dict[str, Any]

_TRAIT_HEIGHT, _PERPLEXITY_HEIGHT = 270, 150


def state_row(state: State, run: Run) -> Row:
    """One state as a row of data, every figure with its bounds."""
    row: Row = {
        "position": state.position,
        "state": state.name,
        "condition": _LEGEND[state.condition][0],
    }
    if state.condition in ("steered", "healed") and state.round is not None:
        row["dose"] = run.rounds[state.round].dose
    for name in (TRAIT, PERPLEXITY, LOOPS):
        figure = state.figure(name)
        row[name] = figure.value if figure else None
        if figure and figure.bounds:
            row[f"{name}_low"], row[f"{name}_high"] = figure.bounds
    return row


def trait_panel(rows: Sequence[Row], run: Run) -> alt.LayerChart:
    """The trait with base's level and the level that the persona as a system prompt reaches."""
    prompt, base = (s.figure(TRAIT) if s else None for s in (run.prompt_pos, run.base))
    last = 2 * len(run.rounds)
    values = _extent(rows, TRAIT) + [f.value for f in (prompt, base) if f]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    margin = 0.08 * (high - low) or 0.1
    mark = mark_of(run.verdicts, TRAIT)
    y = alt.Y(
        f"{TRAIT}:Q",
        scale=alt.Scale(domain=[low - margin, high + margin], nice=True, zero=False),
        axis=alt.Axis(
            title=["trait (nats per token)", *([mark] if mark else [])],
            format="+.1f" if high - low > 0.5 else "+.2f",
            tickCount=6,
            minExtent=44,
        ),
    )
    layers = _separators(last)
    if base:
        layers.append(_level(base.value, TRAIT, y, PATH, []))
    if prompt:
        label = ["persona as", "system prompt", signed(prompt.value)]
        layers += [
            _level(prompt.value, TRAIT, y, PROMPT, [6, 4]),
            _level_label(label, prompt.value, TRAIT, y, PROMPT, "middle", 0),
        ]
    x = _x(run, labelled=False)
    rows = [r for r in rows if r[TRAIT] is not None]
    layers += _path_and_points(rows, TRAIT, x, y, mark)
    return alt.layer(*layers).properties(width=_width(last), height=_TRAIT_HEIGHT)


def perplexity_panel(rows: Sequence[Row], run: Run) -> alt.LayerChart:
    """The perplexity on a log scale, with the band from base to 1.25 times base."""
    rows = [r for r in rows if r[PERPLEXITY] is not None and r[PERPLEXITY] > 0]
    base, last = run.base.figure(PERPLEXITY) if run.base else None, 2 * len(run.rounds)
    base = base if base and base.value > 0 else None
    values = [v for v in _extent(rows, PERPLEXITY) if v > 0]
    values += [base.value, PERPLEXITY_RATIO * base.value] if base else []
    low, high = (min(values), max(values)) if values else (1.0, 10.0)
    margin = max((high / low) ** 0.1, 1.06)
    domain = [low / margin, high * margin]
    y = alt.Y(
        f"{PERPLEXITY}:Q",
        scale=alt.Scale(type="log", domain=domain, nice=False),
        axis=alt.Axis(
            title=["incoherence:", "perplexity (log scale)"],
            values=_log_ticks(*domain),
            format="~g",
            minExtent=44,
        ),
    )
    layers = _separators(last)
    if base:
        layers += _base_band(base.value, y)
    x = _x(run, labelled=True)
    layers += _path_and_points(rows, PERPLEXITY, x, y, mark_of(run.verdicts, TRAIT))
    return alt.layer(*layers).properties(width=_width(last), height=_PERPLEXITY_HEIGHT)


def _path_and_points(rows: Sequence[Row], name: str, x: Any, y: Any, mark: str) -> list[Any]:
    """The thin path through the pipeline, error bars, and the points of all states on top."""
    main = {_LEGEND[condition][0] for condition in _PIPELINE}
    entries = [e for e in _LEGEND.values() if e[0] in main | {r["condition"] for r in rows}]
    words = [entry[0] for entry in entries]
    color = alt.Color("condition:N", scale=alt.Scale(domain=words, range=[e[1] for e in entries]))
    shape = alt.Shape("condition:N", scale=alt.Scale(domain=words, range=[e[2] for e in entries]))
    tooltip = [
        alt.Tooltip("state:N"),
        alt.Tooltip(
            f"{TRAIT}:Q",
            title=f"trait, nats/token ({mark})" if mark else "trait, nats/token",
            format="+.3f",
        ),
        alt.Tooltip(f"{PERPLEXITY}:Q", title="perplexity", format=".2f"),
        alt.Tooltip(f"{LOOPS}:Q", title="loops", format=".0%"),
        alt.Tooltip("dose:Q", title="dose κ", format=".2f"),
    ]
    data = alt.Data(values=list(rows))
    path = alt.Data(values=[row for row in rows if row["condition"] in main])
    barred = alt.Data(values=[row for row in rows if f"{name}_low" in row])
    bars = alt.Chart(barred).mark_rule(strokeWidth=1.6)
    return [
        alt.Chart(path).mark_line(color=PATH, strokeWidth=1.2).encode(x=x, y=y),
        bars.encode(x=x, y=bound(y, f"{name}_low"), y2=f"{name}_high:Q", color=color),
        alt.Chart(data)
        .mark_point(filled=True, size=110, opacity=1, stroke=PAPER, strokeWidth=0.8)
        .encode(x=x, y=y, color=color, shape=shape, tooltip=tooltip),
    ]


def _base_band(value: float, y: Any) -> list[Any]:
    """The base model's perplexity, and the band above it that counts as coherent."""
    limit = PERPLEXITY_RATIO * value
    data = alt.Data(values=[{PERPLEXITY: value, "limit": limit}])
    band = alt.Chart(data).mark_rect(color=GREEN, opacity=0.09)
    return [
        band.encode(y=y, y2="limit:Q", x=alt.value(0), x2=alt.value("width")),
        _level(value, PERPLEXITY, y, GREY, []),
        _level_label([f"base {plain(value)}"], value, PERPLEXITY, y, GREY, "top", 0),
        _level_label(
            [f"×{PERPLEXITY_RATIO:g} = {plain(limit)}"], limit, PERPLEXITY, y, GREEN, "bottom", 2
        ),
    ]


def _level(value: float, name: str, y: Any, color: str, dash: list[int]) -> Any:
    """A horizontal line across the panel."""
    rule = alt.Chart(alt.Data(values=[{name: value}]))
    return rule.mark_rule(color=color, strokeDash=dash, strokeWidth=1.3).encode(y=y)


def _level_label(
    lines: list[str], value: float, name: str, y: Any, color: str, baseline: str, dy: int
) -> Any:
    """Words right of the panel, at a height of its scale."""
    text = alt.Chart(alt.Data(values=[{name: value}])).mark_text(
        text=lines, align="left", baseline=baseline, lineBreak="\n", lineHeight=14,
        dx=8, dy=dy - 7 * (len(lines) - 1), color=color, fontSize=11, clip=False,
    )  # fmt: skip
    return text.encode(y=y, x=alt.value("width"))


def _separators(last: int) -> list[Any]:
    """Faint lines between the rounds."""
    edges = alt.Data(values=[{"position": edge + 0.5} for edge in range(0, last, 2)])
    return [alt.Chart(edges).mark_rule(color=FAINT).encode(x="position:Q")] if last else []


def _x(run: Run, *, labelled: bool) -> Any:
    """The pipeline, with each round named between its two states."""
    scale = alt.Scale(domain=[-0.6, 2 * len(run.rounds) + 0.6], nice=False, zero=False)
    if not labelled:
        axis = alt.Axis(labels=False, ticks=False, title=None, grid=False)
        return alt.X("position:Q", scale=scale, axis=axis)
    labels: dict[str, list[str]] = {"0": ["base"]}
    for r, round_ in enumerate(run.rounds):
        dose = [] if round_.dose is None else [f"κ = {round_.dose:.2f}"]
        labels[str(2 * r + 1.5)] = [f"round {r}", *dose]
    axis = alt.Axis(
        values=[float(position) for position in labels],
        labelExpr=f"{json.dumps(labels)}[toString(datum.value)]",
        labelLineHeight=14,
        labelPadding=6,
        labelOverlap="greedy",
        ticks=False,
        grid=False,
        title="state of the model, in order: base, then each round steered (at dose κ) and healed",
        titlePadding=10,
    )
    return alt.X("position:Q", scale=scale, axis=axis)


def _width(last: int) -> int:
    return min(max(40 * last, 560), 960)


def _extent(rows: Sequence[Row], name: str) -> list[float]:
    keys = (name, f"{name}_low", f"{name}_high")
    return [row[key] for row in rows for key in keys if row.get(key) is not None]


def _log_ticks(low: float, high: float) -> list[float]:
    """Round numbers inside a range, at least three where there are so many."""
    ladders = ([1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 5, 7])
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    inside: list[float] = []
    for ladder in (*ladders, range(1, 10), [n / 2 for n in range(2, 20)]):
        inside = [n * 10.0**d for d in decades for n in ladder if low <= n * 10.0**d <= high]
        if len(inside) >= 3:
            break
    return [round(tick, 6) for tick in inside]

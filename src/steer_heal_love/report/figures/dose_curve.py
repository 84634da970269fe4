"""Trait against coherence over doses: as a table for the terminal, and as a figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
from rich import box
from rich.table import Table
from rich.text import Text

from steer_heal_love.records import Interval, Measurement
from steer_heal_love.report.figures.drawing import (
    GREEN,
    GREY,
    PATH,
    PROMPT,
    RED,
    Plot,
    bound,
    data_of,
    style_chart,
)
from steer_heal_love.report.figures.error_bars import draw_error_bars, perplexity_across, trait_up
from steer_heal_love.report.states import Grid
from steer_heal_love.report.text.words import number, percent, plain, signed


def nats(value: float) -> str:
    """Nats per token with their sign, three decimals: texts differ by hundredths."""
    return f"{'+' if value >= 0 else ''}{number(value, 3)}"


Point = tuple[float, Measurement]  # a dose and what was measured at it

PERSONA, PAIRS = "persona_nats", "trait_nats"
# figure: (heading, words for a value)
COLUMNS: Mapping[str, tuple[str, Any]] = {
    PERSONA: ("trait of texts", nats),
    PAIRS: ("of answer pairs", signed),
    "perplexity": ("perplexity", plain),
    "tail_perplexity": ("its tail", plain),
    "loop_share": ("loops", percent),
    "coherent_share": ("coherent", percent),
    "kept_share": ("kept", percent),
}
_SIDE, _WIDTH, _HEIGHT = 420, 330, 112


def dose_tables(
    points: Sequence[Point], marks: Mapping[str, str], symbol: str = "κ"
) -> list[Table]:
    """Trait and perplexity, and then shares: a row per dose, figures over their 95 % intervals.

    Args:
        marks: words beside the name of an instrument that is not valid on this model.
        symbol: what the doses are: κ of steering, or γ of a contrast.
    """
    shown = _shown(points)
    halves = [[n for n in shown if n.endswith("_share") == share] for share in (False, True)]
    tables = [_table(points, names, marks, symbol) for names in halves if names]
    tables[-1].caption = _CAPTION
    return tables


def _table(
    points: Sequence[Point], names: Sequence[str], marks: Mapping[str, str], symbol: str
) -> Table:
    table = Table(box=box.SIMPLE_HEAD, caption_justify="left")
    table.add_column(f"dose {symbol}", justify="right", no_wrap=True)
    for name in names:
        mark = f"\n{marks[name]}" if marks.get(name) else ""
        table.add_column(f"{COLUMNS[name][0]}{mark}", justify="right", min_width=14)
    for kappa, measured in points:
        cells = [_cell(measured.figures.get(name), COLUMNS[name][1]) for name in names]
        table.add_row(number(kappa), *cells)
    return table


_CAPTION = (
    "trait of texts: log p(text | persona) − log p(text | opposite persona) under the base model; "
    "of answer pairs: how much likelier an answer with the trait is than one without; both nats "
    "per token. Perplexity: median under the base model. Coherent: dropped by no filter but the "
    "trait's; kept: by none. Below each its 95 % interval."
)


def _shown(points: Sequence[Point]) -> list[str]:
    return [name for name in COLUMNS if any(name in m.figures for _, m in points)]


def _cell(figure: Interval | None, words: Any) -> Text:
    if figure is None:
        return Text("–")
    cell = Text(words(figure.value))
    if math.isfinite(figure.low) and math.isfinite(figure.high):
        cell.append(f"\n{words(figure.low)} to {words(figure.high)}", style="dim")
    return cell


def dose_plot(
    points: Sequence[Point], subject: str, marks: Mapping[str, str], symbol: str = "κ"
) -> Plot:
    """The figure: trait against perplexity along the doses, and each figure by dose beside it."""
    rows = [_row(kappa, measured, symbol) for kappa, measured in points]
    shown = _shown(points)
    by_dose = [
        _by_dose(rows, names, title, symbol, log="log" in title, share=title == "share")
        for title, names in (
            ("trait (nats per token)", [n for n in (PERSONA, PAIRS) if n in shown]),
            ("perplexity (log)", ["perplexity", "tail_perplexity"]),
            ("share", ["kept_share", "loop_share"]),
        )
    ]
    chart = alt.hconcat(
        _path(rows), alt.vconcat(*by_dose).resolve_scale(color="independent", shape="independent")
    )
    notes = [f"{COLUMNS[name][0]}: {mark}." for name, mark in marks.items() if mark]
    subtitle = [f"Left: each point is a dose {symbol}. Bars: 95 % intervals.", *notes]
    return Plot(
        name="dose_curve",
        title=f"Dose curve: {subject}",
        caption=_CAPTION,
        alt=_spoken(points),
        chart=style_chart(chart, [f"Dose curve: {subject}"], subtitle),
        table=Grid(
            (f"dose {symbol}", *(COLUMNS[n][0] for n in shown)),
            tuple(
                (number(k), *(_cell(m.figures.get(n), COLUMNS[n][1]).plain for n in shown))
                for k, m in points
            ),
        ),
    )


def _spoken(points: Sequence[Point]) -> str:
    said = []
    for kappa, m in points:
        words = [f"{COLUMNS[n][0]} {COLUMNS[n][1](m.figures[n].value)}" for n in _shown([(0.0, m)])]
        said.append(f"dose {number(kappa)}: {', '.join(words)}")
    return "; ".join(said) + "."


def _row(kappa: float, measured: Measurement, symbol: str) -> dict[str, Any]:
    row: dict[str, Any] = {"kappa": kappa, "label": f"{symbol} {kappa:g}"}
    for name in COLUMNS:
        figure = measured.figures.get(name)
        if figure is not None:
            row |= {name: figure.value, f"{name}_low": figure.low, f"{name}_high": figure.high}
    return row


def _path(rows: Sequence[dict[str, Any]]) -> Any:
    """Trait of the sampled texts against their perplexity, in the order of the doses."""
    there = [r for r in rows if PERSONA in r and r.get("perplexity", 0) > 0]
    x = perplexity_across(there, "incoherence: median perplexity (log scale)")
    y = trait_up(there, PERSONA)
    chart = alt.Chart(data_of(there))
    tooltip = [alt.Tooltip("label:N", title="dose")]
    tooltip += [alt.Tooltip(f"{n}:Q", title=COLUMNS[n][0], format=".3~f") for n in COLUMNS]
    layers = [
        chart.mark_line(color=PATH, strokeWidth=1.4).encode(x=x, y=y, order="kappa:Q"),
        *draw_error_bars(chart.mark_rule(color=RED, opacity=0.5), x, y, ("perplexity", PERSONA)),
        chart.mark_point(filled=True, size=90, opacity=1, color=RED, shape="triangle-up").encode(
            x=x, y=y, tooltip=tooltip
        ),
        chart.mark_text(align="left", dx=8, dy=-8, color=GREY, fontSize=11).encode(
            x=x, y=y, text="label:N"
        ),
    ]
    return alt.layer(*layers).properties(width=_SIDE, height=_SIDE)


def _by_dose(
    rows: Sequence[dict[str, Any]],
    names: Sequence[str],
    title: str,
    symbol: str,
    *,
    log: bool = False,
    share: bool = False,
) -> Any:
    """One panel: some figures by dose, each in a colour, dash and shape of its own."""
    long = [
        {
            "kappa": r["kappa"],
            "figure": COLUMNS[n][0],
            "value": r[n],
            "low": r[f"{n}_low"],
            "high": r[f"{n}_high"],
        }
        for r in rows
        for n in names
        if n in r and (not log or r[f"{n}_low"] > 0)
    ]
    words = [COLUMNS[n][0] for n in names]
    look = {
        "color": alt.Color("figure:N", scale=alt.Scale(domain=words, range=[RED, PROMPT, GREEN])),
        "shape": alt.Shape(
            "figure:N", scale=alt.Scale(domain=words, range=["triangle-up", "circle", "square"])
        ),
    }
    scale = alt.Scale(type="log", nice=False) if log else alt.Scale(zero=False)
    if share:
        scale = alt.Scale(domain=[0, 1])
    axis = alt.Axis(title=title, format=".0%" if share else "~g", tickCount=4, minExtent=40)
    y = alt.Y("value:Q", scale=scale, axis=axis)
    x = alt.X("kappa:Q", axis=alt.Axis(title=f"dose {symbol}", grid=False, tickCount=5))
    chart = alt.Chart(data_of(long))
    tooltip = [
        "figure:N",
        alt.Tooltip("kappa:Q", title=f"dose {symbol}"),
        alt.Tooltip("value:Q", format=".3~f"),
    ]
    return alt.layer(
        chart.mark_line(strokeWidth=1.4).encode(x=x, y=y, color=look["color"]),
        chart.mark_rule(opacity=0.5).encode(
            x=x, y=bound(y, "low"), y2="high:Q", color=look["color"]
        ),
        chart.mark_point(filled=True, size=60, opacity=1).encode(x=x, y=y, tooltip=tooltip, **look),
    ).properties(width=_WIDTH, height=_HEIGHT)

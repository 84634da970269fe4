"""How every figure looks, and its twins for a paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from steer_heal_love.report.states import Grid
from steer_heal_love.runs.files import write_bytes, write_text

VEGA_LITE = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
_FONT = "Helvetica Neue, Arial, Liberation Sans, sans-serif"

# Colours that differ in lightness too; each goes with a shape or a dash of its own.
INK, GREY, RED, GREEN = "#22272e", "#5b6470", "#cc3311", "#007a5a"
PATH, FAINT, GRID, PROMPT = "#b9bfc7", "#e6e8eb", "#f0f1f3", "#3b5b92"
SFT, ARITHMETIC = "#7b3294", "#96690a"
PAPER = "#ffffff"
# The same on a dark page.
DARK = {
    INK: "#e4e7eb",
    GREY: "#a5adb8",
    RED: "#ff7a5c",
    GREEN: "#35c79c",
    PATH: "#5a626d",
    FAINT: "#333a44",
    GRID: "#272d35",
    PROMPT: "#92b4f4",
    SFT: "#cf9be0",
    ARITHMETIC: "#e0b84c",
    PAPER: "#171a1f",
}
# Of several runs (after Okabe and Ito, darker), each with its dash and its shape.
RUNS = ("#0072b2", "#b84a00", "#007a5a", "#b0578d", "#96690a", "#4b4b4b")
RUN_DARK = ("#5fb2e6", "#ff8f4d", "#35c79c", "#e59ac6", "#e0b84c", "#c2c2c2")
DARK |= dict(zip(RUNS, RUN_DARK, strict=True))
RUN_DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [12, 4], [4, 1])
RUN_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")


@dataclass(frozen=True)
class Plot:
    """A figure with everything that a reader needs who cannot see it."""

    name: str  # of its files
    title: str
    caption: str  # how to read it
    alt: str  # what it shows
    chart: Any  # altair
    table: Grid

    def spec(self) -> dict[str, Any]:
        """The Vega-Lite specification."""
        spec: dict[str, Any] = self.chart.to_dict()
        return spec


def style_chart(
    chart: Any, title: Sequence[str], subtitle: Sequence[str], *, columns: int = 0
) -> Any:
    """The chart in the house's style, under its title; `columns`: of its legend, 0 for one row."""
    return (
        chart.properties(
            title=alt.TitleParams(list(title), subtitle=list(subtitle)),
            description=" ".join([*title, *subtitle]),
            padding={"left": 14, "top": 14, "right": 18, "bottom": 12},
            background=PAPER,
        )
        .configure(font=_FONT)
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=INK,
            titleColor=INK,
            labelFontSize=11,
            titleFontSize=12,
            titleFontWeight="normal",
            gridColor=GRID,
            domainColor=PATH,
            tickColor=PATH,
        )
        .configure_title(
            anchor="start",
            frame="group",
            fontSize=17,
            fontWeight=600,
            color=INK,
            subtitleFontSize=12,
            subtitleColor=GREY,
            subtitleLineHeight=17,
            subtitlePadding=6,
            offset=14,
        )
        .configure_legend(
            orient="top",
            title=None,
            labelFontSize=12,
            labelColor=INK,
            symbolSize=110,
            symbolOpacity=1,
            labelLimit=0,
            columnPadding=22,
            columns=columns,
            offset=8,
        )
    )


def data_of(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Rows as the data of a chart."""
    return alt.Data(values=[dict(row) for row in rows])


def pad_range(values: Sequence[float], share: float = 0.08, least: float = 0.1) -> list[float]:
    """A domain that holds all values with room around them."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    margin = share * (high - low) or least
    return [low - margin, high + margin]


def bound(channel: Any, field: str) -> Any:
    """The same axis, read from a bound of the interval."""
    edge = channel.copy()
    edge.shorthand = f"{field}:Q"
    return edge


def save_twins(plots: Sequence[Plot], folder: Path) -> list[Path]:
    """Write each figure as NAME.svg and NAME.png (twice the size), without browser or network."""
    written = []
    for plot in plots:
        svg, png = folder / f"{plot.name}.svg", folder / f"{plot.name}.png"
        drawn = vl_convert.vegalite_to_svg(plot.spec(), vl_version=VEGA_LITE)
        write_text(svg, drawn)
        write_bytes(png, vl_convert.svg_to_png(drawn, scale=2))
        written += [svg, png]
    return written

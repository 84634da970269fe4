"""What bands and extractions give for what they cost: a table for the terminal, and a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
from rich import box
from rich.table import Table

from steer_heal_love.records import Interval
from steer_heal_love.report.figures.drawing import (
    GREEN,
    GREY,
    PROMPT,
    RED,
    Plot,
    bound,
    data_of,
    style_chart,
)
from steer_heal_love.report.states import Grid
from steer_heal_love.report.text.words import number, signed

RANDOM = "random direction"
EXTRACTIONS = {
    "mean_difference": "mean difference",
    "principal": "first principal component",
    "separating": "what separates the personas",
}
_COLOURS = {
    "mean difference": (RED, "circle"),
    "first principal component": (PROMPT, "triangle-up"),
    "what separates the personas": (GREEN, "square"),
    RANDOM: (GREY, "cross"),
}
_HEADINGS = ("layers", "direction", "trait", "T*", "KL", "trait / √KL", "against own")
_CAPTION = (
    "Each row steers the base model at dose 1, the shift that the persona itself causes. Trait: "
    "how much likelier the answers with the trait are than without steering, nats per token, with "
    "the logits divided by T*, at which the model is as sharp as base. KL: from base on fixed "
    "texts, at T*. Against own: trait / √KL less that of the settings' own band and extraction, on "
    "the same texts and pairs. Intervals are of 95 %."
)


@dataclass(frozen=True)
class TuneRow:
    """A candidate as it is shown."""

    low: float  # its band of layers, as fractions of the depth
    high: float
    direction: str  # a value of EXTRACTIONS, or RANDOM
    trait: Interval | None  # shift from base at equal entropy, nats a token
    temperature: Interval | None
    kl: Interval | None  # nats
    efficiency: Interval | None
    against_own: Interval | None
    own: bool = False
    best: bool = False

    @property
    def band(self) -> str:
        """The band in words."""
        return f"{self.low:g}–{self.high:g}"

    @property
    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        name = f"{self.direction} (own)" if self.own else self.direction
        return (
            self.band,
            name,
            "–" if self.trait is None else signed(self.trait.value),
            "–" if self.temperature is None else number(self.temperature.value),
            "–" if self.kl is None else number(self.kl.value),
            _words(self.efficiency, signed),
            "–" if self.own else _words(self.against_own, signed),
        )


def _words(figure: Interval | None, words: Any) -> str:
    if figure is None:
        return "–"
    return f"{words(figure.value)} ({words(figure.low)} to {words(figure.high)})"


def tune_table(rows: Sequence[TuneRow]) -> Table:
    """The most trait for its divergence first; the best in bold."""
    table = Table(box=box.SIMPLE_HEAD, caption_justify="left", caption=_CAPTION)
    for heading in _HEADINGS:
        if heading == "direction":
            table.add_column(heading, min_width=11)
        else:
            table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        cells = [cell.rstrip(")").replace(" (", "\n", 1) for cell in row.cells]
        table.add_row(*cells, style="bold" if row.best else None)
    return table


def tune_plot(rows: Sequence[TuneRow], subject: str) -> Plot:
    """Trait over √KL by band, a colour and a shape for each extraction."""
    said = [f"layers {row.band}, {row.direction}: {_words(row.efficiency, signed)}" for row in rows]
    title = f"Where to steer: {subject}"
    return Plot(
        name="tune",
        title=title,
        caption=_CAPTION,
        alt=f"Trait over √KL. {'; '.join(said)}.",
        chart=style_chart(_chart(rows), [title], ["At dose 1. Bars: 95 % intervals."], columns=2),
        table=Grid(_HEADINGS, tuple(row.cells for row in rows)),
    )


def _chart(rows: Sequence[TuneRow]) -> Any:
    data = [
        {
            "band": row.band,
            "direction": row.direction,
            "value": row.efficiency.value,
            "low": row.efficiency.low,
            "high": row.efficiency.high,
        }
        for row in rows
        if row.efficiency is not None
    ]
    names = [name for name in _COLOURS if any(row["direction"] == name for row in data)]
    colours, shapes = zip(*(_COLOURS[name] for name in names), strict=True) if names else ((), ())
    colour = alt.Color("direction:N", scale=alt.Scale(domain=names, range=list(colours)))
    shape = alt.Shape("direction:N", scale=alt.Scale(domain=names, range=list(shapes)))
    bands = sorted({(row.low, row.high, row.band) for row in rows})
    x = alt.X(
        "band:O",
        sort=[band for _, _, band in bands],
        axis=alt.Axis(title="layers, as a share of the depth", labelAngle=0, grid=False),
    )
    y = alt.Y("value:Q", axis=alt.Axis(title="trait / √KL", format="+.2f"))
    offset = alt.XOffset("direction:N", sort=names)
    chart = alt.Chart(data_of(data))
    tooltip = ["band:N", "direction:N", alt.Tooltip("value:Q", format="+.3f")]
    return alt.layer(
        chart.mark_rule(opacity=0.6).encode(
            x=x, xOffset=offset, y=bound(y, "low"), y2="high:Q", color=colour
        ),
        chart.mark_point(filled=True, size=70, opacity=1).encode(
            x=x, xOffset=offset, y=y, color=colour, shape=shape, tooltip=tooltip
        ),
    ).properties(width=560, height=300)

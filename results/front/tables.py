"""The front of rivals as a table and as a figure: trait at base's entropy against perplexity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from results.front.measure import front_of
from results.page import table_of
from results.runs.figures import plot_of, series_of
from results.runs.panels import plane, point_of
from results.say import MISSING, nats, say
from steer_heal_love.maths.paired import geometric_ratio, known, paired_difference, shift_per_root
from steer_heal_love.maths.statistics import proportion_interval
from steer_heal_love.records import BARE, Interval, Measurement, Rival
from steer_heal_love.report.figures.drawing import Plot
from steer_heal_love.report.text.words import number, percent
from steer_heal_love.verdicts.coherence import BOUNDS, out_of_bounds


@dataclass(frozen=True)
class Row:
    """A rival beside the base model, measured on the same items."""

    rival: Rival
    measured: Measurement
    base: Measurement

    def items(self, name: str) -> tuple[tuple[float | None, ...], tuple[float | None, ...]]:
        """Of the rival, and of base."""
        return self.measured.items.get(name, ()), self.base.items.get(name, ())

    @property
    def trait(self) -> Interval | None:
        """Shift of the trait at base's entropy, in pairs, nats per token."""
        return paired_difference(*self.items("trait_nats"))

    @property
    def perplexity(self) -> Interval | None:
        """× base."""
        return geometric_ratio(*self.items("perplexity"))

    @property
    def broken(self) -> list[str]:
        """Bounds that it does not keep."""
        return out_of_bounds(self.measured, self.base)


def rows_of(values: Mapping[str, Any]) -> list[Row]:
    """The rivals, the one with the most trait first."""
    front = front_of(values)
    base = dict(front)[BARE]
    rows = [Row(rival, measured, base) for rival, measured in front if rival != BARE]
    return sorted(rows, key=lambda row: -(row.trait.value if row.trait else -99.0))


def front_block(values: Mapping[str, Any]) -> str:
    """How it was made, the table, and which rival is the best within the bounds."""
    rows = rows_of(values)
    best = next((row for row in rows if not row.broken), None)
    said = "No rival is within the bounds."
    if best is not None:
        said = f"The best within the bounds: **{best.rival.words}**, {nats(best.trait)}."
    made_of = (
        f"Model `{values['model']}`, axis `{values['axis']}`, one draw of {values['samples']} "
        f"answers a rival; intervals are over items. The bounds: {BOUNDS}."
    )
    return f"{made_of}\n\n{table_of(COLUMNS, rows)}\n\n{said}"


def _ratio(name: str) -> Callable[[Row], str]:
    """Of means over the samples."""

    def cell(row: Row) -> str:
        own, theirs = (known(v) for v in row.items(name))
        if not own or not theirs or sum(theirs) <= 0:
            return MISSING
        return number(sum(own) / len(own) / (sum(theirs) / len(theirs)))

    return cell


def _distinct(row: Row) -> str:
    figures = [m.figures.get("distinct_2") for m in (row.measured, row.base)]
    own, theirs = figures
    return MISSING if own is None or theirs is None else number(own.value / theirs.value)


def _loops(row: Row) -> str:
    values = known(row.items("loop_share")[0])
    if not values:
        return MISSING
    return say(proportion_interval(round(sum(values)), len(values)), percent)


def _match(row: Row) -> str:
    figure = row.measured.figures.get("temperature_match")
    return MISSING if figure is None else number(figure.value)


COLUMNS: Mapping[str, Callable[[Row], str]] = {
    "rival": lambda row: row.rival.words,
    "trait shift at base's entropy": lambda row: nats(row.trait),
    "T*": _match,
    "trait per root KL": lambda row: nats(
        shift_per_root(*row.items("trait_nats"), row.items("kl_matched_nats")[0])
    ),
    "perplexity × base": lambda row: say(row.perplexity),
    "relevance × base": _ratio("relevance"),
    "distinct-2 × base": _distinct,
    "loops": _loops,
    "within the bounds": lambda row: ", ".join(row.broken) or "yes",
}


def front_figure(values: Mapping[str, Any] | None) -> Sequence[Plot]:
    """A line for each temperature of steering, and one for the contrast."""
    if values is None:
        return []
    points = []
    for row in rows_of(values):
        symbol = "γ" if row.rival.method == "contrast" else "κ"
        label = f"{symbol} {row.rival.dose:g}" + ("" if row.broken else " ✓")
        points += point_of(_series(row.rival), label, row.rival.dose, row.trait, row.perplexity)
    points.sort(key=lambda p: (p["series"], p["order"]))
    if not points:
        return []
    title = f"Rivals without training: {values['axis']} on {values['model']}"
    subtitle = [
        "Up: more trait, at base's entropy. Left: less perplexity. ✓: within all bounds.",
        "Bars: 95 % intervals over items, cut where they leave the picture.",
    ]
    chart = plane(points, series_of(points), measure="perplexity")
    return [plot_of("front", title, subtitle, chart, columns=3)]


def _series(rival: Rival) -> str:
    if rival.method == "steering":
        return f"steering at T {rival.temperature:g}"
    return "random directions" if rival.method == "random" else rival.method

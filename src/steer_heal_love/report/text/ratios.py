"""Figures as a multiple of the base model's over the same samples."""

from __future__ import annotations

from collections.abc import Sequence

from steer_heal_love.maths.paired import geometric_ratio, median_ratio
from steer_heal_love.report.states import (
    PERPLEXITY,
    Figure,
    Items,
    figure_of,
    read_figure,
    read_mapping,
    read_number,
)
from steer_heal_love.report.text.words import INTERVAL

Values = Sequence[float | None]


def ratio_to_base(
    measurement: object,
    base: object,
    own: Values = (),
    theirs: Values = (),
    name: str = PERPLEXITY,
) -> Figure | None:
    """A figure as a multiple of the base model's; None where it was not measured on both.

    What the run holds (`<name>_ratio`) comes first, with its interval; then, of perplexities, the
    ratio over the same samples of what the figure is, geometric means or in older runs medians;
    then the bare ratio of the two figures.

    Args:
        own, theirs: the values per sample of the model and of the base model, where known.
    """
    stored = read_figure(measurement, f"{name}_ratio")
    if stored is not None:
        return stored
    is_mean = f"{name}_median" in read_mapping(measurement)
    over_samples = geometric_ratio if is_mean else median_ratio
    paired = over_samples(_numbers(own), _numbers(theirs)) if own else None
    if paired is not None:
        return figure_of(paired)
    after, before = read_figure(measurement, name), read_figure(base, name)
    if after is None or before is None or before.value <= 0:
        return None
    return Figure(after.value / before.value)


def times_words(figure: Figure) -> str:
    """A multiple with its interval, in short."""
    said = f"{figure.value:.2f} × base"
    if figure.interval is None:
        return said
    low, high = figure.interval
    return f"{said} ({low:.2f} to {high:.2f})"


def bounds_words(figure: Figure) -> list[str]:
    """The interval of a multiple by itself, as a note; none where there is none."""
    if figure.interval is None:
        return []
    return [f"{INTERVAL} {figure.interval[0]:.2f} to {figure.interval[1]:.2f}"]


def values_of(items: Items, condition: str, name: str = PERPLEXITY) -> Values:
    """The values per sample of a condition; none where they are not known."""
    return items.get(condition, {}).get(name, ())


def _numbers(values: Values) -> list[float | None]:
    return [read_number(v) for v in values]

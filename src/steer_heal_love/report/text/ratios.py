"""Figures as a multiple of the base model's over the same samples."""

from __future__ import annotations

from steer_heal_love.maths.paired import geometric_ratio, median_ratio
from steer_heal_love.records import Interval
from steer_heal_love.report.states import PERPLEXITY, State, without_bounds
from steer_heal_love.report.text.words import INTERVAL


def ratio_to_base(
    state: State | None, base: State | None, name: str = PERPLEXITY
) -> Interval | None:
    """A figure as a multiple of the base model's; None where it was not measured on both.

    What the run holds (`<name>_ratio`) comes first, with its interval; then, of perplexities, the
    ratio over the same samples of what the figure is, geometric means or in older runs medians;
    then the bare ratio of the two figures.
    """
    if state is None:
        return None
    stored = state.figure(f"{name}_ratio")
    if stored is not None or base is None:
        return stored
    over_samples = geometric_ratio if state.figure(f"{name}_median") else median_ratio
    own, theirs = (s.measured.items.get(name, ()) for s in (state, base))
    paired = over_samples(own, theirs) if own else None
    if paired is not None:
        return paired
    after, before = state.figure(name), base.figure(name)
    if after is None or before is None or before.value <= 0:
        return None
    return without_bounds(after.value / before.value)


def times_words(figure: Interval) -> str:
    """A multiple with its interval, in short."""
    said = f"{figure.value:.2f} × base"
    return said if figure.bounds is None else f"{said} ({figure.low:.2f} to {figure.high:.2f})"


def bounds_words(figure: Interval) -> list[str]:
    """The interval of a multiple by itself, as a note; none where there is none."""
    if figure.bounds is None:
        return []
    return [f"{INTERVAL} {figure.low:.2f} to {figure.high:.2f}"]

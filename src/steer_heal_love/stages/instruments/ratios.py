"""Coherence as a multiple of the base model's, over the same items."""

from __future__ import annotations

from steer_heal_love.maths.paired import complete_pairs, median_ratio
from steer_heal_love.maths.statistics import ratio_interval
from steer_heal_love.records import Interval, Measurement
from steer_heal_love.stages.instruments.coherence import LONG, MEANS, MEDIANS, SHARES

RESAMPLES = 2000


def with_ratios(measured: Measurement, base: Measurement) -> Measurement:
    """The measurement with a figure `<name>_ratio` for each coherence figure that has a ratio.

    Ratios of medians (perplexities) or of means (repetition, compression, self-BLEU, relevance,
    shares), with 95 % intervals by resampling the items in pairs. Where the base's is zero, as its
    loop share often is, there is no ratio.
    """
    found = dict(measured.figures)
    for prefix in ("", LONG):
        for name in MEDIANS:
            _add(found, prefix + name, _ratio(measured, base, prefix + name, median=True))
        for name in (*MEANS, *SHARES):
            _add(found, prefix + name, _ratio(measured, base, prefix + name, median=False))
    return Measurement(found, measured.items, measured.answers)


def _add(figures: dict[str, Interval], name: str, ratio: Interval | None) -> None:
    if ratio is not None:
        figures[f"{name}_ratio"] = ratio


def _ratio(measured: Measurement, base: Measurement, name: str, *, median: bool) -> Interval | None:
    own, theirs = measured.items.get(name, ()), base.items.get(name, ())
    if len(own) != len(theirs):
        return None
    if median:
        return median_ratio(own, theirs)
    a, b = complete_pairs(own, theirs)
    return ratio_interval(a, b, resamples=RESAMPLES) if len(a) > 1 and b.mean() > 0 else None

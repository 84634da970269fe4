"""Coherence as a multiple of the base model's, over the same items."""

from __future__ import annotations

from steer_heal_love.maths.paired import (
    Items,
    complete_pairs,
    geometric_ratio,
    median_ratio,
    quantile_ratio,
    shift_per_root,
)
from steer_heal_love.maths.statistics import ratio_interval
from steer_heal_love.records import Interval, Measurement
from steer_heal_love.stages.instruments.coherence import LONG, MEANS, MEDIANS, SHARES

RESAMPLES = 2000


def with_ratios(measured: Measurement, base: Measurement) -> Measurement:
    """The measurement with a figure `<name>_ratio` for each coherence figure that has a ratio.

    Ratios of geometric means (`perplexity`), of quantiles (its median and 90 %, and the medians of
    tail and window) or of means (repetition, compression, self-BLEU, relevance, shares, mass on the
    forced choice's answers), with 95 % intervals by resampling the items in pairs. Where the
    base's is zero, as its loop share often is, there is no ratio; nor has distinct-n one, which is
    of all answers together.

    And `trait_per_sqrt_kl`: the shift of the trait at equal entropy over √(kl_matched_nats), which
    says how much trait the divergence from base has bought; none of the base itself.
    """
    figures = dict(measured.figures)
    for prefix in ("", LONG):
        for name in MEDIANS:
            _add(figures, prefix + name, median_ratio(*_items(measured, base, prefix + name)))
        texts = _items(measured, base, f"{prefix}perplexity")
        _add(figures, f"{prefix}perplexity", geometric_ratio(*texts))
        _add(figures, f"{prefix}perplexity_median", median_ratio(*texts))
        tails = quantile_ratio(*texts, 0.9)
        _add(figures, f"{prefix}perplexity_p90", tails)
        for name in (*MEANS, *SHARES, "p_ans_any"):
            _add(figures, prefix + name, _mean_ratio(*_items(measured, base, prefix + name)))
    spent = measured.items.get("kl_matched_nats", ())
    gained = shift_per_root(*_items(measured, base, "trait_nats"), spent)
    if gained is not None:
        figures["trait_per_sqrt_kl"] = gained
    return Measurement(figures, measured.items, measured.answers)


def _add(figures: dict[str, Interval], name: str, ratio: Interval | None) -> None:
    if ratio is not None:
        figures[f"{name}_ratio"] = ratio


def _items(measured: Measurement, base: Measurement, name: str) -> tuple[Items, Items]:
    return measured.items.get(name, ()), base.items.get(name, ())


def _mean_ratio(own: Items, theirs: Items) -> Interval | None:
    if len(own) != len(theirs):
        return None
    a, b = complete_pairs(own, theirs)
    return ratio_interval(a, b, resamples=RESAMPLES) if len(a) > 1 and b.mean() > 0 else None

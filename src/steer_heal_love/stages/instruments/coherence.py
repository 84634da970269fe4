"""Coherence: how likely, varied and to the point sampled answers are, as the base model sees it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from steer_heal_love.maths.diversity import (
    distinct_interval,
    opening_flags,
    rep_n,
    self_bleu_values,
    split_words,
)
from steer_heal_love.maths.repetition import is_loop
from steer_heal_love.maths.statistics import (
    bootstrap_mean,
    bootstrap_statistic,
    geometric_mean,
    proportion_interval,
)
from steer_heal_love.records import Interval, Judged, Measurement

RESAMPLES = 1000

MEDIANS = ("tail_perplexity", "window_perplexity")
MEANS = ("rep_2", "rep_3", "rep_4", "compression", "self_bleu", "relevance")
SHARES = ("loop_share", "opening_share", "ended_share")
DISTINCT = (1, 2, 3)
LONG = "long_"  # opens the names of what was measured on long samples

Items = dict[str, tuple[float | None, ...]]


def measure_coherence(
    judged: Sequence[Judged], relevance_nats: Sequence[float | None] | None = None
) -> Measurement:
    """Figures with 95 % intervals over the samples, and the values per sample behind them.

    perplexity, exp of the mean over samples of their log-perplexity; perplexity_median and
    perplexity_p90; medians of tail_perplexity and window_perplexity; means of rep_2,
    rep_3, rep_4, compression, self_bleu and relevance; shares loop_share, opening_share,
    ended_share and empty_share; distinct_1, distinct_2, distinct_3 of all samples together. An
    empty sample has no perplexity, repetition, compression or relevance. A figure that no sample
    has a value for is left out. self_bleu is resampled with its references held.

    Args:
        judged: the samples of one condition, in the order of the run's items.
        relevance_nats: what `relevance` found for them.
    """
    words = [split_words(j.completion.text) for j in judged]
    items = _items(judged, words)
    if relevance_nats is not None:
        items["relevance"] = tuple(relevance_nats)
    figures: dict[str, Interval] = {}
    _add(figures, "perplexity", items["perplexity"], geometric_mean)
    _add(figures, "perplexity_median", items["perplexity"], lambda v: _statistic(v, np.median))
    for name in MEDIANS:
        _add(figures, name, items[name], lambda v: _statistic(v, np.median))
    _add(figures, "perplexity_p90", items["perplexity"], lambda v: _statistic(v, _p90))
    for name in MEANS:
        _add(figures, name, items.get(name, ()), lambda v: bootstrap_mean(v, resamples=RESAMPLES))
    for name in (*SHARES, "empty_share"):
        _add(figures, name, items[name], lambda v: proportion_interval(round(sum(v)), len(v)))
    for n in DISTINCT:
        if any(len(tokens) >= n for tokens in words):
            figures[f"distinct_{n}"] = distinct_interval(words, n)
    return Measurement(figures, items)


def as_long(measured: Measurement) -> Measurement:
    """The same figures and items under the names of long samples."""
    return Measurement(
        {LONG + name: figure for name, figure in measured.figures.items()},
        {LONG + name: values for name, values in measured.items.items()},
    )


def _items(judged: Sequence[Judged], words: Sequence[Sequence[str]]) -> Items:
    empty = [not j.completion.token_ids or not j.completion.text.strip() for j in judged]

    def unless_empty(value_of: Callable[[int], float]) -> tuple[float | None, ...]:
        values = [None if none else value_of(i) for i, none in enumerate(empty)]
        return tuple(v if v is not None and math.isfinite(v) else None for v in values)

    def every(values: Sequence[float | bool]) -> tuple[float | None, ...]:
        return tuple(map(float, values))

    scores = [j.scores for j in judged]
    return {
        "perplexity": unless_empty(lambda i: scores[i].perplexity),
        "tail_perplexity": unless_empty(lambda i: scores[i].tail_perplexity),
        "window_perplexity": unless_empty(lambda i: scores[i].window_perplexity),
        "loop_share": every([is_loop(j.completion.text) for j in judged]),
        "rep_2": unless_empty(lambda i: rep_n(words[i], 2)),
        "rep_3": unless_empty(lambda i: rep_n(words[i], 3)),
        "rep_4": unless_empty(lambda i: rep_n(words[i], 4)),
        "compression": unless_empty(lambda i: scores[i].compression),
        "self_bleu": every(self_bleu_values(words)),
        "opening_share": every(opening_flags(words)),
        "ended_share": every([j.completion.ended for j in judged]),
        "empty_share": every(empty),
    }


def _add(
    figures: dict[str, Interval],
    name: str,
    values: Sequence[float | None],
    estimate: Callable[[list[float]], Interval],
) -> None:
    there = [v for v in values if v is not None]
    if there:
        figures[name] = estimate(there)


def _statistic(values: Sequence[float], statistic: Callable[[Any], Any]) -> Interval:
    return bootstrap_statistic(np.array(values), statistic, resamples=RESAMPLES)


def _p90(values: Any) -> float:
    return float(np.quantile(values, 0.9))

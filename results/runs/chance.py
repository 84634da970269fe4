"""Intervals of figures from a few runs that differ by their seed.

What is measured on the same items in every run (answer pairs, paragraphs) has two sources of
chance, the seed and the choice of items. Their squared standard errors are added; Student's t with
the degrees of freedom of Welch and Satterthwaite gives the interval. What is measured on texts that
every run samples anew has the interval over the seeds alone, which holds both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from steer_heal_love.maths.paired import Items, complete_pairs
from steer_heal_love.maths.statistics import over_seeds, proportion_interval
from steer_heal_love.records import Interval

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure of one run: its standard error over so many items."""

    value: float
    error: float
    items: int


def paired(after: Items, before: Items) -> Estimate | None:
    """Mean of after − before over their common items; None where fewer than two."""
    if len(after) != len(before):
        return None
    a, b = complete_pairs(after, before)
    if len(a) < 2:
        return None
    found = a - b
    return Estimate(float(found.mean()), float(found.std(ddof=1)) / math.sqrt(len(a)), len(a))


def over_runs(found: Sequence[Estimate]) -> Interval | None:
    """Mean over the runs with its 95 % interval over seeds and items; None without a run.

    Of one run the interval is over its items alone. Source: Welch 1947, doi:10.2307/2332510.
    """
    if not found:
        return None
    values = np.array([e.value for e in found])
    mean, n = float(values.mean()), len(values)
    of_items = float(np.mean([e.error**2 for e in found]))
    of_seeds = float(values.var(ddof=1)) / n if n > 1 else 0.0
    variance = of_items + of_seeds
    if variance == 0:
        return Interval(mean, mean, mean)
    share = of_items / variance
    spread = share**2 / (min(e.items for e in found) - 1)
    spread += (1 - share) ** 2 / (n - 1) if n > 1 else 0.0
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, 1 / spread)) * math.sqrt(variance)
    return Interval(mean, mean - half, mean + half)


def sampled(values: Sequence[float], alone: Interval | None = None) -> Interval | None:
    """Mean over the runs with Student's t interval over the seeds; of one run `alone`, if given."""
    if not values:
        return None
    return alone if len(values) == 1 and alone is not None else over_seeds(values)


def pooled(counts: Sequence[tuple[int, int]]) -> Interval | None:
    """A share of the samples of all runs together, with Wilson's interval."""
    total = sum(n for _, n in counts)
    return proportion_interval(sum(k for k, _ in counts), total) if total else None


def excess(after: Interval | None, before: Interval | None) -> Interval | None:
    """The difference of two shares, from their Wilson intervals.

    Source: method 10 of Newcombe 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>.
    """
    if after is None or before is None:
        return None
    difference = after.value - before.value
    down = math.hypot(after.value - after.low, before.high - before.value)
    up = math.hypot(after.high - after.value, before.value - before.low)
    return Interval(difference, difference - down, difference + up)

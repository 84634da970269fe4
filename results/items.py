"""Items over seeds: a value per item, so that the bootstrap draws items and no seed twice."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from steer_heal_love.maths.paired import Items, complete_pairs, with_gaps
from steer_heal_love.maths.statistics import ratio_interval
from steer_heal_love.records import Interval

RESAMPLES = 2000


def over_seeds(rows: Sequence[Items], *, logs: bool = False) -> list[float | None]:
    """Mean of each item over the seeds that have a value for it; None where none has.

    Args:
        rows: the same items under each seed.
        logs: geometric means, as of perplexities.

    Raises ValueError where the rows are not of one length.
    """
    if len({len(row) for row in rows}) != 1:
        raise ValueError(f"not the same items: {[len(row) for row in rows]} of them")
    values = np.stack([with_gaps(row) for row in rows])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # an item without any value: NaN
        means = np.exp(np.nanmean(np.log(values), 0)) if logs else np.nanmean(values, 0)
    return [float(v) if np.isfinite(v) else None for v in means]


def mean_ratio(after: Items, before: Items) -> Interval | None:
    """Ratio of the means after / before over their common items, with its 95 % interval.

    None where fewer than two items have a value in both, or the mean of before is not positive.
    """
    a, b = complete_pairs(after, before)
    return ratio_interval(a, b, resamples=RESAMPLES) if len(a) > 1 and b.mean() > 0 else None

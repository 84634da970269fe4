"""Two conditions on the same items: differences and ratios with intervals, gaps left out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from steer_heal_love.maths.statistics import exponential, paired_bootstrap
from steer_heal_love.records import Interval

Items = Sequence[float | None]

RESAMPLES = 4000


def known(values: Items) -> list[float]:
    """The values that are there and finite."""
    return [float(v) for v in values if v is not None and math.isfinite(v)]


def complete_pairs(
    after: Items, before: Items
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """The values of the items that both conditions have a finite value for, in order.

    Raises ValueError where the lengths differ: then they are not the same items.
    """
    if len(after) != len(before):
        raise ValueError(f"{len(after)} items against {len(before)}: not the same items")
    a, b = with_gaps(after), with_gaps(before)
    both = np.isfinite(a) & np.isfinite(b)
    return a[both], b[both]


def with_gaps(values: Items) -> Float[np.ndarray, " n"]:
    """The values as an array, NaN where there is none or none that is finite."""
    array = np.array([math.nan if v is None else v for v in values], dtype=np.float64)
    return np.where(np.isfinite(array), array, np.nan)


def paired_difference(after: Items, before: Items) -> Interval | None:
    """Mean of after − before over their common items, with its 95 % interval.

    None where fewer than two items have a value in both, or the conditions differ in length.
    """
    if len(after) != len(before):
        return None
    a, b = complete_pairs(after, before)
    return paired_bootstrap(a - b) if len(a) > 1 else None


def median_ratio(after: Items, before: Items, *, seed: int = 0) -> Interval | None:
    """Ratio of the medians after / before over their common items; see `quantile_ratio`."""
    return quantile_ratio(after, before, 0.5, seed=seed)


def quantile_ratio(
    after: Items, before: Items, quantile: float, *, seed: int = 0
) -> Interval | None:
    """Ratio of a quantile after / before over their common items, percentile bootstrap, 95 %.

    The items are resampled in pairs. None as `paired_difference`, and where the quantile of before
    is not positive.
    """
    if len(after) != len(before):
        return None
    a, b = complete_pairs(after, before)
    if len(a) < 2 or np.quantile(b, quantile) <= 0:
        return None
    index = resample(len(a), np.random.default_rng(seed))
    with np.errstate(all="ignore"):
        drawn = np.quantile(a[index], quantile, axis=1) / np.quantile(b[index], quantile, axis=1)
    return percentile_interval(float(np.quantile(a, quantile) / np.quantile(b, quantile)), drawn)


def geometric_ratio(after: Items, before: Items) -> Interval | None:
    """Ratio of the geometric means after / before over their common items, 95 %, in pairs.

    None as `paired_difference`; an item that is not positive has no logarithm, so no value.
    """
    logs = paired_difference(_logarithms(after), _logarithms(before))
    return None if logs is None else exponential(logs)


def _logarithms(values: Items) -> list[float | None]:
    return [None if v is None or not v > 0 else math.log(v) for v in values]


def shift_per_root(after: Items, before: Items, spent: Items, *, seed: int = 0) -> Interval | None:
    """Mean of after − before in pairs over √(mean of spent), percentile bootstrap, 95 %.

    What was gained for what was spent, where gain grows like the square root of the spending. The
    items of the two are not the same ones, so each are resampled by themselves. None as
    `paired_difference`, and where nothing was spent.
    """
    drawn = _gain_per_root(after, before, spent, seed)
    return None if drawn is None else percentile_interval(*drawn)


def per_root_difference(
    one: tuple[Items, Items], other: tuple[Items, Items], before: Items, *, seed: int = 0
) -> Interval | None:
    """`shift_per_root` of one (after, spent) less that of another, 95 %, on the same items.

    The items are resampled alike for both, where they have the same ones. None where one has none.
    """
    a, b = (_gain_per_root(after, before, spent, seed) for after, spent in (one, other))
    return None if a is None or b is None else percentile_interval(a[0] - b[0], a[1] - b[1])


def _gain_per_root(
    after: Items, before: Items, spent: Items, seed: int
) -> tuple[float, Float[np.ndarray, " resamples"]] | None:
    """The value of `shift_per_root` and its resamples."""
    if len(after) != len(before):
        return None
    a, b = complete_pairs(after, before)
    cost = np.array(known(spent))
    if min(len(a), len(cost)) < 2 or cost.mean() <= 0:
        return None
    rng = np.random.default_rng(seed)
    gains = (a - b)[resample(len(a), rng)].mean(1)
    with np.errstate(all="ignore"):
        drawn = gains / np.sqrt(cost[resample(len(cost), rng)].mean(1))
    return float((a - b).mean() / np.sqrt(cost.mean())), drawn


def two_sample_difference(a: Items, b: Items, *, seed: int = 0) -> Interval | None:
    """mean(a) − mean(b) of two independent samples, percentile bootstrap, 95 %.

    None where a side has fewer than two values.
    """
    x, y = np.array(known(a)), np.array(known(b))
    if min(len(x), len(y)) < 2:
        return None
    rng = np.random.default_rng(seed)
    of_x = x[resample(len(x), rng)].mean(1)
    of_y = y[resample(len(y), rng)].mean(1)
    return percentile_interval(float(x.mean() - y.mean()), of_x - of_y)


def resample(n: int, rng: np.random.Generator) -> Int[np.ndarray, "resamples n"]:
    """Indices of n items drawn with replacement, one resample a row."""
    return rng.integers(0, n, (RESAMPLES, n))


def percentile_interval(value: float, drawn: Float[np.ndarray, " resamples"]) -> Interval:
    """The value with the middle 95 % of its resamples; no bounds where too few are finite."""
    finite: Any = drawn[np.isfinite(drawn)]
    if len(finite) < 0.95 * len(drawn):
        return Interval(value, -math.inf, math.inf)
    low, high = np.quantile(finite, [0.025, 0.975])
    return Interval(value, min(value, float(low)), max(value, float(high)))

"""Estimates with their intervals: bootstrap, t, Wilson, AUROC and informedness."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from scipy import optimize, stats

from steer_heal_love.errors import DivergedError
from steer_heal_love.records import Interval

Values = Sequence[float | int] | Shaped[np.ndarray, " _"]

# Values per batch of resamples: bounds the memory of a bootstrap at about 32 MB.
_BATCH_VALUES = 2**22
_LARGEST_EXPONENT = 709.0  # exp stays a finite float


def bootstrap_mean(
    values: Values, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """The mean of independent values with its bootstrap interval, in the values' unit.

    BCa (bias-corrected and accelerated), percentile where BCa is not defined. Equal values give an
    interval of width zero, a single value one without bounds.

    Raises ValueError where there is no value, DivergedError where one is not finite.
    Source: Efron 1987, "Better Bootstrap Confidence Intervals"; scipy.stats.bootstrap.
    """
    return _bootstrap((_finite(values),), _mean_last, confidence, resamples, seed)


def geometric_mean(
    values: Values, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """exp of the mean logarithm of positive values, and of its interval as `bootstrap_mean`.

    Raises ValueError where there is no value, DivergedError where one is not finite or positive.
    """
    with np.errstate(all="ignore"):
        logs = np.log(np.asarray(values, dtype=np.float64))
    return exponential(bootstrap_mean(logs, confidence=confidence, resamples=resamples, seed=seed))


def exponential(interval: Interval) -> Interval:
    """exp of an estimate and of its bounds; infinite where a float holds it no more."""
    value, low, high = (
        math.exp(x) if x < _LARGEST_EXPONENT else math.inf
        for x in (interval.value, interval.low, interval.high)
    )
    return Interval(value, low, high)


def paired_bootstrap(
    differences: Values, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """The mean difference of two conditions on the same items, as `bootstrap_mean` of the items'
    differences: what the items have in common cancels.
    """
    return bootstrap_mean(differences, confidence=confidence, resamples=resamples, seed=seed)


def ratio_interval(
    numerators: Values,
    denominators: Values,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """The ratio of two means, resampled over the items that they share.

    `mean(numerators) / mean(denominators)`. Where resamples put the denominator at zero, the
    interval has no bounds.

    Raises ValueError where the lengths differ or there is no item, DivergedError where a value is
    not finite or the denominators' mean is zero.
    """
    above, below = _finite(numerators), _finite(denominators)
    if len(above) != len(below):
        raise ValueError(f"{len(above)} numerators for {len(below)} denominators")
    if below.mean() == 0:
        raise DivergedError("a ratio over a mean of zero; report the two means apart instead")
    return _bootstrap((above, below), _ratio_last, confidence, resamples, seed)


def bootstrap_statistic(
    values: Shaped[np.ndarray, " n"] | Shaped[np.ndarray, "n k"],
    statistic: Callable[[Any], float],
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Any statistic of independent rows with its bootstrap interval; `statistic` is called once per
    resample, with an array like `values`.

    Raises ValueError where there is no row, DivergedError where a value is not finite.
    """
    rows = np.asarray(values, dtype=np.float64)
    _finite(rows.ravel())
    if len(rows) > 1 and bool((rows == rows[0]).all()):
        return _point(float(statistic(rows)))

    def of_index(index: Any, axis: int) -> Any:
        return np.apply_along_axis(lambda chosen: statistic(rows[chosen]), axis, index)

    return _bootstrap((np.arange(len(rows)),), of_index, confidence, resamples, seed)


def _bootstrap(
    columns: tuple[Any, ...],
    statistic: Callable[..., Any],
    confidence: float,
    resamples: int,
    seed: int,
) -> Interval:
    """Bootstrap interval of a statistic (vectorised over an axis) of paired columns."""
    value, n = float(statistic(*columns, axis=-1)), len(columns[0])
    if n == 1:
        return Interval(value, -math.inf, math.inf)
    if all(bool((column == column[0]).all()) for column in columns):
        return _point(value)
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # scipy warns of a degenerate BCa, seen below as NaN
            low, high = stats.bootstrap(
                columns,
                statistic,
                n_resamples=resamples,
                batch=max(1, _BATCH_VALUES // n),
                vectorized=True,
                paired=True,
                confidence_level=confidence,
                method=method,
                random_state=np.random.default_rng(seed),
            ).confidence_interval
        if math.isfinite(low) and math.isfinite(high):
            return Interval(value, float(low), float(high))
    return Interval(value, -math.inf, math.inf)


def over_seeds(values: Values, *, confidence: float = 0.95) -> Interval:
    """The mean over a few runs that differ by their seed, with Student's t interval.

    A single value has an interval without bounds. Raises as `bootstrap_mean` does.
    """
    numbers = _finite(values)
    mean, n = float(numbers.mean()), len(numbers)
    if n == 1:
        return Interval(mean, -math.inf, math.inf)
    error = float(numbers.std(ddof=1)) / math.sqrt(n)
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * error
    return Interval(mean, mean - half, mean + half)


def auroc(positive: Values, negative: Values) -> float:
    """Probability that a positive scores above a negative, a tie counted as half.

    0.5 is chance, 1 a perfect separation; `U / (m n)` of Mann and Whitney 1947.

    Raises ValueError where a side is empty, DivergedError where a score is not finite.
    """
    above, below = _finite(positive), _finite(negative)
    ranks = stats.rankdata(np.concatenate([above, below]))
    m, n = len(above), len(below)
    return float((ranks[:m].sum() - m * (m + 1) / 2) / (m * n))


def auroc_interval(positive: Values, negative: Values, *, confidence: float = 0.95) -> Interval:
    """The AUROC A with a score interval, which stays honest where the separation is perfect (a
    bootstrap has width zero there).

    The bounds are the θ with `|A − θ| = z sqrt(V(θ))`, where
    `V(θ) = θ (1 − θ) (1 + (N − 1) ((1 − θ)/(2 − θ) + θ/(1 + θ))) / (m n)` and `N = (m + n) / 2`.

    Raises as `auroc` does.
    Source: method 5 of Newcombe 2006, doi:10.1002/sim.2324.
    """
    value, m, n = auroc(positive, negative), len(positive), len(negative)
    z = float(stats.norm.ppf((1 + confidence) / 2))

    def excess(theta: float) -> float:
        spread = 1 + ((m + n) / 2 - 1) * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return (value - theta) ** 2 - z**2 * theta * (1 - theta) * spread / (m * n)

    inside = min(max(value, 1e-12), 1 - 1e-12)  # at 0 and 1 the value itself is a root
    low = 0.0 if value == 0 else float(optimize.brentq(excess, 0.0, inside))
    high = 1.0 if value == 1 else float(optimize.brentq(excess, inside, 1.0))
    return Interval(value, low, high)


def proportion_interval(successes: int, total: int, *, confidence: float = 0.95) -> Interval:
    """A share of independent trials with Wilson's score interval, 0 to 1.

    Raises ValueError unless 0 ≤ successes ≤ total and total ≥ 1.
    Source: Wilson 1927, doi:10.1080/01621459.1927.10502953.
    """
    if total < 1 or not 0 <= successes <= total:
        raise ValueError(f"{successes} of {total} is not a share")
    bounds = stats.binomtest(successes, total).proportion_ci(confidence, method="wilson")
    return Interval(successes / total, float(bounds.low), float(bounds.high))


def excludes_zero(interval: Interval) -> bool:
    """Whether the whole interval lies on one side of zero."""
    return interval.low > 0 or interval.high < 0


def informedness(
    true: Sequence[Hashable], predicted: Sequence[Hashable], classes: Sequence[Hashable]
) -> float:
    """How far predictions depend on the truth: mean over classes of Youden's J, one against rest.

    `mean over the classes that occur of (TPR + TNR − 1)`: 1 for perfect predictions, 0 for one who
    always says the same, whatever the shares of the classes.

    Raises ValueError where the lengths differ, a label is none of `classes`, or fewer than two
    classes occur in the truth.
    Source: Youden 1950; Powers 2011, arXiv:2010.16061.
    """
    present = [c for c in dict.fromkeys(classes) if c in set(true)]
    if len(true) != len(predicted):
        raise ValueError(f"{len(true)} labels for {len(predicted)} predictions")
    if unknown := (set(true) | set(predicted)) - set(classes):
        raise ValueError(f"labels that are none of the classes: {sorted(map(repr, unknown))}")
    if len(present) < 2:
        raise ValueError("informedness needs at least two classes in the truth")
    return sum(_youden(true, predicted, c) for c in present) / len(present)


def _youden(true: Sequence[Hashable], predicted: Sequence[Hashable], label: Hashable) -> float:
    """True positive rate minus false positive rate of one class against the rest."""
    inside = [p == label for t, p in zip(true, predicted, strict=True) if t == label]
    outside = [p == label for t, p in zip(true, predicted, strict=True) if t != label]
    return sum(inside) / len(inside) - sum(outside) / len(outside)


def _finite(values: Values) -> Float[np.ndarray, " n"]:
    """The values as float64, at least one and all finite."""
    numbers = np.asarray(values, dtype=np.float64)
    if len(numbers) == 0:
        raise ValueError("no values to estimate from")
    if not bool(np.isfinite(numbers).all()):
        raise DivergedError("a value is NaN or infinite; find where it came from before averaging")
    return numbers


def _point(value: float) -> Interval:
    """An interval of width zero."""
    return Interval(value, value, value)


def _mean_last(values: Any, axis: int) -> Any:
    return np.mean(values, axis=axis)


def _ratio_last(above: Any, below: Any, axis: int) -> Any:
    with np.errstate(all="ignore"):
        return np.mean(above, axis=axis) / np.mean(below, axis=axis)

"""Intervals that cover what they claim, and metrics against their definitions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from steer_heal_love.errors import DivergedError
from steer_heal_love.maths.statistics import (
    auroc,
    auroc_interval,
    bootstrap_mean,
    bootstrap_statistic,
    excludes_zero,
    informedness,
    over_seeds,
    paired_bootstrap,
    proportion_interval,
    ratio_interval,
)
from steer_heal_love.records import Interval

FAST = {"resamples": 999}


def coverage(truth: float, simulate: Callable[[int], Interval], times: int = 500) -> float:
    hits = [simulate(seed) for seed in range(times)]
    return sum(interval.low <= truth <= interval.high for interval in hits) / times


def test_bootstrap_covers_the_mean() -> None:
    def simulate(seed: int) -> Interval:
        values = np.random.default_rng(seed).exponential(2.0, 60)
        return paired_bootstrap(values, seed=seed, **FAST)

    assert 0.93 <= coverage(2.0, simulate) <= 0.97


estimates = st.lists(st.floats(-100, 100), min_size=2, max_size=8).filter(
    lambda values: float(np.std(values)) > 1e-6
)


@given(estimates, st.floats(0.5, 0.99))
def test_over_seeds_is_students_interval(values: list[float], confidence: float) -> None:
    found = over_seeds(values, confidence=confidence)
    oracle = stats.ttest_1samp(values, 0.0).confidence_interval(confidence)
    assert found.value == pytest.approx(float(np.mean(values)))
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high), rel=1e-6, abs=1e-9)


def test_ratio_interval_covers_the_ratio() -> None:
    def simulate(seed: int) -> Interval:
        base = np.random.default_rng(seed).gamma(4.0, 1.0, 60)
        noise = np.random.default_rng(seed + 10_000).normal(0, 1, 60)
        return ratio_interval(0.5 * base + noise, base, seed=seed, **FAST)

    assert 0.93 <= coverage(0.5, simulate) <= 0.97


def test_auroc_interval_covers_the_auroc() -> None:
    def simulate(seed: int) -> Interval:
        rng = np.random.default_rng(seed)
        return auroc_interval(rng.normal(1.0, 1.0, 30), rng.normal(0.0, 1.0, 25))

    truth = float(stats.norm.cdf(1 / math.sqrt(2)))
    assert 0.93 <= coverage(truth, simulate, 1000) <= 0.98


def test_bootstrap_is_near_the_t_interval_and_repeats() -> None:
    values = np.random.default_rng(0).normal(1.0, 2.0, 400)
    interval, other = bootstrap_mean(values), over_seeds(values)
    assert interval.value == pytest.approx(values.mean())
    assert interval.low == pytest.approx(other.low, abs=0.02)
    assert interval.high == pytest.approx(other.high, abs=0.02)
    assert bootstrap_mean(values) == interval
    assert bootstrap_mean(values, seed=1) != interval
    wider = bootstrap_mean(values, confidence=0.99)
    assert wider.low < interval.low < interval.high < wider.high


@pytest.mark.parametrize("estimate", [bootstrap_mean, paired_bootstrap, over_seeds])
def test_degenerate_values(estimate: Any) -> None:
    assert estimate([0.5, 0.5, 0.5]) == Interval(0.5, 0.5, 0.5)
    assert estimate([2]) == Interval(2.0, -math.inf, math.inf)
    with pytest.raises(ValueError):
        estimate([])
    with pytest.raises(DivergedError):
        estimate([1.0, math.nan])


def test_bootstrap_of_two_values() -> None:
    interval = bootstrap_mean([0, 1])
    assert interval.value == 0.5
    assert 0.0 <= interval.low <= interval.high <= 1.0


def test_bootstrap_statistic() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0.0, 1.0, 40)
    mean = bootstrap_statistic(values, lambda v: float(v.mean()), **FAST)
    assert mean == bootstrap_mean(values, **FAST)
    pairs = np.stack([values, values + 0.1 * rng.normal(size=40)], axis=1)
    correlation = bootstrap_statistic(pairs, lambda v: float(np.corrcoef(v.T)[0, 1]), **FAST)
    assert 0.9 < correlation.low < correlation.value < correlation.high < 1.0


def test_bootstrap_statistic_where_bca_is_not_defined() -> None:
    values = np.arange(20.0)
    interval = bootstrap_statistic(values, lambda v: float(v[0] * 0 + 3), **FAST)
    assert interval == Interval(3.0, 3.0, 3.0)
    same = bootstrap_statistic(np.ones((5, 2)), lambda v: float(v.sum()), **FAST)
    assert same == Interval(10.0, 10.0, 10.0)
    single = bootstrap_statistic(np.ones((1, 2)), lambda v: float(v.sum()), **FAST)
    assert single == Interval(2.0, -math.inf, math.inf)
    never = bootstrap_statistic(values, lambda v: math.nan, **FAST)
    assert (never.low, never.high) == (-math.inf, math.inf)


def test_ratio_interval() -> None:
    interval = ratio_interval([1, 2, 3, 4], [2, 4, 6, 8], **FAST)
    assert interval.value == pytest.approx(0.5)
    assert interval.low == pytest.approx(0.5)
    assert interval.high == pytest.approx(0.5)
    assert ratio_interval([3, 3], [2, 2]) == Interval(1.5, 1.5, 1.5)
    unbounded = ratio_interval([1, 2, 1], [0, 0, 1], **FAST)
    assert unbounded.high == math.inf
    with pytest.raises(ValueError, match="numerators"):
        ratio_interval([1, 2], [1])
    with pytest.raises(DivergedError, match="mean of zero"):
        ratio_interval([1, 2], [1, -1])


scores = st.lists(st.integers(-3, 3), min_size=1, max_size=12)


@given(scores, scores)
def test_auroc_equals_its_definition(positive: list[int], negative: list[int]) -> None:
    wins = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    value = auroc(positive, negative)
    assert value == pytest.approx(sum(wins) / len(wins))
    assert auroc(negative, positive) == pytest.approx(1 - value)
    interval = auroc_interval(positive, negative)
    assert 0.0 <= interval.low <= interval.value <= interval.high <= 1.0


def test_auroc_at_the_ends() -> None:
    assert auroc([2, 3], [0, 1]) == 1.0
    perfect = auroc_interval(list(range(10, 20)), list(range(10)))
    assert perfect.high == 1.0
    assert 0.6 < perfect.low < 0.95
    assert auroc_interval([0], [1]).low == 0.0
    with pytest.raises(ValueError):
        auroc([], [1.0])


@pytest.mark.parametrize(("successes", "total"), [(0, 10), (3, 10), (10, 10), (240, 1000)])
def test_wilson_by_its_formula(successes: int, total: int) -> None:
    interval, z, p = proportion_interval(successes, total), stats.norm.ppf(0.975), successes / total
    centre = (p + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * math.sqrt(p * (1 - p) / total + z**2 / (4 * total**2))
    assert interval.value == p
    assert interval.low == pytest.approx(centre - half, abs=1e-9)
    assert interval.high == pytest.approx(centre + half, abs=1e-9)


@pytest.mark.parametrize(("successes", "total"), [(0, 0), (3, 2), (-1, 2)])
def test_shares_that_are_none(successes: int, total: int) -> None:
    with pytest.raises(ValueError, match="share"):
        proportion_interval(successes, total)


def test_excludes_zero() -> None:
    assert excludes_zero(Interval(1.0, 0.1, 2.0))
    assert excludes_zero(Interval(-1.0, -2.0, -0.1))
    assert not excludes_zero(Interval(1.0, 0.0, 2.0))
    assert not excludes_zero(Interval(1.0, -math.inf, math.inf))


LABELS = ["care", "fairness", "liberty", "other"]


@given(st.lists(st.sampled_from(LABELS[:3]), min_size=2, max_size=30), st.sampled_from(LABELS))
def test_a_constant_guesser_is_not_informed(true: list[str], guess: str) -> None:
    if len(set(true)) > 1:
        assert informedness(true, [guess] * len(true), LABELS) == pytest.approx(0.0)
        assert informedness(true, true, LABELS) == pytest.approx(1.0)


def test_informedness_by_hand() -> None:
    true, predicted = ["a", "a", "b", "b"], ["a", "b", "b", "b"]
    assert informedness(true, predicted, ["a", "b"]) == pytest.approx(0.5)
    assert informedness(true, ["b", "b", "a", "a"], ["a", "b"]) == pytest.approx(-1.0)


def test_informedness_refuses() -> None:
    with pytest.raises(ValueError, match="predictions"):
        informedness(["a", "b"], ["a"], ["a", "b"])
    with pytest.raises(ValueError, match="none of the classes"):
        informedness(["a", "b"], ["a", "c"], ["a", "b"])
    with pytest.raises(ValueError, match="two classes"):
        informedness(["a", "a"], ["a", "b"], ["a", "b"])

"""Paired differences and ratios: gaps, and coverage on simulated data."""

from __future__ import annotations

import math

import numpy as np
import pytest

from steer_heal_love.maths.paired import (
    complete_pairs,
    geometric_ratio,
    known,
    median_ratio,
    paired_difference,
    per_root_difference,
    shift_per_root,
    two_sample_difference,
)


def test_gaps_are_left_out_in_pairs() -> None:
    a, b = complete_pairs((1.0, None, 3.0, math.nan, 5.0), (0.0, 1.0, None, 2.0, 1.0))
    assert (a.tolist(), b.tolist()) == ([1.0, 5.0], [0.0, 1.0])
    assert known((1.0, None, math.inf, 2)) == [1.0, 2.0]
    with pytest.raises(ValueError, match="not the same items"):
        complete_pairs((1.0,), (1.0, 2.0))


def test_too_little_to_compare() -> None:
    for function in (paired_difference, median_ratio, geometric_ratio):
        assert function((1.0,), (1.0, 2.0)) is None
        assert function((1.0, None), (2.0, 3.0)) is None
    assert median_ratio((1.0, 2.0), (0.0, 0.0)) is None
    assert two_sample_difference((1.0, None), (2.0, 3.0)) is None


def test_a_geometric_ratio_is_of_the_logarithms() -> None:
    found = geometric_ratio((2.0, 8.0, None, 3.0), (1.0, 2.0, 5.0, 0.0))
    assert found is not None
    assert found.value == pytest.approx(8**0.5)
    same = geometric_ratio((6.0, 10.0, 16.0), (3.0, 5.0, 8.0))
    assert same is not None
    assert (same.low, same.high) == pytest.approx((2.0, 2.0))  # in pairs nothing is left to chance


def test_two_gains_for_what_they_cost_are_compared_on_the_same_items() -> None:
    rng = np.random.default_rng(0)
    spent = (0.5, 1.0, 1.5)
    before, *gains = rng.normal((0, 1, 1), size=(30, 3)).T.tolist()
    one, other = ([b + g for b, g in zip(before, gain, strict=True)] for gain in gains)
    more = [value + 0.1 for value in one]
    ahead = per_root_difference((one, spent), (other, spent), before)
    alone = [shift_per_root(after, before, spent) for after in (one, other)]
    assert ahead is not None
    assert alone[0] is not None
    assert alone[1] is not None
    assert ahead.value == pytest.approx(alone[0].value - alone[1].value)
    assert ahead.low < ahead.value < ahead.high
    same = per_root_difference((more, spent), (one, spent), before)
    assert same is not None  # resampled alike, so that only what is spent is left to chance
    assert same.high - same.low < 0.2 * (alone[0].high - alone[0].low)
    assert per_root_difference((one, spent), (other, (0.0, 0.0)), before) is None


def test_point_estimates() -> None:
    a, b = (2.0, 4.0, 9.0), (1.0, 2.0, 3.0)
    difference, ratio = paired_difference(a, b), median_ratio(a, b)
    assert difference is not None
    assert difference.value == pytest.approx(3.0)
    assert ratio is not None
    assert ratio.value == 2.0
    two = two_sample_difference(a, (1.0, 3.0))
    assert two is not None
    assert two.value == pytest.approx(3.0)


def test_twice_is_exactly_twice() -> None:
    b = tuple(np.random.default_rng(0).lognormal(2, 0.4, 64).tolist())
    found = median_ratio(tuple(2 * x for x in b), b)
    assert found is not None
    assert (found.low, found.value, found.high) == pytest.approx((2.0, 2.0, 2.0))


def test_coverage_of_median_ratio() -> None:
    """At least as often as it says: the bootstrap of a median errs on the wide side."""
    rng, hits, trials = np.random.default_rng(3), 0, 100
    for _ in range(trials):
        common = rng.normal(2, 0.1, 64)
        a, b = (np.exp(common + rng.normal(shift, 0.3, 64)) for shift in (0.2, 0.0))
        found = median_ratio(tuple(a.tolist()), tuple(b.tolist()))
        assert found is not None
        hits += found.low <= math.exp(0.2) <= found.high
    assert hits / trials >= 0.92


def test_coverage_of_two_samples() -> None:
    rng, hits, trials = np.random.default_rng(3), 0, 300
    for _ in range(trials):
        a, b = rng.normal(0.2, 0.3, 60), rng.normal(0.0, 0.4, 40)
        found = two_sample_difference(tuple(a.tolist()), tuple(b.tolist()))
        assert found is not None
        hits += found.low <= 0.2 <= found.high
    assert 0.91 <= hits / trials <= 0.98

"""Paired differences and ratios: gaps, and coverage on simulated data."""

from __future__ import annotations

import math

import numpy as np
import pytest

from steer_heal_love.maths.paired import (
    complete_pairs,
    known,
    median_ratio,
    paired_difference,
    two_sample_difference,
)


def test_gaps_are_left_out_in_pairs() -> None:
    a, b = complete_pairs((1.0, None, 3.0, math.nan, 5.0), (0.0, 1.0, None, 2.0, 1.0))
    assert (a.tolist(), b.tolist()) == ([1.0, 5.0], [0.0, 1.0])
    assert known((1.0, None, math.inf, 2)) == [1.0, 2.0]
    with pytest.raises(ValueError, match="not the same items"):
        complete_pairs((1.0,), (1.0, 2.0))


def test_too_little_to_compare() -> None:
    for function in (paired_difference, median_ratio):
        assert function((1.0,), (1.0, 2.0)) is None
        assert function((1.0, None), (2.0, 3.0)) is None
    assert median_ratio((1.0, 2.0), (0.0, 0.0)) is None
    assert two_sample_difference((1.0, None), (2.0, 3.0)) is None


def test_point_estimates() -> None:
    a, b = (2.0, 4.0, 9.0), (1.0, 2.0, 3.0)
    difference, ratio = paired_difference(a, b), median_ratio(a, b)
    assert difference is not None and difference.value == pytest.approx(3.0)
    assert ratio is not None and ratio.value == 2.0
    two = two_sample_difference(a, (1.0, 3.0))
    assert two is not None and two.value == pytest.approx(3.0)


def test_twice_is_exactly_twice() -> None:
    b = tuple(np.random.default_rng(0).lognormal(2, 0.4, 64).tolist())
    found = median_ratio(tuple(2 * x for x in b), b)
    assert found is not None
    assert (found.low, found.value, found.high) == pytest.approx((2.0, 2.0, 2.0))


@pytest.mark.parametrize("kind", ["median_ratio", "two_sample"])
def test_coverage(kind: str) -> None:
    rng, hits, trials = np.random.default_rng(3), 0, 200
    for _ in range(trials):
        common = rng.normal(2, 0.3, 64)
        a = np.exp(common + rng.normal(0.2, 0.2, 64))
        b = np.exp(common + rng.normal(0.0, 0.2, 64))
        if kind == "median_ratio":
            found, truth = median_ratio(tuple(a), tuple(b)), math.exp(0.2)
        else:
            found, truth = two_sample_difference(tuple(np.log(a)), tuple(np.log(b[::-1]))), 0.2
        assert found is not None
        hits += found.low <= truth <= found.high
    assert 0.90 <= hits / trials <= 0.99

"""Intervals over a few seeds, against textbook formulas and published figures."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from results.runs.chance import Estimate, excess, over_runs, paired, pooled, sampled
from scipy import stats

from steer_heal_love.maths.statistics import over_seeds, proportion_interval
from steer_heal_love.records import Interval

numbers = st.floats(-5, 5, allow_nan=False)


def test_of_one_run_the_interval_is_students_over_its_items() -> None:
    after, before = np.random.default_rng(0).normal(size=(2, 20))
    one = paired(after.tolist(), before.tolist())
    assert one is not None
    found = over_runs([one])
    low, high = stats.ttest_rel(after, before).confidence_interval(0.95)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((low, high))


@given(st.lists(numbers, min_size=2, max_size=6))
def test_where_items_do_not_vary_it_is_students_over_the_seeds(values: list[float]) -> None:
    found = over_runs([Estimate(v, 0.0, 30) for v in values])
    wanted = over_seeds(values)
    assert found is not None
    assert found.low == pytest.approx(wanted.low, abs=1e-9)
    assert found.high == pytest.approx(wanted.high, abs=1e-9)


@given(
    st.lists(numbers, min_size=2, max_size=5),
    st.floats(0.01, 2.0),
    st.integers(3, 60),
)
def test_both_sources_of_chance_are_added(values: list[float], error: float, items: int) -> None:
    """By hand: the variances add, the degrees of freedom are Welch's."""
    found = over_runs([Estimate(v, error, items) for v in values])
    n = len(values)
    of_seeds, of_items = float(np.var(values, ddof=1)) / n, error**2
    df = (of_seeds + of_items) ** 2 / (of_seeds**2 / (n - 1) + of_items**2 / (items - 1))
    half = stats.t.ppf(0.975, df) * math.sqrt(of_seeds + of_items)
    assert found is not None
    assert found.value == pytest.approx(np.mean(values), abs=1e-9)
    assert found.high - found.value == pytest.approx(half)


def test_gaps_are_left_out() -> None:
    found = paired([3.0, None, 5.0], [1.0, 9.0, 2.0])
    assert found is not None
    assert found.value == pytest.approx(2.5)
    assert found.items == 2
    assert paired([1.0], [1.0, 2.0]) is None
    assert paired([1.0, None], [1.0, 2.0]) is None


def test_one_run_of_sampled_texts_has_the_interval_of_its_items() -> None:
    own = Interval(1.0, 0.8, 1.3)
    assert sampled([1.0], own) == own
    assert sampled([1.0, 1.2], own) == over_seeds([1.0, 1.2])
    assert sampled([]) is None


def test_shares_are_of_all_samples_together() -> None:
    assert pooled([(1, 8), (0, 8), (2, 8)]) == proportion_interval(3, 24)
    assert pooled([]) is None


def test_the_difference_of_two_shares_is_newcombes() -> None:
    """His example (a): 56 of 70 less 48 of 80."""
    found = excess(proportion_interval(56, 70), proportion_interval(48, 80))
    assert found is not None
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert excess(None, proportion_interval(0, 4)) is None

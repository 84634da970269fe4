"""The dose walk and the bisection as decisions."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steer_heal_love.maths.dose_search import (
    Walk,
    WalkState,
    bisect_log_kappa,
    next_kappa,
    walk_exhausted,
)

WALK = Walk(start=2.0, decay=0.5, minimum=0.4, target_keep=0.6)


def test_next_kappa() -> None:
    assert next_kappa(2.0, 0.59, WALK) == 1.0
    assert next_kappa(2.0, 0.6, WALK) is None


def test_walk_exhausted() -> None:
    assert walk_exhausted(0.39, WALK)
    assert not walk_exhausted(0.4, WALK)


def test_walk_settles_where_enough_is_kept() -> None:
    state, probed = WalkState.begin(WALK), []
    while not state.settled:
        probed.append(state.kappa)
        state = state.update(0.9 if state.kappa < 1.5 else 0.1)
    assert probed == [2.0, 1.0]
    assert state.kappa == 1.0
    assert state.reached


def test_walk_ends_where_the_doses_do() -> None:
    state, probed = WalkState.begin(WALK), []
    while not state.settled:
        probed.append(state.kappa)
        state = state.update(0.0)
    assert probed == [2.0, 1.0, 0.5]
    assert state.kappa == 0.5
    assert not state.reached


@pytest.mark.parametrize(
    ("start", "decay", "minimum", "target"),
    [
        (1.0, 0.5, 2.0, 0.5),
        (1.0, 0.5, 0.0, 0.5),
        (math.inf, 0.5, 0.1, 0.5),
        (1.0, 1.0, 0.1, 0.5),
        (1.0, 0.0, 0.1, 0.5),
        (1.0, 0.5, 0.1, 1.5),
    ],
)
def test_walks_that_go_nowhere(start: float, decay: float, minimum: float, target: float) -> None:
    with pytest.raises(ValueError):
        Walk(start, decay, minimum, target)


@given(
    low=st.floats(1e-3, 1.0),
    factor=st.floats(1.0, 1e4),
    tolerance=st.floats(1e-3, 2.0),
    place=st.floats(-0.2, 1.2),
    steepness=st.floats(0.1, 50.0),
)
def test_bisection_finds_the_dose_in_time(
    low: float, factor: float, tolerance: float, place: float, steepness: float
) -> None:
    high, target = low * factor, 0.5
    threshold = low * factor**place  # the dose where the kept share falls through the target
    state = bisect_log_kappa(low, high, target_keep=target, tolerance=tolerance)
    width = math.log(high / low)
    budget = max(0, math.ceil(math.log2(width / tolerance))) if width > 0 else 0
    assert state.probes_at_most <= budget
    while not state.settled:
        probe = state.kappa
        assert state.low <= probe <= state.high
        assert probe == state.propose()
        share = 1 / (1 + (probe / threshold) ** min(steepness, 20))
        state = state.update(share)
    assert state.probes <= budget
    assert state.kappa == state.low
    nearest = min(max(threshold, low), high)
    assert math.log(state.low) <= math.log(nearest) + 1e-6
    assert abs(math.log(nearest / state.low)) <= tolerance + 1e-6
    assert state.reached == (state.low > low)


@pytest.mark.parametrize(
    ("low", "high", "target", "tolerance"),
    [(0.0, 1.0, 0.5, 0.1), (2.0, 1.0, 0.5, 0.1), (1.0, 2.0, 1.1, 0.1), (1.0, 2.0, 0.5, 0.0)],
)
def test_bad_brackets(low: float, high: float, target: float, tolerance: float) -> None:
    with pytest.raises(ValueError):
        bisect_log_kappa(low, high, target_keep=target, tolerance=tolerance)


def test_closed_bracket_is_settled() -> None:
    state = bisect_log_kappa(1.0, 1.0, target_keep=0.5)
    assert state.settled
    assert state.kappa == 1.0
    assert state.probes_at_most == 0

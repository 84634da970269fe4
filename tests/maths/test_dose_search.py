"""The dose walk and the bisection as decisions."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steer_heal_love.maths.dose_search import (
    Bisection,
    Bracket,
    Walk,
    WalkState,
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


@pytest.mark.parametrize(
    "state", [WalkState.begin(WALK), Bisection.begin(Bracket(0.5, 2.0, 0.5, step=2.0), 2.0)]
)
def test_a_search_that_finds_nothing_ends_where_the_doses_do(state: WalkState | Bisection) -> None:
    probed = []
    while not state.settled:
        probed.append(state.kappa)
        state = state.update(0.1)
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
    minimum=st.floats(1e-3, 1.0),
    width=st.floats(1.0, 1e4),
    guess=st.floats(1e-4, 1e5),
    place=st.floats(-0.2, 1.2),
    step=st.floats(1.05, 4.0),
    tolerance=st.floats(1e-2, 2.0),
)
def test_bisection_finds_the_dose_in_time(
    minimum: float, width: float, guess: float, place: float, step: float, tolerance: float
) -> None:
    maximum = minimum * width
    threshold = minimum * width**place  # the highest dose that keeps enough
    bracket = Bracket(minimum, maximum, 0.5, step, tolerance)
    state = Bisection.begin(bracket, guess)
    budget = 2 + math.ceil(math.log(width) / math.log(step))  # first guess, steps to either edge
    budget += max(0, math.ceil(math.log2(math.log(step) / tolerance))) + 1
    probed: list[float] = []
    while not state.settled:
        assert minimum <= state.kappa <= maximum
        assert state.kappa not in probed
        probed.append(state.kappa)
        state = state.update(1.0 if state.kappa <= threshold else 0.0)
    assert state.probes == len(probed) <= budget
    assert state.reached == any(kappa <= threshold for kappa in probed)
    if not state.reached:
        assert state.kappa == minimum > threshold
    elif state.broken is None:
        assert state.kappa == maximum <= threshold
    else:
        assert state.kappa in probed
        assert state.kappa <= threshold < state.broken
        assert math.log(threshold / state.kappa) <= tolerance + 1e-6


def test_a_good_guess_costs_little() -> None:
    """The last round's dose, still right: itself, one step up, and the bisections between."""
    bracket = Bracket(0.1, 4.0, 0.5, step=1.5, tolerance=0.25)
    state, probed = Bisection.begin(bracket, 1.0), []
    while not state.settled:
        probed.append(round(state.kappa, 3))
        state = state.update(1.0 if state.kappa < 1.1 else 0.0)
    assert probed == [1.0, 1.5, 1.225]
    assert state.kappa == 1.0


def test_bisection_at_its_ceiling_needs_one_probe() -> None:
    state = Bisection.begin(Bracket(0.1, 1.0, 0.5), 3.0)
    assert state.kappa == 1.0
    state = state.update(0.5)  # as much as is wanted will do
    assert state.settled
    assert state.reached
    assert state.kappa == 1.0


@pytest.mark.parametrize(
    ("minimum", "maximum", "target", "step", "tolerance"),
    [
        (0.0, 1.0, 0.5, 2.0, 0.1),
        (2.0, 1.0, 0.5, 2.0, 0.1),
        (1.0, math.inf, 0.5, 2.0, 0.1),
        (1.0, 2.0, 1.1, 2.0, 0.1),
        (1.0, 2.0, 0.5, 1.0, 0.1),
        (1.0, 2.0, 0.5, 2.0, 0.0),
    ],
)
def test_bad_brackets(
    minimum: float, maximum: float, target: float, step: float, tolerance: float
) -> None:
    with pytest.raises(ValueError):
        Bracket(minimum, maximum, target, step, tolerance)

"""The tilt's controller as decisions."""

from __future__ import annotations

import math
from dataclasses import astuple, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steer_heal_love.maths.tilt_control import (
    Bounds,
    Measured,
    Pace,
    TiltStrength,
    next_strength,
)

BOUNDS = Bounds(divergence=1.0, entropy=0.15, repetition=0.1, relevance=0.92, ended=0.9)
INSIDE = Measured(divergence=0.5, entropy_lost=0.05, repetition=0.0, relevance=1.0, ended=1.0)
EDGE = Measured(divergence=1.0, entropy_lost=-0.15, repetition=0.1, relevance=0.92, ended=0.9)
UNKNOWN = Measured(None, None, None, None, None)
PACE = Pace(
    highest=TiltStrength(14.0, 1.0, 1.5), lowest=TiltStrength(1.0, 0.1, 0.1), rise=1.1, fall=0.8
)
START = TiltStrength(contrast=4.0, kappa=0.5, steering=0.5)

parts = st.floats(0.0, 20.0)
strengths = st.builds(TiltStrength, parts, parts, parts)
values = st.none() | st.floats(-2.0, 3.0)
measurements = st.builds(Measured, values, values, values, values, values)


@st.composite
def paces(draw: st.DrawFn) -> Pace:
    ends = [sorted((draw(parts), draw(parts))) for _ in fields(TiltStrength)]
    return Pace(
        highest=TiltStrength(*(high for _, high in ends)),
        lowest=TiltStrength(*(low for low, _ in ends)),
        rise=draw(st.floats(1.0, 2.0)),
        fall=draw(st.floats(0.1, 1.0)),
    )


@pytest.mark.parametrize("measured", [INSIDE, EDGE], ids=["inside", "on the bounds"])
def test_it_rises_while_all_are_inside(measured: Measured) -> None:
    decision = next_strength(START, measured, BOUNDS, PACE)
    assert decision.hit == ()
    assert astuple(decision.strength) == pytest.approx((4.4, 0.55, 0.55))


@pytest.mark.parametrize(
    ("outside", "bound"),
    [
        ({"divergence": 1.01}, "divergence"),
        ({"entropy_lost": 0.16}, "entropy"),
        ({"entropy_lost": -0.16}, "entropy"),
        ({"repetition": 0.11}, "repetition"),
        ({"relevance": 0.91}, "relevance"),
        ({"ended": 0.89}, "ended"),
        ({"ended": math.nan}, "ended"),
        ({"divergence": math.nan}, "divergence"),
    ],
)
def test_it_falls_where_one_is_outside_and_says_which(
    outside: dict[str, float], bound: str
) -> None:
    decision = next_strength(START, replace(INSIDE, **outside), BOUNDS, PACE)
    assert decision.hit == (bound,)
    assert astuple(decision.strength) == pytest.approx((3.2, 0.4, 0.4))


def test_all_bounds_that_are_hit_are_named() -> None:
    decision = next_strength(START, Measured(9.0, 1.0, 1.0, 0.1, 0.1), BOUNDS, PACE)
    assert decision.hit == ("divergence", "entropy", "repetition", "relevance", "ended")


def test_what_is_not_measured_says_nothing() -> None:
    assert next_strength(START, UNKNOWN, BOUNDS, PACE).strength == START
    some = replace(UNKNOWN, divergence=0.2)
    assert next_strength(START, some, BOUNDS, PACE).strength.contrast > START.contrast
    assert next_strength(START, replace(some, ended=0.2), BOUNDS, PACE).hit == ("ended",)


@given(strengths, measurements, paces())
def test_it_stays_between_the_ends_and_off_stays_off(
    strength: TiltStrength, measured: Measured, pace: Pace
) -> None:
    after = astuple(next_strength(strength, measured, BOUNDS, pace).strength)
    ends = zip(astuple(strength), astuple(pace.lowest), astuple(pace.highest), strict=True)
    for part, (before, low, high) in zip(after, ends, strict=True):
        assert part == 0.0 if before == 0 else low <= part <= high


@given(strengths, measurements, paces())
def test_between_the_ends_the_direction_is_the_bounds(
    strength: TiltStrength, measured: Measured, pace: Pace
) -> None:
    """From a strength that lies between the ends: no part rises where a bound is hit."""
    ends = zip(astuple(strength), astuple(pace.lowest), astuple(pace.highest), strict=True)
    start = TiltStrength(*(min(max(part, low), high) for part, low, high in ends))
    decision = next_strength(start, measured, BOUNDS, pace)
    for before, after in zip(astuple(start), astuple(decision.strength), strict=True):
        assert after <= before if decision.hit else after >= before


@given(strengths, strengths, measurements, paces())
def test_a_stronger_tilt_stays_the_stronger(
    one: TiltStrength, other: TiltStrength, measured: Measured, pace: Pace
) -> None:
    weak = TiltStrength(*map(min, astuple(one), astuple(other)))
    strong = TiltStrength(*map(max, astuple(one), astuple(other)))
    after = [next_strength(s, measured, BOUNDS, pace).strength for s in (weak, strong)]
    assert all(a <= b for a, b in zip(*map(astuple, after), strict=True))


@given(strengths, measurements, st.floats(0.0, 2.0), st.sampled_from(fields(Measured)), paces())
def test_a_worse_measurement_never_raises_the_tilt(
    strength: TiltStrength, measured: Measured, by: float, field: object, pace: Pace
) -> None:
    name = field.name  # type: ignore[attr-defined]
    value = getattr(measured, name)
    if value is None:
        return
    if name in ("relevance", "ended"):
        worse = value - by
    elif name == "entropy_lost":
        worse = math.copysign(abs(value) + by, value)
    else:
        worse = value + by
    before = next_strength(strength, measured, BOUNDS, pace)
    after = next_strength(strength, replace(measured, **{name: worse}), BOUNDS, pace)
    assert set(before.hit) <= set(after.hit)
    pairs = zip(astuple(after.strength), astuple(before.strength), strict=True)
    assert all(low <= high for low, high in pairs)


def test_left_alone_it_reaches_either_end_and_comes_back() -> None:
    strength = START
    for _ in range(50):
        strength = next_strength(strength, INSIDE, BOUNDS, PACE).strength
    assert strength == PACE.highest
    for _ in range(50):
        strength = next_strength(strength, replace(INSIDE, ended=0.1), BOUNDS, PACE).strength
    assert strength == PACE.lowest
    assert next_strength(strength, INSIDE, BOUNDS, PACE).strength.contrast > strength.contrast


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="not negative"):
        TiltStrength(-1.0, 0.5, 0.5)
    with pytest.raises(ValueError, match="not negative"):
        TiltStrength(1.0, math.nan, 0.5)
    for rise, fall in [(0.9, 0.5), (1.1, 0.0), (1.1, 1.1), (math.inf, 0.5)]:
        with pytest.raises(ValueError, match="rise >= 1"):
            Pace(highest=START, rise=rise, fall=fall)
    with pytest.raises(ValueError, match="lowest strength"):
        Pace(highest=TiltStrength(8.0, 0.05, 1.0), lowest=TiltStrength(1.0, 0.1, 0.1))

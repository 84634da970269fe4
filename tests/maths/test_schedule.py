"""Schedules of the dose against their formulas in float64."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steer_heal_love.maths.schedule import CONSTANT, Schedule, ScheduleShape

SHAPES = get_args(ScheduleShape)

schedules = st.builds(Schedule, st.sampled_from(SHAPES), st.integers(1, 200), st.floats(0.001, 1.0))


def in_float64(schedule: Schedule, position: int) -> float:
    share = min(position / schedule.length, 1.0)
    match schedule.shape:
        case "constant":
            return 1.0
        case "linear":
            return 1.0 - (1.0 - schedule.floor) * share
        case "exponential":
            return float(np.exp(share * np.log(schedule.floor)))
        case "prefix":
            return 1.0 if position < schedule.length else schedule.floor


@given(schedules, st.lists(st.integers(0, 400), min_size=1, max_size=20))
def test_factors_are_those_of_the_formula(schedule: Schedule, positions: list[int]) -> None:
    found = schedule.factor(torch.tensor(positions))
    assert found.dtype == torch.float32
    expected = [in_float64(schedule, p) for p in positions]
    np.testing.assert_allclose(found.numpy(), expected, rtol=2e-6, atol=1e-6)


@given(schedules)
def test_factors_fall_from_one_to_the_floor(schedule: Schedule) -> None:
    factors = schedule.factor(torch.arange(2 * schedule.length + 2))
    assert factors[0] == 1.0
    assert (factors.diff() <= 0).all()
    assert factors.min() >= schedule.floor - 1e-6
    last = 1.0 if schedule.shape == "constant" else schedule.floor
    assert factors[schedule.length :].numpy() == pytest.approx(last, abs=1e-6)


def test_by_hand() -> None:
    positions = torch.arange(6)
    linear = Schedule("linear", 4, 0.2).factor(positions)
    torch.testing.assert_close(linear, torch.tensor([1.0, 0.8, 0.6, 0.4, 0.2, 0.2]))
    halved = Schedule("exponential", 4, 1 / 16).factor(positions)
    torch.testing.assert_close(halved, torch.tensor([1.0, 0.5, 0.25, 0.125, 0.0625, 0.0625]))
    assert Schedule("prefix", 2, 0.0).factor(positions).tolist() == [1, 1, 0, 0, 0, 0]
    assert CONSTANT.factor(positions).tolist() == [1.0] * 6


@pytest.mark.parametrize("size", [(), (3,), (2, 3)])
def test_factors_have_the_shape_of_the_positions(size: tuple[int, ...]) -> None:
    for shape in SHAPES:
        assert Schedule(shape, 4, 0.5).factor(torch.zeros(size).long()).shape == size


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"length": 0}, "at least one token"),
        ({"floor": -0.1}, "from 0 to 1"),
        ({"floor": 1.1}, "from 0 to 1"),
        ({"floor": float("nan")}, "from 0 to 1"),
        ({"shape": "exponential", "floor": 0.0}, "floor above 0"),
    ],
)
def test_what_is_no_schedule(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(**settings)

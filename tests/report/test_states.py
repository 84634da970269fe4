"""Figures out of metrics, whole or not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from steer_heal_love.records import Interval, Measurement
from steer_heal_love.report.states import State, paired_shift, parse_metrics, read_figure
from steer_heal_love.report.text.shifts import judge_shift


def test_states_in_the_order_of_the_method(make_metrics: Callable[..., Any]) -> None:
    names = [state.name for state in parse_metrics(make_metrics(2)).states]
    assert names == [
        "base", "round 0 steered", "round 0 healed", "round 1 steered", "round 1 healed",
    ]  # fmt: skip


def test_unfinished_states_keep_their_place(make_metrics: Callable[..., Any]) -> None:
    metrics = make_metrics(2)
    del metrics["base"], metrics["rounds"][1]["healed"]
    run = parse_metrics(metrics)
    assert [state.position for state in run.states] == [1, 2, 3]
    assert run.healed is run.rounds[0].healed is not None
    assert not run.is_finished


@pytest.mark.parametrize("value", [None, "7", True, math.nan, math.inf])
def test_what_is_no_number_is_not_measured(value: object) -> None:
    assert read_figure({"perplexity": value}, "perplexity") is None


@pytest.mark.parametrize("bounds", [None, [1.0], [None, 2.0], [-math.inf, 2.0], "ab"])
def test_broken_intervals_are_left_out(bounds: object) -> None:
    figure = read_figure({"perplexity": 7.0, "intervals": {"perplexity": bounds}}, "perplexity")
    assert figure == Interval(7.0, -math.inf, math.inf)
    assert figure.bounds is None


def test_paired_shift_leaves_out_items_without_a_value() -> None:
    base, healed, short, absent = (
        State(0, "x", None, Measurement({}, {"trait_nats": values}))
        for values in ((0.0, 1.0, None, 2.0), (1.0, 2.5, 9.0, 3.5), (1.0,), ())
    )
    shift = paired_shift(base, healed)
    assert shift is not None
    assert shift.value == pytest.approx(4 / 3)
    assert shift.low > 0
    for other in (short, absent, None):
        assert paired_shift(base, other) is paired_shift(other, base) is None


def test_direction_needs_intervals() -> None:
    low, high = Interval(0.1, 0.0, 0.2), Interval(0.5, 0.4, 0.6)
    assert judge_shift(low, high, None).direction == "up"
    assert judge_shift(high, low, None).direction == "down"
    assert judge_shift(low, Interval(0.2, 0.1, 0.3), None).direction == "unclear"
    assert judge_shift(low, Interval(0.9, -math.inf, math.inf), None).direction == "unclear"

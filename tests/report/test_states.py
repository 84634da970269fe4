"""Figures out of metrics, whole or not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from steer_heal_love.report.states import (
    Figure,
    last_healed,
    paired_shift,
    pipeline_states,
    read_figure,
)
from steer_heal_love.report.text.shifts import judge_shift


def test_states_in_the_order_of_the_method(make_metrics: Callable[..., Any]) -> None:
    names = [state.name for state in pipeline_states(make_metrics(2))]
    assert names == [
        "base", "round 0 steered", "round 0 healed", "round 1 steered", "round 1 healed",
    ]  # fmt: skip


def test_unfinished_states_keep_their_place(make_metrics: Callable[..., Any]) -> None:
    metrics = make_metrics(2)
    del metrics["base"], metrics["rounds"][1]["healed"]
    assert [state.position for state in pipeline_states(metrics)] == [1, 2, 3]
    healed = last_healed(metrics)
    assert healed is not None
    assert healed.round == 0


@pytest.mark.parametrize("value", [None, "7", True, math.nan, math.inf])
def test_what_is_no_number_is_not_measured(value: object) -> None:
    assert read_figure({"perplexity": value}, "perplexity") is None


@pytest.mark.parametrize("bounds", [None, [1.0], [None, 2.0], [-math.inf, 2.0], "ab"])
def test_broken_intervals_are_left_out(bounds: object) -> None:
    figure = read_figure({"perplexity": 7.0, "intervals": {"perplexity": bounds}}, "perplexity")
    assert figure == Figure(7.0)


def test_paired_shift_leaves_out_items_without_a_value() -> None:
    items = {
        "base": {"trait_nats": [0.0, 1.0, None, 2.0]},
        "healed": {"trait_nats": [1.0, 2.5, 9.0, 3.5]},
        "short": {"trait_nats": [1.0]},
    }
    shift = paired_shift(items, "base", "healed")
    assert shift is not None
    assert shift.value == pytest.approx(4 / 3)
    assert shift.low > 0
    assert paired_shift(items, "base", "short") is None
    assert paired_shift(items, "base", "absent") is None
    assert paired_shift({}, "base", "healed") is None


def test_direction_needs_intervals() -> None:
    low, high = Figure(0.1, (0.0, 0.2)), Figure(0.5, (0.4, 0.6))
    assert judge_shift(low, high, None).direction == "up"
    assert judge_shift(high, low, None).direction == "down"
    assert judge_shift(low, Figure(0.2, (0.1, 0.3)), None).direction == "unclear"
    assert judge_shift(low, Figure(0.9), None).direction == "unclear"

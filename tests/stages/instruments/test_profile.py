"""Figures of a profile against hand-made probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steer_heal_love.errors import DivergedError
from steer_heal_love.inputs.vignettes import FOUNDATIONS, Vignette
from steer_heal_love.stages.instruments.profile import profile_measurement

SEVEN = len(FOUNDATIONS)


def vignettes(n: int, *, human: bool = True) -> list[Vignette]:
    """n vignettes, the foundations in turn; people agree on each by 70 per cent."""
    found = []
    for i in range(n):
        shares = [0.05] * SEVEN
        shares[i % SEVEN] = 0.7
        name = FOUNDATIONS[i % SEVEN]
        found.append(Vignette(str(i), f"act {i}", name, tuple(shares) if human else None))
    return found


def confident(picks: list[int], p: float = 0.94) -> np.ndarray:
    """Probability p on each row's pick, the rest spread evenly."""
    rows = np.full((len(picks), SEVEN), (1 - p) / (SEVEN - 1))
    rows[np.arange(len(picks)), picks] = p
    return rows


@settings(max_examples=20)
@given(st.lists(st.lists(st.floats(-20, 20), min_size=7, max_size=7), min_size=2, max_size=9))
def test_the_profile_is_a_distribution(logits: list[list[float]]) -> None:
    exp = np.exp(np.array(logits))
    found = profile_measurement(vignettes(len(logits)), exp / exp.sum(1, keepdims=True), None)
    assert sum(found.value(f"p_{f}") for f in FOUNDATIONS) == pytest.approx(1)
    for f in FOUNDATIONS:
        inside, outside = found.figures[f"p_{f}"], found.figures[f"{f}_nats"]
        assert outside.value == pytest.approx(math.log(inside.value))
        assert outside.low <= outside.value <= outside.high


def test_a_perfect_answerer() -> None:
    items = vignettes(21)
    found = profile_measurement(items, confident([i % SEVEN for i in range(21)]), None)
    assert found.value("top1_accuracy") == 1
    assert found.value("informedness") == pytest.approx(1)
    expected = -(0.7 * math.log(0.94) + 6 * 0.05 * math.log(0.01))
    assert found.value("soft_nll") == pytest.approx(expected)


@pytest.mark.parametrize("pick", range(SEVEN))
def test_a_constant_guesser_is_not_informed(pick: int) -> None:
    found = profile_measurement(vignettes(24), confident([pick] * 24), None)
    interval = found.figures["informedness"]
    assert (interval.value, interval.low, interval.high) == (0, 0, 0)
    assert found.value("top1_accuracy") == pytest.approx((3 + (pick < 3)) / 24)


def test_without_human_shares_the_foundation_is_the_label() -> None:
    picks = [i % SEVEN for i in range(14)]
    found = profile_measurement(vignettes(14, human=False), confident(picks), None)
    assert found.value("top1_accuracy") == 1
    assert "soft_nll" not in found.figures
    assert set(found.items["soft_nll"]) == {None}
    assert not any(name.startswith("human_") for name in found.figures)


def test_items_are_in_the_order_of_the_vignettes() -> None:
    p = confident([0, 3, 6])
    mass = np.array([0.1, 0.2, 0.3])
    found = profile_measurement(vignettes(3), p, mass)
    assert found.items["p_authority"] == tuple(p[:, 3])
    assert found.items["p_ans_any"] == (0.1, 0.2, 0.3)
    assert found.items["top1"] == (0, 3, 6)
    assert found.items["top1_accuracy"] == (1, 0, 0)


def test_what_could_not_be_read_is_left_out_and_counted() -> None:
    p = confident([0, 1, 2, 3])
    p[1] = math.nan
    found = profile_measurement(vignettes(4), p, np.array([0.5, math.nan, 0.5, 0.5]))
    assert found.items["p_care"][1] is None
    assert found.items["top1_accuracy"][1] is None
    assert found.value("unscorable_share") == 0.25
    assert found.value("p_ans_any") == 0.5
    assert found.value("p_care") == pytest.approx(p[[0, 2, 3], 0].mean())


def test_nothing_could_be_read() -> None:
    with pytest.raises(DivergedError, match="no vignette could be read"):
        profile_measurement(vignettes(2), np.full((2, 7), math.nan), None)


def test_one_label_alone_has_no_informedness() -> None:
    same = [vignettes(1)[0]] * 3
    assert "informedness" not in profile_measurement(same, confident([0, 1, 2]), None).figures

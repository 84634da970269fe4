"""Entropy and its match against plain float64 formulas."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from steer_heal_love.maths.divergence import divergence_per_position
from steer_heal_love.maths.head import Head
from steer_heal_love.maths.temperature import (
    HIGHEST,
    LOWEST,
    Positions,
    entropy_per_position,
    match_entropy,
    mean_entropy,
    split_cross_entropy,
)

N, V = 13, 29
SEEDS = st.integers(0, 2**31)
TEMPERATURES = st.floats(0.3, 3.0)


def random_logits(seed: int, spread: float = 2.0, rows: int = N) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(rows, V, generator=generator, dtype=torch.float64)


def positions(logits: Tensor, *, held: bool = True, rows: int = 4) -> Positions:
    """Positions with these logits: the head is the identity."""
    head = Head(torch.eye(logits.shape[1], dtype=logits.dtype))
    held_elements = logits.numel() if held else 0
    size = logits.shape[1]
    return Positions(logits, head, chunk_elements=rows * size, held_elements=held_elements)


def naive_entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    log_p = (logits / temperature).log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def trait(logits: Tensor, temperature: float) -> float:
    """Mean of log p(token 0) − log p(token 1), as answer pairs have it."""
    log_p = (logits / temperature).log_softmax(-1)
    return float((log_p[:, 0] - log_p[:, 1]).mean())


@given(SEEDS, TEMPERATURES, st.booleans(), st.integers(1, 20))
def test_entropy_is_its_definition(seed: int, temperature: float, held: bool, rows: int) -> None:
    logits = random_logits(seed)
    asked = positions(logits, held=held, rows=rows)
    for _ in range(2):  # the second walk reads what the first held
        torch.testing.assert_close(
            entropy_per_position(asked, temperature), naive_entropy(logits, temperature)
        )
    expected = float(naive_entropy(logits, temperature).mean())
    assert mean_entropy(asked, temperature) == pytest.approx(expected)


@given(SEEDS, SEEDS, TEMPERATURES, st.integers(1, 20))
def test_cross_entropy_is_entropy_plus_divergence(
    seed: int, other: int, temperature: float, rows: int
) -> None:
    own, theirs = random_logits(seed), random_logits(other)
    targets = torch.arange(N) % V
    split = split_cross_entropy(
        positions(own, rows=rows), positions(theirs, rows=rows), targets, temperature
    )
    p, log_r = (own / temperature).softmax(-1), theirs.log_softmax(-1)
    torch.testing.assert_close(split.entropy + split.kl, -(p * log_r).sum(-1))
    torch.testing.assert_close(
        split.kl, divergence_per_position(own / temperature, theirs, "reverse")
    )
    torch.testing.assert_close(split.surprise, -log_r[torch.arange(N), targets])


@given(SEEDS, st.floats(LOWEST * 1.5, HIGHEST / 1.5), st.booleans())
def test_a_scaled_model_is_matched_by_its_scale(seed: int, scale: float, held: bool) -> None:
    logits = random_logits(seed)
    target = mean_entropy(positions(logits))
    found = match_entropy(positions(scale * logits, held=held), target)
    assert found == pytest.approx(scale, rel=2e-3)
    assert trait(scale * logits, found) - trait(logits, 1.0) == pytest.approx(0, abs=1e-3)
    # So is its divergence: nothing is left of it.
    split = split_cross_entropy(
        positions(scale * logits), positions(logits), torch.zeros(N, dtype=torch.long), found
    )
    assert float(split.kl.max()) < 1e-3


@given(SEEDS, st.integers(1, V - 1))
def test_a_tilt_that_keeps_the_entropy_is_left_as_it_is(seed: int, turn: int) -> None:
    logits = random_logits(seed)
    tilted = logits.roll(turn, -1)  # other tokens, and the same shape
    found = match_entropy(positions(tilted), mean_entropy(positions(logits)))
    assert found == 1.0


@settings(max_examples=30)
@given(SEEDS, st.floats(0.05, 0.95))
def test_the_match_has_the_entropy_that_was_asked_for(seed: int, share: float) -> None:
    asked = positions(random_logits(seed, 3.0))
    low, high = mean_entropy(asked, LOWEST), mean_entropy(asked, HIGHEST)
    target = low + share * (high - low)
    found = match_entropy(asked, target)
    assert found is not None
    assert LOWEST <= found <= HIGHEST
    assert mean_entropy(asked, found) == pytest.approx(target, abs=2e-4)


def test_weights_say_what_the_mean_is_over() -> None:
    logits = random_logits(5)
    weights = torch.zeros(N, dtype=torch.float64)
    weights[:3] = 1 / 3
    target = float(naive_entropy(logits[:3], 1.7).mean())
    found = match_entropy(positions(logits), target, weights)
    assert found == pytest.approx(1.7, rel=1e-2)
    assert found == pytest.approx(match_entropy(positions(logits[:3]), target))


def test_no_temperature_in_range_is_said() -> None:
    asked = positions(random_logits(0))
    assert match_entropy(asked, mean_entropy(asked, HIGHEST) + 0.01) is None
    assert match_entropy(asked, mean_entropy(asked, LOWEST) - 0.001) is None
    flat = positions(torch.zeros(N, V, dtype=torch.float64))
    assert match_entropy(flat, math.log(V)) == 1.0
    assert match_entropy(flat, 1.0) is None
    assert match_entropy(flat, math.nan) is None


def test_float32_is_as_good_as_the_claim() -> None:
    logits = random_logits(3, 4.0, rows=200).float()
    found = match_entropy(positions(1.4 * logits), mean_entropy(positions(logits)))
    assert found == pytest.approx(1.4, abs=1e-3)


def test_positions_must_agree() -> None:
    one, other = positions(random_logits(0)), positions(random_logits(0, rows=5))
    with pytest.raises(ValueError, match="same positions"):
        split_cross_entropy(one, other, torch.zeros(N, dtype=torch.long))


def test_no_position_has_no_split() -> None:
    none = positions(torch.empty(0, V, dtype=torch.float64))
    assert len(split_cross_entropy(none, none, torch.empty(0, dtype=torch.long)).kl) == 0


@given(SEEDS, TEMPERATURES, st.sampled_from([None, 2.5]))
def test_a_head_at_a_temperature_divides_its_logits(
    seed: int, temperature: float, cap: float | None
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(V, 6, generator=generator, dtype=torch.float64)
    head = Head(weight, torch.randn(V, generator=generator, dtype=torch.float64), cap, 1.7)
    hidden = torch.randn(N, 6, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(
        head.at(temperature).logits(hidden), head.logits(hidden) / temperature
    )
    assert head.at(1.0) is head
    with pytest.raises(ValueError, match="positive"):
        head.at(0.0)

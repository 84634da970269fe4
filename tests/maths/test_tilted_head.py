"""The head of a tilted distribution, against the formula in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from steer_heal_love.maths.head import Head
from steer_heal_love.maths.temperature import Positions, entropy_per_position, match_entropy
from steer_heal_love.maths.tilt import Tilt
from steer_heal_love.maths.tilted_head import TiltedHead

STOPS = (2, 5)


def some_states(rows: int = 5, width: int = 4, words: int = 11) -> tuple[Tensor, Head]:
    generator = torch.Generator().manual_seed(0)
    states = 2 * torch.randn(rows, 3 * width, generator=generator, dtype=torch.float64)
    return states, Head(torch.randn(words, width, generator=generator, dtype=torch.float64))


def by_hand(states: Tensor, head: Head, gamma: float, clip: float) -> Tensor:
    """log p_T, token by token: the stops as they are, the others by what is left to them."""
    plain, pos, neg = (torch.log_softmax(s @ head.weight.T, -1) for s in states.chunk(3, -1))
    rows = []
    for p0, up, down in zip(plain.tolist(), pos.tolist(), neg.tolist(), strict=True):
        p = [torch.tensor(x, dtype=torch.float64).exp() for x in p0]
        tilted = [
            0.0
            if k in STOPS
            else p[k] * min(max(gamma / 2 * (u - d), -clip), clip).__rpow__(torch.e)
            for k, (u, d) in enumerate(zip(up, down, strict=True))
        ]
        left = 1 - sum(p[k] for k in STOPS)
        share = left / sum(tilted)
        rows.append([p[k] if k in STOPS else share * tilted[k] for k in range(len(p))])
    return torch.tensor(rows, dtype=torch.float64).log()


@pytest.mark.parametrize("gamma", [0.5, 3.0])
def test_logits_are_the_formula(gamma: float) -> None:
    states, head = some_states()
    tilted = TiltedHead(head, Tilt(contrast=gamma, clip=1.5, stop_ids=STOPS))
    expected = by_hand(states, head, gamma, 1.5)
    assert torch.allclose(tilted.logits(states), expected, atol=1e-12)
    assert torch.allclose(tilted.at(0.5).logits(states), expected / 0.5, atol=1e-12)
    assert torch.allclose(tilted.at(0.5).at(2.0).logits(states), expected, atol=1e-12)


def test_entropy_in_chunks_and_its_match() -> None:
    states, head = some_states()
    tilted = TiltedHead(head, Tilt(contrast=2.0, stop_ids=STOPS))
    expected = by_hand(states, head, 2.0, 4.0)
    entropy = -(expected.exp() * expected).sum(-1)
    for elements in (1, 2 * len(head.weight), 10**6):
        own = Positions(states, tilted, chunk_elements=elements)
        assert torch.allclose(entropy_per_position(own), entropy, atol=1e-12)
    cooler = Positions(states, tilted.at(0.7))
    matched = match_entropy(cooler, float(entropy.mean()), tolerance=1e-10)
    assert matched == pytest.approx(1 / 0.7, abs=1e-6)


def test_no_temperature_at_or_below_nothing() -> None:
    _, head = some_states()
    with pytest.raises(ValueError, match="positive, not 0"):
        TiltedHead(head, Tilt()).at(0)

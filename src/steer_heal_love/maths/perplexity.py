"""Perplexity of a text, of its tail and of its worst window, from per-token log-probabilities."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

TAIL_SHARE = 0.25
MIN_TAIL = 8
WINDOW = 16
_LARGEST_EXPONENT = 700.0  # exp stays a finite float


def perplexity(logprobs: Float[Tensor, " tokens"]) -> float:
    """exp of the mean surprise over tokens; infinite for no token at all."""
    if len(logprobs) == 0:
        return math.inf
    return math.exp(min(-float(logprobs.mean()), _LARGEST_EXPONENT))


def tail_perplexity(logprobs: Float[Tensor, " tokens"]) -> float:
    """Perplexity of the last quarter, at least eight tokens: steering breaks a text midway."""
    return perplexity(logprobs[-max(MIN_TAIL, int(len(logprobs) * TAIL_SHARE)) :])


def worst_window_perplexity(logprobs: Float[Tensor, " tokens"]) -> float:
    """Perplexity of the least likely 16 tokens in a row (of the whole, where it is shorter)."""
    if len(logprobs) <= WINDOW:
        return perplexity(logprobs)
    worst = float(logprobs.unfold(0, WINDOW, 1).mean(-1).min())
    return math.exp(min(-worst, _LARGEST_EXPONENT))

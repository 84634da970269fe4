"""What to draw, with which noise and at which dose, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from steer_heal_love.lm.patches.hooks import Steering
from steer_heal_love.maths.backtrack import Backtrack
from steer_heal_love.maths.schedule import CONSTANT, Schedule


@dataclass(frozen=True)
class Sampling:
    """How to draw tokens: the `top_k` likeliest, of those the top-p nucleus. T = 0 is greedy.

    With `top_k` 0 all tokens are drawn from; a nucleus is then not to be had.
    """

    max_new_tokens: int = 96
    temperature: float = 1.0
    top_k: int = 64
    top_p: float = 0.95

    def __post_init__(self) -> None:
        """Refuse a nucleus of the whole vocabulary, which would have to be sorted."""
        if self.top_k == 0 and self.top_p < 1:
            raise ValueError(f"top_k 0 draws from all tokens, so top_p is 1, not {self.top_p}")


@dataclass(frozen=True)
class Dosing:
    """How the dose of a steering that is on follows each row while it is generated.

    A prompt is read at κ · factor(0); token t is drawn from a pass at κ · factor(t) over the token
    before it. `kappa` is of all rows, or one per row.
    """

    steering: Steering
    kappa: float | Sequence[float]
    schedule: Schedule = CONSTANT
    backtrack: Backtrack | None = None


@dataclass(frozen=True)
class Spent:
    """Forward work of one row, in tokens that went through a model, padding included.

    `prompt_tokens` were read, which gives the first token; each further one of the
    `sampled_tokens`, the rewound among them, took one more. `watched_tokens` went through the base
    model, prompt and all, to be scored.
    """

    prompt_tokens: int
    sampled_tokens: int
    watched_tokens: int


@dataclass(frozen=True)
class Generated:
    """Token ids after the prompt, and the end token apart (None where the limit cut it off).

    With a dosing, `kappas` are the doses at which the tokens were drawn, None where the row ran
    at its one κ throughout. With backtracking, `rewinds` counts the row's rewinds, `dropped` says
    that it was given up (its tokens end where the last fault showed), and `spent` what it cost.
    """

    token_ids: tuple[int, ...]
    end_id: int | None
    kappas: tuple[float, ...] | None = None
    rewinds: int = 0
    dropped: bool = False
    spent: Spent | None = field(default=None, compare=False)

    @property
    def drawn_tokens(self) -> int:
        """Tokens that were drawn, the end and those that were rewound too, or read to watch it."""
        if self.spent is not None:
            return self.spent.sampled_tokens + self.spent.watched_tokens
        return len(self.token_ids) + (self.end_id is not None)


def noise(seed: int, index: int, length: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The uniforms of row `index`, one per position: a function of (seed, index) alone.

    A row that is rewound draws with the same ones again, so that what changes is the dose alone.
    """
    return np.random.Generator(
        np.random.Philox(key=np.array([seed % 2**64, index], np.uint64))
    ).random(length)


def pick_tokens(
    logits: Float[Tensor, "batch vocab"],
    uniforms: Float[Tensor, " batch"],
    how: Sampling,
    temperatures: Float[Tensor, " batch"] | None = None,
) -> Int[Tensor, " batch"]:
    """Draw a token per row by inverting the cumulative distribution at that row's uniform.

    Top-k first, so that nothing sorts the whole vocabulary; the nucleus is taken inside it. With
    top-k 0 the tokens stand in the order of their ids.

    Args:
        temperatures: one per row, in place of `how.temperature`; 0 is greedy.
    """
    if temperatures is None:
        if how.temperature == 0:
            return logits.argmax(-1)
        temperatures = uniforms.new_full(uniforms.shape, how.temperature)
    if how.top_k == 0:
        return _pick_from_all(logits, uniforms, temperatures)
    values, ids = logits.topk(min(how.top_k, logits.shape[-1]), dim=-1)
    greedy = temperatures == 0
    probs = (values.float() / temperatures.float().where(~greedy, 1.0)[:, None]).softmax(-1)
    below = probs.cumsum(-1) - probs
    probs = probs * (below < how.top_p)
    cumulative = probs.cumsum(-1)
    threshold = uniforms.to(probs.dtype)[:, None] * cumulative[:, -1:]
    # A uniform next to 1 may round to the total: the last token of the nucleus then.
    # NaN logits have no nucleus: any token will do, since the caller looks for them.
    last = ((probs > 0).sum(-1, keepdim=True) - 1).clamp(min=0)
    choice = (cumulative <= threshold).sum(-1, keepdim=True).minimum(last)
    choice = choice.where(~greedy[:, None], 0)  # the likeliest comes first
    return ids.gather(-1, choice)[:, 0]


def _pick_from_all(logits: Tensor, uniforms: Tensor, temperatures: Tensor) -> Tensor:
    """Draw from the whole distribution."""
    greedy = temperatures == 0
    probs = (logits.float() / temperatures.float().where(~greedy, 1.0)[:, None]).softmax(-1)
    cumulative = probs.cumsum(-1)
    total = cumulative[:, -1:]
    choice = (cumulative <= uniforms.to(probs.dtype)[:, None] * total).sum(-1)
    # A uniform next to 1 may round to the total: the last token that adds to it then.
    choice = choice.minimum((cumulative < total).sum(-1))
    return choice.where(~greedy, logits.argmax(-1))

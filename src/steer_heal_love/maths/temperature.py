"""Entropy, its match to another model's by a temperature, and what a cross-entropy is made of.

A difference of log-probabilities scales with 1/T, so a model that is merely sharper than another
seems to have more of whatever the other has already. Two models are compared at equal entropy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from steer_heal_love.maths.head import Head
from steer_heal_love.maths.tilted_head import TiltedHead

CHUNK_ELEMENTS = 2**24  # logits that live at a time, beside those that are held
HELD_ELEMENTS = 2**27  # logits that are held, where the positions have no more: 512 MB of float32

LOWEST, HIGHEST = 0.1, 10.0  # temperatures that a match is looked for among
TOLERANCE_NATS = 1e-4  # of the mean entropy: far below what a trait's third decimal shows
_STEPS = 60


class Positions:
    """The logits of many positions, a chunk at a time, up to a constant of each position.

    Computed once and held where `held_elements` allows, computed anew for each walk else. No
    tensor beside what is held has more than `max(chunk_elements, V)` elements, a few of them live
    at once. No gradient.
    """

    def __init__(
        self,
        hidden: Float[Tensor, "n d"],
        head: Head | TiltedHead,
        *,
        chunk_elements: int = CHUNK_ELEMENTS,
        held_elements: int = 0,
    ) -> None:
        self.hidden, self.head = hidden, head
        vocabulary = len(head.weight)
        self.rows = max(1, chunk_elements // vocabulary)
        self._holds = len(hidden) * vocabulary <= held_elements
        self._held: list[Tensor] = []

    def __len__(self) -> int:
        return len(self.hidden)

    @torch.no_grad()
    def chunks(self) -> Iterator[tuple[slice, Float[Tensor, "rows V"]]]:
        """(which positions, their logits less the greatest of each position), in work dtype."""
        for k, start in enumerate(range(0, len(self), self.rows)):
            here = slice(start, min(start + self.rows, len(self)))
            if k < len(self._held):
                yield here, self._held[k]
                continue
            logits = self.head.logits(self.hidden[here])
            logits.sub_(logits.amax(-1, keepdim=True))
            if self._holds:
                self._held.append(logits)
            yield here, logits


@dataclass(frozen=True, eq=False)
class Split:
    """The expected cross-entropy of a student under a reference, −Σ p_s log p_r, in its two parts.

    `entropy + kl` is that cross-entropy at each position, exactly; `surprise` is −log p_r of the
    token that stands there, which it is the expectation of where the token was drawn from p_s.
    """

    entropy: Float[Tensor, " n"]  # H(student), nats
    kl: Float[Tensor, " n"]  # KL(student ‖ reference), nats
    surprise: Float[Tensor, " n"]  # nats


def entropy_per_position(positions: Positions, temperature: float = 1.0) -> Float[Tensor, " n"]:
    """Entropy of softmax(logits / temperature) at each position, in nats."""
    return _moments(positions, 1 / temperature)[0]


def mean_entropy(positions: Positions, temperature: float = 1.0) -> float:
    """Mean over the positions of the entropy at a temperature, nats a token."""
    return float(entropy_per_position(positions, temperature).double().mean())


def split_cross_entropy(
    student: Positions,
    reference: Positions,
    targets: Int[Tensor, " n"],
    temperature: float = 1.0,
) -> Split:
    """Entropy of the student at a temperature and its divergence from a reference at 1.

    Raises ValueError where the two have not the same positions, or are in chunks of other sizes.
    """
    if len(student) != len(reference) or student.rows != reference.rows:
        raise ValueError("student and reference must have the same positions, in the same chunks")
    parts: list[tuple[Tensor, ...]] = []
    chunks = zip(student.chunks(), reference.chunks(), strict=True)
    for (here, own), (_, theirs) in chunks:
        log_p = torch.log_softmax(own / temperature, -1)
        log_r = torch.log_softmax(theirs, -1)
        surprise = -log_r.gather(1, targets[here, None])[:, 0]
        p = log_p.exp()
        entropy = -torch.einsum("nv,nv->n", p, log_p)
        kl = torch.einsum("nv,nv->n", p, log_p.sub_(log_r)).clamp_(min=0)
        parts.append((entropy, kl, surprise))
    if not parts:
        none = student.hidden.new_empty(0, dtype=student.head.work_dtype)
        return Split(none, none, none)
    return Split(*(torch.cat(part) for part in zip(*parts, strict=True)))


def match_entropy(
    positions: Positions,
    target_nats: float,
    weights: Float[Tensor, " n"] | None = None,
    *,
    lowest: float = LOWEST,
    highest: float = HIGHEST,
    tolerance: float = TOLERANCE_NATS,
) -> float | None:
    """T* at which the mean entropy over the positions is `target_nats`; None where no T is.

    Newton on β = 1/T by dH/dβ = −β · Var(logits), the variance under softmax(β · logits), inside
    a bracket that each step narrows. It begins at T = 1, and ends there where that is the match.

    Args:
        weights: of each position in the mean, to the sum of 1; all alike unless given.
        lowest, highest: temperatures between which T* is looked for.
        tolerance: of the mean entropy, nats.
    """
    low, high = 1 / highest, 1 / lowest
    least, most = low, high  # ends that were not tried yet are tried before they are given up
    beta = 1.0
    for _ in range(_STEPS):
        entropy, variance = (_weighed(values, weights) for values in _moments(positions, beta))
        excess = entropy - target_nats
        if abs(excess) <= tolerance:
            return 1 / beta
        if not math.isfinite(excess) or beta == (most if excess > 0 else least):
            return None
        low, high = (beta, high) if excess > 0 else (low, beta)
        slope = -beta * variance
        step = beta - excess / slope if slope < 0 else (most if excess > 0 else least)
        beta = _inside(step, low, high, least, most)
    return None


def _weighed(values: Tensor, weights: Tensor | None) -> float:
    return float(values.double().mean() if weights is None else values.double() @ weights.double())


def _inside(step: float, low: float, high: float, least: float, most: float) -> float:
    """The step where it lies in the open bracket; else the bracket's end if untried, or middle."""
    if low < step < high:
        return step
    if step >= high == most or step <= low == least:
        return most if step >= high else least
    return math.sqrt(low * high)


def _moments(positions: Positions, beta: float) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Entropy of softmax(β z), and variance of the logits z under it, at each position."""
    size = len(positions)
    entropy, variance = (
        positions.hidden.new_empty(size, dtype=positions.head.work_dtype) for _ in range(2)
    )
    for here, z in positions.chunks():
        weight = (z * beta).exp_()  # no greater than 1: the greatest logit is 0
        total = weight.sum(-1)
        weight.mul_(z)
        mean = weight.sum(-1) / total
        entropy[here] = total.log() - beta * mean
        variance[here] = torch.einsum("nv,nv->n", weight, z) / total - mean.square()
    return entropy, variance.clamp_(min=0)

"""How far a student is from its reference, by position and sequence, and the heal loss on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from steer_heal_love.maths.head import Divergence, Head, head_losses

__all__ = [
    "Aggregate",
    "Divergence",
    "Head",
    "HealTerms",
    "aggregate_per_sequence",
    "barrier",
    "divergence_per_position",
    "head_losses",
    "heal_loss",
    "tau_by_persona",
]

Aggregate = Literal["mean", "rmse", "p95", "max"]


def divergence_per_position(
    student_logits: Float[Tensor, "n V"],
    reference_logits: Float[Tensor, "n V"],
    divergence: Divergence,
) -> Float[Tensor, " n"]:
    """KL divergence over the full vocabulary at each position, in nats.

    `reverse` is KL(student ‖ reference) = Σ p_s (log p_s − log p_r), `forward` is
    KL(reference ‖ student), `none` is zero. Computed in float32 or float64, differentiable.
    """
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    student = torch.log_softmax(student_logits.to(dtype), -1)
    reference = torch.log_softmax(reference_logits.to(dtype), -1)
    match divergence:
        case "reverse":
            return (student.exp() * (student - reference)).sum(-1)
        case "forward":
            return (reference.exp() * (reference - student)).sum(-1)
        case "none":
            return torch.zeros_like(student[:, 0])


def aggregate_per_sequence(
    kl: Float[Tensor, " n"],
    sequence: Int[Tensor, " n"],
    n_sequences: int,
    aggregate: Aggregate,
) -> Float[Tensor, " S"]:
    """One divergence per sequence, D, from the divergences of its positions, in nats.

    `mean`; `rmse` = sqrt(mean(kl²)), which a few spikes lift where they leave the mean low;
    `p95`, the linearly interpolated 95th percentile; `max`. `sequence` holds each position's
    sequence, 0 to `n_sequences` − 1. At kl = 0 the rmse is 0 with gradient 0.

    Raises ValueError where a sequence has no position, or an id is `n_sequences` or more.
    """
    counts = _positions_per_sequence(sequence, n_sequences).to(kl.dtype)
    zeros = kl.new_zeros(n_sequences)
    match aggregate:
        case "mean":
            return zeros.index_add(0, sequence, kl) / counts
        case "rmse":
            return _guarded_sqrt(zeros.index_add(0, sequence, kl.square()) / counts)
        case "p95":
            own = [kl[sequence == index] for index in range(n_sequences)]
            return torch.stack([torch.quantile(values, 0.95) for values in own])
        case "max":
            return zeros.scatter_reduce(0, sequence.long(), kl, "amax", include_self=False)


def _positions_per_sequence(sequence: Tensor, n_sequences: int) -> Tensor:
    """Counts, all of them positive."""
    counts = torch.bincount(sequence, minlength=n_sequences)
    if n_sequences < 1 or len(counts) != n_sequences or not bool((counts > 0).all()):
        raise ValueError(
            f"each of the {n_sequences} sequences needs a position, and no other may have one: "
            f"their counts are {counts.tolist()}; drop empty completions before the loss"
        )
    return counts


def _guarded_sqrt(squares: Tensor) -> Tensor:
    """Square root with value and gradient 0 at 0, where the plain gradient is infinite."""
    positive = squares > torch.finfo(squares.dtype).tiny
    return torch.where(positive, torch.where(positive, squares, 1.0).sqrt(), 0.0)


def barrier(divergence: Float[Tensor, " S"], tau: float) -> Float[Tensor, " S"]:
    """What exceeds the budget: `relu(D − τ)` per sequence, in nats."""
    return torch.relu(divergence - tau)


def tau_by_persona(multiple: float, persona_divergence: float) -> float:
    """A budget τ in nats that means the same on any model: a multiple of what a prompt does to it.

    `persona_divergence` is the D (same direction and aggregate as the barrier's, mean over
    sequences, nats) of the base model under the persona prompt from the base model without it, on
    the same texts.

    Raises ValueError where one of the two is not positive and finite.
    """
    if not (0 < multiple < math.inf and 0 < persona_divergence < math.inf):
        raise ValueError(
            "tau needs a positive multiple of a positive divergence, "
            f"not {multiple} times {persona_divergence} nats"
        )
    return multiple * persona_divergence


@dataclass(frozen=True, eq=False)
class HealTerms:
    """The heal loss and its parts; all but `over_tau` carry a gradient."""

    loss: Float[Tensor, ""]
    nll: Float[Tensor, ""]  # mean over sequences of the mean over positions, nats
    divergence: Float[Tensor, " S"]  # D per sequence, nats
    over_tau: Float[Tensor, ""]  # share of the sequences with D > τ


def heal_loss(
    nll: Float[Tensor, " n"],
    kl: Float[Tensor, " n"],
    sequence: Int[Tensor, " n"],
    n_sequences: int,
    *,
    aggregate: Aggregate,
    lam: float,
    tau: float,
) -> HealTerms:
    """Likelihood of the kept completions with a barrier on the divergence from the reference.

    `loss = mean over sequences of (mean nll + λ · relu(D − τ))`, where D is the `aggregate` of the
    sequence's kl. With λ = 0 it is plain fine-tuning, whatever the kl. All in nats.

    Raises ValueError as `aggregate_per_sequence` does.
    """
    likelihood = aggregate_per_sequence(nll, sequence, n_sequences, "mean").mean()
    divergence = aggregate_per_sequence(kl, sequence, n_sequences, aggregate)
    loss = likelihood if lam == 0 else likelihood + lam * barrier(divergence, tau).mean()
    over_tau = (divergence.detach() > tau).to(kl.dtype).mean()
    return HealTerms(loss, likelihood, divergence, over_tau)

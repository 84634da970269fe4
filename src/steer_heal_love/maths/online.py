"""The online heal's loss: towards a tilted teacher, behind a barrier, over an entropy floor."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from steer_heal_love.maths.divergence import Aggregate, aggregate_per_sequence, barrier
from steer_heal_love.maths.tilt import TiltedLosses


@dataclass(frozen=True, eq=False)
class OnlineTerms:
    """The online loss and its parts, in nats; all but `over_tau` carry a gradient."""

    loss: Float[Tensor, ""]
    to_teacher: Float[Tensor, ""]  # KL(student ‖ teacher), mean over positions
    from_teacher: Float[Tensor, ""]  # KL(teacher ‖ student), mean over positions
    divergence: Float[Tensor, " S"]  # D per sequence, from the base
    barrier: Float[Tensor, ""]  # mean over sequences of relu(D − τ)
    entropy_lost: Float[Tensor, ""]  # the base's less the student's, mean over positions
    below_floor: Float[Tensor, ""]  # relu(entropy lost − ε)
    over_tau: Float[Tensor, ""]  # share of the sequences with D > τ


def online_loss(
    losses: TiltedLosses,
    sequence: Int[Tensor, " n"],
    n_sequences: int,
    *,
    alpha: float,
    aggregate: Aggregate,
    lam: float,
    tau: float,
    mu: float,
    entropy_slack: float,
) -> OnlineTerms:
    """Whole distributions learnt on the student's own texts.

    `loss = (1 − α) · KL(p‖T) + α · KL(T‖p) + λ · mean over sequences of relu(D − τ)
    + μ · relu(H₀ − H − ε)`, with D the `aggregate` of the sequence's KL(p‖p₀) and ε the
    `entropy_slack`. A term with weight 0 has no part in the loss, whatever its value.

    The divergences and entropies are means over positions: each state the student visits counts
    once. Means over sequences of means would weigh a token by one over the length of its text, so
    that the longest texts, where loops and drift begin, would be taught the least per token, and
    ending early would change the weights. The barrier goes by sequence, as in `heal_loss`: its
    budget is a text's.

    Raises ValueError as `aggregate_per_sequence` does.
    """
    to_teacher, from_teacher = losses.to_teacher.mean(), losses.from_teacher.mean()
    divergence = aggregate_per_sequence(losses.to_base, sequence, n_sequences, aggregate)
    over = barrier(divergence, tau).mean()
    entropy_lost = losses.base_entropy.mean() - losses.entropy.mean()
    below_floor = torch.relu(entropy_lost - entropy_slack)
    weighed = [(1 - alpha, to_teacher), (alpha, from_teacher), (lam, over), (mu, below_floor)]
    loss = sum((w * term for w, term in weighed if w != 0), start=to_teacher.new_zeros(()))
    return OnlineTerms(
        loss=loss,
        to_teacher=to_teacher,
        from_teacher=from_teacher,
        divergence=divergence,
        barrier=over,
        entropy_lost=entropy_lost,
        below_floor=below_floor,
        over_tau=(divergence.detach() > tau).to(divergence.dtype).mean(),
    )

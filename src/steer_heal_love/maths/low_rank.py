"""Low-rank products: their norm, their best approximation of lower rank, and padding to a rank."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Truncated:
    """The best approximation of `B A` of a lower rank, and what it leaves out."""

    A: Float[Tensor, "r d_in"]
    B: Float[Tensor, "d_out r"]
    lost_square: float  # squared Frobenius norm of the part that is left out
    whole_square: float  # squared Frobenius norm of `B A`


def truncate(A: Float[Tensor, "rank d_in"], B: Float[Tensor, "d_out rank"], rank: int) -> Truncated:
    """The product of rank at most `rank` that is nearest to `B A`, as two float32 factors.

    With thin QR decompositions `B = Q S` and `Aᵀ = P T` the singular values of `B A` are those of
    the small matrix `S Tᵀ`; the first `rank` of them are kept, and each factor gets their root.
    Computed in float64; the product itself is never formed.

    Raises ValueError where `rank` is below 1.
    Source: Eckart and Young 1936, the approximation of one matrix by another of lower rank.
    """
    if rank < 1:
        raise ValueError(f"a rank must be at least 1, not {rank}")
    Q, S = torch.linalg.qr(B.double())
    P, T = torch.linalg.qr(A.double().t())
    U, values, Vh = torch.linalg.svd(S @ T.t(), full_matrices=False)
    roots = values[:rank].sqrt()
    squares = values.square()
    return Truncated(
        A=(roots[:, None] * (Vh[:rank] @ P.t())).float(),
        B=((Q @ U[:, :rank]) * roots).float(),
        lost_square=float(squares[rank:].sum()),
        whole_square=float(squares.sum()),
    )


def pad_rank(
    A: Float[Tensor, "r d_in"], B: Float[Tensor, "d_out r"], rank: int
) -> tuple[Float[Tensor, "rank d_in"], Float[Tensor, "d_out rank"]]:
    """The same product with zero rows and columns up to `rank`.

    Raises ValueError where the factors have a higher rank already.
    """
    missing = rank - A.shape[0]
    if missing < 0:
        raise ValueError(f"factors of rank {A.shape[0]} cannot be padded to rank {rank}")
    return (
        torch.cat([A, A.new_zeros(missing, A.shape[1])]),
        torch.cat([B, B.new_zeros(B.shape[0], missing)], dim=1),
    )

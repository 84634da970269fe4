"""The direction of a trait in the hidden states, and what adding it to them means."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from steer_heal_love.errors import DivergedError

Gate = Literal["none", "relu", "absolute", "complement"]
Operator = Literal["add", "rotate"]
Extraction = Literal["mean_difference", "principal", "separating"]


def mean_difference(
    pos: Float[Tensor, "n L d"], neg: Float[Tensor, "n L d"]
) -> Float[Tensor, "L d"]:
    """The direction: the mean over contexts of the paired differences of the hidden states.

    `v_l = mean over contexts c of h_l(pos ⊕ c) − h_l(neg ⊕ c)`, at raw scale, so that dose 1 is the
    shift that the persona itself causes. Accumulated in float64, returned in float32.

    Raises ValueError where there is no context.
    Source: Rimsky et al. 2024, arXiv:2312.06681, section 3.
    """
    if len(pos) == 0:
        raise ValueError("a direction needs at least one context")
    return (pos.double() - neg.double()).mean(0).float()


def principal_difference(
    pos: Float[Tensor, "n L d"], neg: Float[Tensor, "n L d"]
) -> Float[Tensor, "L d"]:
    """The mean difference's part along the first principal component of the differences.

    About zero, not about their mean: the component that holds most of the squares of the paired
    differences. Its sign and its length are the mean difference's, so that dose 1 is the shift that
    the persona causes along it. Computed in float64, returned in float32; zero where the
    differences are, and the mean difference, not finite either, where one of them is not finite.

    Raises ValueError where there is no context.
    """
    mean = mean_difference(pos, neg).double()
    if not bool(mean.isfinite().all()):
        return mean.float()
    differences = (pos.double() - neg.double()).transpose(0, 1)  # [L, n, d]
    component = torch.linalg.svd(differences, full_matrices=False).Vh[:, 0]
    return _along(mean, component).float()


def separating_difference(
    pos: Float[Tensor, "n L d"], neg: Float[Tensor, "n L d"]
) -> Float[Tensor, "L d"]:
    """The mean difference without its part along the mean of both personas' hidden states.

    What both have is no sign of either: along it the difference only lengthens or shortens the
    hidden state. Computed in float64, returned in float32.

    Raises ValueError where there is no context.
    """
    mean = mean_difference(pos, neg).double()
    shared = (pos.double() + neg.double()).mean(0)
    return (mean - _along(mean, shared)).float()


def extract_vectors(
    pos: Float[Tensor, "n L d"], neg: Float[Tensor, "n L d"], extraction: Extraction
) -> Float[Tensor, "L d"]:
    """The direction by `mean_difference`, `principal_difference` or `separating_difference`."""
    match extraction:
        case "mean_difference":
            return mean_difference(pos, neg)
        case "principal":
            return principal_difference(pos, neg)
        case "separating":
            return separating_difference(pos, neg)


def random_like(vectors: Float[Tensor, "L d"], *, seed: int) -> Float[Tensor, "L d"]:
    """Vectors in directions drawn at random, each of the norm of its own; float32, on the CPU."""
    drawn = torch.randn(vectors.shape, generator=torch.Generator().manual_seed(seed))
    return drawn / _norm(drawn) * _norm(vectors.float().cpu())


def _along(vectors: Tensor, onto: Tensor) -> Tensor:
    """The part of each vector along another, zero along a zero vector."""
    unit = onto / _norm(onto).clamp_min(torch.finfo(onto.dtype).tiny)
    return (vectors * unit).sum(-1, keepdim=True) * unit


def cosine(a: Float[Tensor, "*batch d"], b: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
    """Cosine similarity along the last axis, in float32, −1 to 1.

    Raises DivergedError where a vector has norm zero or is not finite: it points nowhere.
    """
    for vectors in (a, b):
        norms = torch.linalg.vector_norm(vectors.double(), dim=-1)
        if not bool(((norms > 0) & norms.isfinite()).all()):
            raise DivergedError(
                "a vector of norm zero, or one that is not finite, has no cosine; "
                "check that the two personas differ and that the hidden states are finite"
            )
    return _cosine(a.double(), b.double()).float()


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine in the vectors' own dtype, 0 for a zero vector."""
    tiny = torch.finfo(a.dtype).tiny
    unit_a, unit_b = (x / _norm(x).clamp_min(tiny) for x in (a, b))
    return (unit_a * unit_b).sum(-1).clamp(-1.0, 1.0)


def _norm(vectors: Tensor) -> Tensor:
    """Euclidean norm along the last axis, which is kept."""
    norm: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return norm


def layer_band(n_layers: int, low: float, high: float) -> range:
    """The decoder layers between two fractions of the depth, never empty.

    `range(round(low · n), round(high · n))`, so 40 to 60 % of 30 layers are `range(12, 18)`; a band
    thinner than a layer is the one layer at its lower end.

    Raises ValueError unless `n_layers` ≥ 1 and 0 ≤ low < high ≤ 1.
    """
    if n_layers < 1 or not 0.0 <= low < high <= 1.0:
        raise ValueError(
            f"a band needs 0 <= low < high <= 1 and a layer, not {low} to {high} of {n_layers}"
        )
    start = min(round(low * n_layers), n_layers - 1)
    return range(start, max(start + 1, round(high * n_layers)))


def steer(
    hidden: Float[Tensor, "b s d"],
    direction: Float[Tensor, " d"],
    kappa: float | Float[Tensor, ""] | Float[Tensor, "#b #s 1"],
) -> Float[Tensor, "b s d"]:
    """Hidden states with the direction added at dose κ: `h + κ v`.

    κ is a number, or one for each position. Added in float32, returned in the dtype of `hidden`.
    """
    return _add(hidden, direction, kappa).to(hidden.dtype)


def rotate_towards(
    hidden: Float[Tensor, "b s d"],
    direction: Float[Tensor, " d"],
    kappa: float | Float[Tensor, ""] | Float[Tensor, "#b #s 1"],
) -> Float[Tensor, "b s d"]:
    """Hidden states turned towards the direction, each at its old norm.

    `(h + κ v) · |h| / |h + κ v|` per position, in float32, returned in the dtype of `hidden`. A
    position that the direction cancels exactly stays zero.
    """
    steered = _add(hidden, direction, kappa)
    norm = _norm(steered).clamp_min(torch.finfo(torch.float32).tiny)
    return (steered * (_norm(hidden.float()) / norm)).to(hidden.dtype)


def _add(hidden: Tensor, direction: Tensor, kappa: float | Tensor) -> Tensor:
    """`h + κ v` in float32."""
    return hidden.float() + kappa * direction.float()


def cosine_gate(
    hidden: Float[Tensor, "b s d"], direction: Float[Tensor, " d"], gate: Gate
) -> Float[Tensor, "b s 1"]:
    """A factor on the dose at each position, from the cosine of hidden state and direction.

    `none`: 1. `relu`: max(cos, 0). `absolute`: |cos|. `complement`: 1 − max(cos, 0), which steers
    most where the direction is not there yet. Float32, 0 to 1; a zero vector has cosine 0 here,
    since a hook cannot afford to look at every position's norm.
    """
    if gate == "none":
        return torch.ones_like(hidden[..., :1], dtype=torch.float32)
    similarity = _cosine(hidden.float(), direction.float()).unsqueeze(-1)
    match gate:
        case "relu":
            return similarity.clamp_min(0.0)
        case "absolute":
            return similarity.abs()
        case "complement":
            return 1.0 - similarity.clamp_min(0.0)


def intervene(
    hidden: Float[Tensor, "b s d"],
    direction: Float[Tensor, " d"],
    kappa: float | Float[Tensor, ""] | Float[Tensor, "#b #s 1"],
    gate: Gate = "none",
    operator: Operator = "add",
) -> Float[Tensor, "b s d"]:
    """Hidden states moved along the direction: the dose through the gate, then the operator.

    `add` is `steer`, `rotate` is `rotate_towards`; the gate looks at the states before either.
    """
    if gate != "none":
        kappa = kappa * cosine_gate(hidden, direction, gate)
    match operator:
        case "add":
            return steer(hidden, direction, kappa)
        case "rotate":
            return rotate_towards(hidden, direction, kappa)

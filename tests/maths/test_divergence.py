"""Aggregation per sequence and the heal loss."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from steer_heal_love.maths.divergence import (
    Aggregate,
    Divergence,
    Head,
    aggregate_per_sequence,
    barrier,
    divergence_per_position,
    head_losses,
    heal_loss,
    tau_by_persona,
)

AGGREGATES: list[Aggregate] = ["mean", "rmse", "p95", "max"]
SEQUENCE = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 1, 0])


def naive_aggregate(kl: Tensor, sequence: Tensor, aggregate: Aggregate) -> Tensor:
    own = [kl[sequence == i] for i in sequence.unique()]
    match aggregate:
        case "mean":
            return torch.stack([v.mean() for v in own])
        case "rmse":
            return torch.stack([v.square().mean().sqrt() for v in own])
        case "p95":
            return torch.stack([torch.quantile(v, 0.95) for v in own])
        case "max":
            return torch.stack([v.max() for v in own])


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize("divergence", ["reverse", "forward"])
def test_loss_equals_the_naive_reference(divergence: Divergence, aggregate: Aggregate) -> None:
    generator = torch.Generator().manual_seed(3)
    n, d, vocabulary, lam, tau = len(SEQUENCE), 5, 23, 1.3, 0.4
    hidden, reference = torch.randn(2, n, d, generator=generator)
    head = Head(torch.randn(vocabulary, d, generator=generator))
    targets = torch.randint(vocabulary, (n,), generator=generator)

    leaf = hidden.double().requires_grad_()
    wide = Head(head.weight.double())
    logits = wide.logits(leaf)
    nll = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    kl = divergence_per_position(logits, wide.logits(reference.double()), divergence)
    distance = naive_aggregate(kl, SEQUENCE, aggregate)
    expected = (naive_aggregate(nll, SEQUENCE, "mean") + lam * (distance - tau).relu()).mean()
    expected.backward()

    hidden.requires_grad_()
    losses = head_losses(hidden, reference, targets, head, divergence, 4 * vocabulary)
    terms = heal_loss(*losses, SEQUENCE, 3, aggregate=aggregate, lam=lam, tau=tau)
    terms.loss.backward()
    assert terms.loss.item() == pytest.approx(expected.item(), rel=1e-4)
    torch.testing.assert_close(terms.divergence.double(), distance.detach(), rtol=1e-4, atol=1e-6)
    assert terms.over_tau.item() == pytest.approx((distance > tau).double().mean().item())
    assert hidden.grad is not None
    torch.testing.assert_close(hidden.grad.double(), leaf.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_aggregates_pass_gradcheck(aggregate: Aggregate) -> None:
    kl = torch.rand(len(SEQUENCE), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(
        lambda x: aggregate_per_sequence(x, SEQUENCE, 3, aggregate), kl.requires_grad_()
    )


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_fresh_adapter_has_finite_value_and_gradient(aggregate: Aggregate) -> None:
    kl = torch.zeros(len(SEQUENCE), requires_grad=True)
    divergence = aggregate_per_sequence(kl, SEQUENCE, 3, aggregate)
    divergence.sum().backward()
    assert divergence.eq(0).all()
    assert kl.grad is not None
    assert kl.grad.isfinite().all()
    if aggregate == "rmse":
        assert kl.grad.eq(0).all()


def test_rmse_at_tiny_values_stays_finite() -> None:
    kl = torch.full((4,), 1e-18, requires_grad=True)
    aggregate_per_sequence(kl, torch.zeros(4, dtype=torch.long), 1, "rmse").sum().backward()
    assert kl.grad is not None
    assert kl.grad.abs().max() <= 0.5 + 1e-3


def test_a_short_loop_lifts_the_rmse_and_not_the_mean() -> None:
    kl = torch.full((60,), 0.01)
    kl[30:34] = 5.7  # four tokens of a loop inside sixty
    one = torch.zeros(60, dtype=torch.long)
    assert aggregate_per_sequence(kl, one, 1, "mean").item() == pytest.approx(0.39, abs=0.02)
    assert aggregate_per_sequence(kl, one, 1, "rmse").item() == pytest.approx(1.47, abs=0.05)


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize("n_sequences", [0, 2, 4])
def test_every_sequence_needs_a_position(aggregate: Aggregate, n_sequences: int) -> None:
    with pytest.raises(ValueError, match="needs a position"):
        aggregate_per_sequence(torch.ones(len(SEQUENCE)), SEQUENCE, n_sequences, aggregate)


def test_barrier_is_flat_below_tau() -> None:
    assert barrier(torch.tensor([0.2, 0.5, 1.5]), 0.5).tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_without_lambda_it_is_plain_fine_tuning(aggregate: Aggregate) -> None:
    generator = torch.Generator().manual_seed(5)
    nll, kl = torch.rand(2, len(SEQUENCE), generator=generator)
    nll, kl = nll.requires_grad_(), (kl * 100).requires_grad_()
    terms = heal_loss(nll, kl, SEQUENCE, 3, aggregate=aggregate, lam=0.0, tau=0.1)
    terms.loss.backward()
    plain = nll.detach().clone().requires_grad_()
    naive_aggregate(plain, SEQUENCE, "mean").mean().backward()
    assert terms.loss.item() == pytest.approx(terms.nll.item())
    torch.testing.assert_close(nll.grad, plain.grad)
    assert kl.grad is None
    assert terms.over_tau.item() == 1.0


def test_tau_by_persona_is_a_multiple() -> None:
    assert tau_by_persona(1.5, 0.4) == pytest.approx(0.6)


@pytest.mark.parametrize(
    "pair", [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.0), (1.0, math.nan), (2.0, math.inf)]
)
def test_tau_by_persona_needs_positive_numbers(pair: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="positive"):
        tau_by_persona(*pair)

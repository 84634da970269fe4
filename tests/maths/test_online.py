"""The online loss on whole distributions, against a float64 reference on all logits."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from test_divergence import AGGREGATES, SEQUENCE, naive_aggregate
from test_head import make_head
from test_tilt import TILTS, make_states, naive_losses
from torch import Tensor

from steer_heal_love.maths.divergence import Aggregate
from steer_heal_love.maths.online import OnlineTerms, online_loss
from steer_heal_love.maths.tilt import TeacherStates, TiltedLosses, tilted_losses

SCALARS = ["loss", "to_teacher", "from_teacher", "barrier", "entropy_lost", "below_floor"]


def given_losses(seed: int = 0) -> TiltedLosses:
    """Losses of twelve positions as leaves."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(5, len(SEQUENCE), generator=generator, dtype=torch.float64)
    return TiltedLosses(*(row.clone().requires_grad_() for row in values))


def loss_of(losses: TiltedLosses, **changes: float) -> OnlineTerms:
    weights = {"alpha": 0.3, "lam": 1.3, "tau": 0.2, "mu": 0.7, "entropy_slack": 0.1} | changes
    return online_loss(losses, SEQUENCE, 3, aggregate="rmse", **weights)


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize("slack", [-3.0, 0.05, 3.0], ids=["floor acts", "near", "floor rests"])
def test_loss_equals_the_naive_reference(aggregate: Aggregate, slack: float) -> None:
    head, (hidden, states) = make_head(bias=True, softcap=4.0), make_states(n=len(SEQUENCE))
    alpha, lam, tau, mu = 0.3, 1.3, 0.9, 0.7

    leaf, naive = naive_losses(hidden, states, head, TILTS["both"])
    distance = naive_aggregate(naive.to_base, SEQUENCE, aggregate)
    lost = naive.base_entropy.mean() - naive.entropy.mean()
    expected = (
        (1 - alpha) * naive.to_teacher.mean()
        + alpha * naive.from_teacher.mean()
        + lam * (distance - tau).relu().mean()
        + mu * (lost - slack).relu()
    )
    expected.backward()

    hidden.requires_grad_()
    losses = tilted_losses(hidden, states, head, TILTS["both"], 4 * len(head.weight))
    terms = online_loss(
        losses,
        SEQUENCE,
        3,
        alpha=alpha,
        aggregate=aggregate,
        lam=lam,
        tau=tau,
        mu=mu,
        entropy_slack=slack,
    )
    terms.loss.backward()
    assert terms.loss.item() == pytest.approx(expected.item(), rel=1e-4)
    assert terms.entropy_lost.item() == pytest.approx(lost.item(), rel=1e-4, abs=1e-5)
    torch.testing.assert_close(terms.divergence.double(), distance.detach(), rtol=1e-4, atol=1e-6)
    assert terms.over_tau.item() == pytest.approx((distance > tau).double().mean().item())
    assert hidden.grad is not None
    torch.testing.assert_close(hidden.grad.double(), leaf.grad, rtol=1e-3, atol=1e-5)


def test_each_visited_state_counts_once() -> None:
    """A token of a long text has the weight of one of a short text."""
    losses = given_losses()
    loss_of(losses, lam=0.0, mu=0.0).loss.backward()
    for own, share in [(losses.to_teacher, 0.7), (losses.from_teacher, 0.3)]:
        torch.testing.assert_close(own.grad, torch.full_like(own, share / len(SEQUENCE)))


@pytest.mark.parametrize(
    ("weight", "unused"),
    [
        ({"alpha": 0.0}, ["from_teacher"]),
        ({"alpha": 1.0}, ["to_teacher"]),
        ({"lam": 0.0}, ["to_base"]),
        ({"mu": 0.0}, ["entropy"]),
        ({"lam": 0.0, "mu": 0.0}, ["to_base", "entropy"]),
    ],
)
def test_a_term_without_weight_has_no_part(weight: dict[str, float], unused: list[str]) -> None:
    """Not even where its value is infinite."""
    losses = given_losses()
    spoilt = replace(losses, **{name: torch.full((12,), torch.inf) for name in unused})
    terms = loss_of(spoilt, **weight)
    terms.loss.backward()
    assert terms.loss.isfinite()
    for field in fields(losses):
        grad = getattr(losses, field.name).grad
        assert grad is None or grad.isfinite().all()


def test_inside_its_bounds_only_the_teacher_pulls() -> None:
    losses = given_losses()
    terms = loss_of(losses, tau=5.0, entropy_slack=5.0)
    terms.loss.backward()
    assert terms.barrier.item() == terms.below_floor.item() == terms.over_tau.item() == 0.0
    assert losses.to_base.grad is not None
    assert losses.to_base.grad.eq(0).all()
    assert losses.entropy.grad is not None
    assert losses.entropy.grad.eq(0).all()


def test_below_the_floor_the_entropy_is_pushed_up() -> None:
    losses = given_losses()
    terms = loss_of(replace(losses, base_entropy=losses.base_entropy.detach() + 2))
    terms.loss.backward()
    assert losses.entropy.grad is not None
    torch.testing.assert_close(losses.entropy.grad, torch.full_like(losses.entropy, -0.7 / 12))
    assert terms.below_floor.item() == pytest.approx(terms.entropy_lost.item() - 0.1)


def test_the_loss_is_made_of_its_terms() -> None:
    """So that parts of a batch can be put together from their terms."""
    terms = loss_of(given_losses())
    loss, *parts = (getattr(terms, name) for name in SCALARS)
    to_teacher, from_teacher, barrier, _, below_floor = parts
    torch.testing.assert_close(
        loss, 0.7 * to_teacher + 0.3 * from_teacher + 1.3 * barrier + 0.7 * below_floor
    )
    assert all(part.requires_grad for part in [*parts, terms.divergence])


def test_a_fresh_student_without_a_tilt_has_no_gradient() -> None:
    head, (_, states) = make_head(), make_states(n=len(SEQUENCE))
    hidden = states.base.clone().requires_grad_()
    losses = tilted_losses(hidden, TeacherStates(states.base), head, TILTS["none"])
    terms = loss_of(losses)
    (gradient,) = torch.autograd.grad(terms.loss, hidden)
    assert gradient.abs().max() < 1e-7
    assert terms.loss.abs() < 1e-7


def test_every_sequence_needs_a_position() -> None:
    losses: TiltedLosses = given_losses()
    sequence: Tensor = torch.zeros(len(SEQUENCE), dtype=torch.long)
    with pytest.raises(ValueError, match="needs a position"):
        online_loss(
            losses,
            sequence,
            2,
            alpha=0.3,
            aggregate="rmse",
            lam=1.0,
            tau=1.0,
            mu=1.0,
            entropy_slack=0.15,
        )

"""The teacher against its formula, the chunked losses against float64 autograd on all logits."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_head import HEADS, LargestTensor, make_head
from torch import Tensor

from steer_heal_love.maths.head import Head
from steer_heal_love.maths.tilt import (
    TeacherStates,
    Tilt,
    TiltedLosses,
    teacher_log_probabilities,
    tilted_losses,
)

N, D, V = 11, 6, 37
TILTS = {
    "both": Tilt(steering=1.0, contrast=4.0, clip=2.0, stop_ids=(3, 30)),
    "contrast": Tilt(contrast=8.0, stop_ids=(0,)),
    "steering": Tilt(steering=0.5),
    "unclipped": Tilt(steering=1.0, contrast=2.0, clip=math.inf, stop_ids=(5,)),
    "none": Tilt(stop_ids=(3,)),
}


def make_states(n: int = N, seed: int = 2, spread: float = 1.0) -> tuple[Tensor, TeacherStates]:
    """The student's states, and those of a teacher whose five readings lie about its base."""
    generator = torch.Generator().manual_seed(seed)
    hidden, base = spread * torch.randn(2, n, D, generator=generator)
    others = base + 0.2 * spread * torch.randn(4, n, D, generator=generator)
    return hidden, TeacherStates(base, *others)


def cast(states: TeacherStates, dtype: torch.dtype) -> TeacherStates:
    return TeacherStates(*(getattr(states, field.name).to(dtype) for field in fields(states)))


def widened(head: Head) -> Head:
    bias = None if head.bias is None else head.bias.double()
    return Head(head.weight.double(), bias, head.softcap, head.scale)


def naive_teacher(states: TeacherStates, head: Head, tilt: Tilt) -> Tensor:
    """log p_T in float64, by probabilities: what is held is written over, the rest divided anew."""
    wide = cast(states, torch.float64)
    base, plus, minus, positive, negative = (
        torch.log_softmax(widened(head).logits(getattr(wide, field.name)), -1)
        for field in fields(wide)
    )
    odd, contrast = (plus - minus) / 2, (positive - negative) / 2
    tilted = tilt.steering * odd + tilt.contrast * contrast
    teacher = torch.softmax(base + tilted.clamp(-tilt.clip, tilt.clip), -1)
    stops = list(tilt.stop_ids)
    free = [v for v in range(len(head.weight)) if v not in stops]
    p = base.exp()
    result = torch.empty_like(p)
    result[:, stops] = p[:, stops]
    share = teacher[:, free] / teacher[:, free].sum(-1, keepdim=True)
    result[:, free] = share * p[:, free].sum(-1, keepdim=True)
    return result.log()


def naive_losses(
    hidden: Tensor, states: TeacherStates, head: Head, tilt: Tilt
) -> tuple[Tensor, TiltedLosses]:
    """The five losses in float64, and the hidden states they can be differentiated by."""
    leaf = hidden.detach().double().requires_grad_()
    student = torch.log_softmax(widened(head).logits(leaf), -1)
    base = torch.log_softmax(widened(head).logits(states.base.double()), -1)
    teacher = naive_teacher(states, head, tilt)
    p = student.exp()
    return leaf, TiltedLosses(
        to_teacher=(p * (student - teacher)).sum(-1),
        from_teacher=(teacher.exp() * (teacher - student)).sum(-1),
        to_base=(p * (student - base)).sum(-1),
        entropy=-(p * student).sum(-1),
        base_entropy=-(base.exp() * base).sum(-1),
    )


def as_tuple(losses: TiltedLosses) -> tuple[Tensor, ...]:
    return tuple(getattr(losses, field.name) for field in fields(losses))


def weighed(losses: TiltedLosses) -> Tensor:
    """Some scalar that needs all gradients, with a different weight for each row and loss."""
    rows = torch.linspace(0.5, 2.0, len(losses.entropy), dtype=losses.entropy.dtype)
    return (
        (losses.to_teacher * rows).sum()
        + (losses.from_teacher * rows.flip(0)).sum()
        + losses.to_base.square().mean().sqrt()
        - (losses.entropy * rows.square()).mean()
    )


def assert_equal_to_naive(
    hidden: Tensor, states: TeacherStates, head: Head, tilt: Tilt, tight: bool
) -> None:
    """Every loss and the gradient of each by itself and of all together."""
    value, gradient = ((1e-10, 1e-12), (1e-9, 1e-12)) if tight else ((1e-4, 5e-6), (1e-3, 2e-5))
    leaf, expected = naive_losses(hidden, states, head, tilt)
    hidden = hidden.detach().clone().requires_grad_()
    losses = tilted_losses(hidden, states, head, tilt, chunk_elements=4 * V)
    for own, other in zip(as_tuple(losses), as_tuple(expected), strict=True):
        assert own.dtype == head.work_dtype
        torch.testing.assert_close(own.double(), other, rtol=value[0], atol=value[1])
    assert not losses.base_entropy.requires_grad
    scalars = [
        [*(loss.sum() for loss in as_tuple(each)[:4]), weighed(each)] for each in (losses, expected)
    ]
    for own, other in zip(*scalars, strict=True):
        (mine,) = torch.autograd.grad(own, hidden, retain_graph=True)
        (theirs,) = torch.autograd.grad(other, leaf, retain_graph=True)
        torch.testing.assert_close(mine.double(), theirs, rtol=gradient[0], atol=gradient[1])


@pytest.mark.parametrize("options", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("tilt", TILTS.values(), ids=TILTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_naive_reference(
    dtype: torch.dtype, tilt: Tilt, options: dict[str, Any]
) -> None:
    head, (hidden, states) = make_head(dtype, **options), make_states()
    tight = dtype == torch.float64
    assert_equal_to_naive(hidden.to(dtype), cast(states, dtype), head, tilt, tight)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    spread=st.floats(0.1, 3.0),
    steering=st.floats(0.0, 2.0),
    contrast=st.floats(0.0, 12.0),
    clip=st.floats(0.5, 8.0),
    stop_ids=st.sets(st.integers(0, V - 1), max_size=3),
)
def test_any_tilt_equals_the_naive_reference(
    seed: int, spread: float, steering: float, contrast: float, clip: float, stop_ids: set[int]
) -> None:
    hidden, states = make_states(seed=seed, spread=spread)
    tilt = Tilt(steering, contrast, clip, tuple(stop_ids))
    head = make_head(torch.float64, softcap=20.0)
    double = cast(states, torch.float64)
    assert_equal_to_naive(hidden.double(), double, head, tilt, tight=True)
    teacher = teacher_log_probabilities(double, head, tilt)
    torch.testing.assert_close(teacher, naive_teacher(double, head, tilt), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("options", HEADS.values(), ids=HEADS)
def test_gradcheck(options: dict[str, Any]) -> None:
    head, (hidden, states) = make_head(torch.float64, **options), make_states(n=5)
    states = cast(states, torch.float64)
    assert torch.autograd.gradcheck(
        lambda h: as_tuple(tilted_losses(h, states, head, TILTS["both"], 3 * V))[:4],
        hidden.double().requires_grad_(),
    )


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    contrast=st.floats(0.0, 14.0),
    boost=st.floats(-30.0, 60.0),
    stop_ids=st.sets(st.integers(0, V - 1), min_size=1, max_size=4),
)
def test_the_mass_of_the_stops_is_held(
    seed: int, contrast: float, boost: float, stop_ids: set[int]
) -> None:
    """From a turn that cannot end to one that must: `boost` is on the stops' logits."""
    _, states = make_states(seed=seed)
    stops = sorted(stop_ids)
    bias = torch.zeros(V)
    bias[stops] = boost
    head = replace(make_head(), bias=bias)
    tilt = Tilt(contrast=contrast, stop_ids=tuple(stops))
    teacher = teacher_log_probabilities(states, head, tilt)
    base = torch.log_softmax(head.logits(states.base), -1)
    assert teacher.isfinite().all()
    torch.testing.assert_close(teacher[:, stops].exp(), base[:, stops].exp(), rtol=0, atol=1e-5)
    torch.testing.assert_close(teacher.exp().sum(-1), torch.ones(N), rtol=0, atol=1e-5)


def test_the_tilt_of_a_token_is_clipped() -> None:
    """Two tokens that are not stops differ by what their tilts, at most ±c each, allow."""
    _, states = make_states(spread=3.0)
    head, tilt = make_head(), Tilt(steering=2.0, contrast=20.0, clip=0.5, stop_ids=(1,))
    moved = teacher_log_probabilities(states, head, tilt) - torch.log_softmax(
        head.logits(states.base), -1
    )
    assert moved[:, 1].eq(0).all()
    free = torch.cat([moved[:, :1], moved[:, 2:]], 1)
    spread = free.amax(-1) - free.amin(-1)
    assert spread.max() <= 2 * 0.5 + 1e-5
    assert spread.max() >= 2 * 0.5 - 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_a_tilt_the_base_model_has_nothing_to_learn(dtype: torch.dtype) -> None:
    head, (_, states) = make_head(dtype, softcap=5.0), make_states()
    base = states.base.to(dtype)
    hidden = base.clone().requires_grad_()
    losses = tilted_losses(hidden, TeacherStates(base), head, Tilt(stop_ids=(2, 9)), 3 * V)
    divergences = losses.to_teacher + losses.from_teacher + losses.to_base
    (gradient,) = torch.autograd.grad(divergences.sum(), hidden)
    assert divergences.abs().max() < 1e-6
    assert gradient.abs().max() < 1e-6
    torch.testing.assert_close(losses.entropy, losses.base_entropy, rtol=0, atol=1e-6)


def test_without_a_tilt_the_teacher_is_the_base_model() -> None:
    head, (_, states) = make_head(), make_states()
    teacher = teacher_log_probabilities(TeacherStates(states.base), head, Tilt())
    assert teacher.equal(torch.log_softmax(head.logits(states.base), -1))


@settings(max_examples=25)
@given(st.integers(1, 20 * V), st.sampled_from([*TILTS.values()]), st.integers(1, N))
def test_any_chunk_size_gives_the_same(elements: int, tilt: Tilt, n: int) -> None:
    head, (hidden, states) = make_head(bias=True, softcap=2.0), make_states(n)
    results = []
    for size in (elements, 10**6):
        leaf = hidden.clone().requires_grad_()
        losses = tilted_losses(leaf, states, head, tilt, size)
        weighed(losses).backward()
        results.append((*(x.detach() for x in as_tuple(losses)), leaf.grad))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


def test_bfloat16_stays_near_the_reference() -> None:
    head, (hidden, states) = make_head(torch.bfloat16, softcap=9.0), make_states()
    hidden, states = hidden.bfloat16(), cast(states, torch.bfloat16)
    leaf, expected = naive_losses(hidden, states, head, TILTS["both"])
    hidden.requires_grad_()
    losses = tilted_losses(hidden, states, head, TILTS["both"], 4 * V)
    weighed(losses).backward()
    weighed(expected).backward()
    for own, other in zip(as_tuple(losses), as_tuple(expected), strict=True):
        assert own.dtype == torch.float32
        torch.testing.assert_close(own.double(), other, rtol=0.03, atol=0.03)
    assert hidden.grad is not None
    assert leaf.grad is not None
    assert hidden.grad.dtype == torch.bfloat16
    assert (hidden.grad.double() - leaf.grad).norm() / leaf.grad.norm() < 0.03


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("softcap", [None, 4.0])
def test_no_tensor_is_larger_than_a_chunk(softcap: float | None, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    head = Head(torch.randn(500, 4, generator=generator).to(dtype), softcap=softcap)
    hidden, *states = torch.randn(6, 64, 4, generator=generator).to(dtype)
    hidden.requires_grad_()
    with LargestTensor() as largest:
        losses = tilted_losses(
            hidden, TeacherStates(*states), head, TILTS["both"], chunk_elements=5_000
        )
        weighed(losses).backward()
    assert largest.numel == 5_000


def test_without_gradient_and_without_rows() -> None:
    head, (hidden, states) = make_head(), make_states()
    _, expected = naive_losses(hidden, states, head, TILTS["both"])
    with torch.no_grad():
        losses = tilted_losses(hidden.requires_grad_(), states, head, TILTS["both"])
    for own, other in zip(as_tuple(losses), as_tuple(expected), strict=True):
        assert not own.requires_grad
        torch.testing.assert_close(own.double(), other.detach(), rtol=1e-4, atol=5e-6)
    empty = TeacherStates(*(getattr(states, field.name)[:0] for field in fields(states)))
    losses = tilted_losses(hidden[:0], empty, head, TILTS["both"])
    losses.entropy.sum().backward()
    assert losses.entropy.shape == (0,)


def test_states_that_are_weighed_are_needed() -> None:
    head, (hidden, states) = make_head(), make_states()
    half = TeacherStates(states.base, states.plus, states.minus, positive=states.positive)
    assert tilted_losses(hidden, half, head, Tilt(steering=1.0)).entropy.isfinite().all()
    with pytest.raises(ValueError, match="contrast is 2"):
        tilted_losses(hidden, half, head, Tilt(contrast=2.0))
    with pytest.raises(ValueError, match="steering is 1"):
        teacher_log_probabilities(TeacherStates(states.base), head, Tilt(steering=1.0))
    with pytest.raises(ValueError, match="chunk_elements"):
        tilted_losses(hidden, states, head, Tilt(), chunk_elements=0)


@pytest.mark.parametrize(
    "options",
    [
        {"steering": -0.1},
        {"contrast": -1.0},
        {"contrast": math.inf},
        {"contrast": math.nan},
        {"clip": 0.0},
        {"clip": -4.0},
        {"clip": math.nan},
    ],
)
def test_what_is_no_tilt_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"a tilt's (weights|clip)"):
        Tilt(**options)  # type: ignore[arg-type]

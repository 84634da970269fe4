"""The chunked losses against a plain float64 reference with autograd on the whole logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from steer_heal_love.maths.divergence import (
    Divergence,
    Head,
    divergence_per_position,
    head_losses,
)

N, D, V = 11, 6, 37
HEADS = {
    "plain": {},
    "bias": {"bias": True},
    "softcap": {"softcap": 3.0},
    "scale": {"scale": 0.3},
    "all": {"bias": True, "softcap": 2.0, "scale": 1.7},
}


def make_head(dtype: torch.dtype = torch.float32, **options: Any) -> Head:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(V, D, generator=generator).to(dtype)
    bias = torch.randn(V, generator=generator).to(dtype) if options.pop("bias", False) else None
    return Head(weight, bias, **options)


def make_inputs(dtype: torch.dtype = torch.float32, n: int = N) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    hidden, reference = torch.randn(2, n, D, generator=generator).to(dtype)
    return hidden, reference, torch.randint(V, (n,), generator=generator)


def naive(
    hidden: Tensor, reference: Tensor, targets: Tensor, head: Head, divergence: Divergence
) -> tuple[Tensor, Tensor, Tensor]:
    """nll and kl in float64, and the hidden states they can be differentiated by."""
    bias = None if head.bias is None else head.bias.double()
    head = Head(head.weight.double(), bias, head.softcap, head.scale)
    leaf = hidden.detach().double().requires_grad_()
    logits = head.logits(leaf)
    nll = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    kl = divergence_per_position(logits, head.logits(reference.double()), divergence)
    return leaf, nll, kl


def weighed(nll: Tensor, kl: Tensor) -> Tensor:
    """Some scalar that needs both gradients, with a different weight for each row."""
    weights = torch.linspace(0.5, 2.0, len(nll), dtype=nll.dtype)
    return (nll * weights + kl.square() * weights.flip(0)).sum()


@pytest.mark.parametrize("options", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("divergence", ["reverse", "forward", "none"])
def test_equals_the_naive_reference(divergence: Divergence, options: dict[str, Any]) -> None:
    head, (hidden, reference, targets) = make_head(**options), make_inputs()
    leaf, *expected = naive(hidden, reference, targets, head, divergence)
    hidden.requires_grad_()
    nll, kl = head_losses(hidden, reference, targets, head, divergence, chunk_elements=4 * V)
    weighed(nll, kl).backward()
    weighed(*expected).backward()
    torch.testing.assert_close(nll.double(), expected[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(kl.double(), expected[1], rtol=1e-4, atol=1e-6)
    assert hidden.grad is not None
    assert nll.dtype == kl.dtype == torch.float32
    torch.testing.assert_close(hidden.grad.double(), leaf.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("options", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("divergence", ["reverse", "forward"])
def test_gradcheck(divergence: Divergence, options: dict[str, Any]) -> None:
    head, (hidden, reference, targets) = make_head(torch.float64, **options), make_inputs()
    assert torch.autograd.gradcheck(
        lambda h: head_losses(h, reference.double(), targets, head, divergence, 3 * V),
        hidden.double().requires_grad_(),
    )


@settings(max_examples=25)
@given(st.integers(1, 20 * V), st.sampled_from(["reverse", "forward", "none"]), st.integers(1, N))
def test_any_chunk_size_gives_the_same(elements: int, divergence: Divergence, n: int) -> None:
    head, (hidden, reference, targets) = make_head(), make_inputs(n=n)
    results = []
    for size in (elements, 10**6):
        leaf = hidden.clone().requires_grad_()
        nll, kl = head_losses(leaf, reference, targets, head, divergence, size)
        weighed(nll, kl).backward()
        results.append((nll.detach(), kl.detach(), leaf.grad))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("divergence", ["reverse", "forward"])
def test_student_equal_to_reference(divergence: Divergence) -> None:
    head, (hidden, _, targets) = make_head(softcap=5.0), make_inputs()
    hidden.requires_grad_()
    nll, kl = head_losses(hidden, hidden.detach(), targets, head, divergence)
    (gradient,) = torch.autograd.grad(kl.sum(), hidden)
    assert kl.abs().max() < 1e-7
    assert gradient.abs().max() < 1e-6
    assert nll.isfinite().all()


def test_bfloat16_stays_near_the_reference() -> None:
    head, (hidden, reference, targets) = make_head(torch.bfloat16), make_inputs(torch.bfloat16)
    leaf, *expected = naive(hidden, reference, targets, head, "reverse")
    hidden.requires_grad_()
    nll, kl = head_losses(hidden, reference, targets, head, "reverse", 4 * V)
    weighed(nll, kl).backward()
    weighed(*expected).backward()
    assert nll.dtype == kl.dtype == torch.float32
    assert hidden.grad is not None
    assert hidden.grad.dtype == torch.bfloat16
    torch.testing.assert_close(nll.double(), expected[0], rtol=0.02, atol=0.03)
    torch.testing.assert_close(kl.double(), expected[1], rtol=0.02, atol=0.03)
    error = (hidden.grad.double() - leaf.grad).norm() / leaf.grad.norm()
    assert error < 0.02


def test_without_gradient_or_reference() -> None:
    head, (hidden, reference, targets) = make_head(), make_inputs()
    nll, kl = head_losses(hidden, None, targets, head, "reverse")
    _, expected, _ = naive(hidden, reference, targets, head, "none")
    torch.testing.assert_close(nll.double(), expected, rtol=1e-4, atol=1e-6)
    assert kl.eq(0).all()
    assert not nll.requires_grad
    with torch.no_grad():
        nll, _ = head_losses(hidden.requires_grad_(), reference, targets, head)
    assert not nll.requires_grad


def test_no_rows_and_no_chunk() -> None:
    head, (hidden, reference, targets) = make_head(), make_inputs()
    nll, kl = head_losses(hidden[:0].requires_grad_(), reference[:0], targets[:0], head)
    assert nll.shape == kl.shape == (0,)
    with pytest.raises(ValueError, match="chunk_elements"):
        head_losses(hidden, reference, targets, head, chunk_elements=0)


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest result of any operation."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.numel = max([self.numel, *sizes])
        return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("divergence", ["reverse", "forward", "none"])
def test_no_tensor_is_larger_than_a_chunk(divergence: Divergence, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    head = Head(torch.randn(500, 4, generator=generator).to(dtype), softcap=4.0)
    hidden, reference = torch.randn(2, 64, 4, generator=generator).to(dtype)
    targets = torch.randint(500, (64,), generator=generator)
    hidden.requires_grad_()
    with LargestTensor() as largest:
        nll, kl = head_losses(hidden, reference, targets, head, divergence, chunk_elements=5_000)
        (nll + kl).sum().backward()
    assert largest.numel == 5_000


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.floats(0.01, 20.0))
def test_divergence_is_not_negative_and_turns_around(seed: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    p, q = torch.randn(2, 3, 17, generator=generator, dtype=torch.float64) * spread
    reverse = divergence_per_position(p, q, "reverse")
    assert (reverse >= -1e-12).all()
    torch.testing.assert_close(reverse, divergence_per_position(q, p, "forward"))
    assert divergence_per_position(p, p, "reverse").abs().max() < 1e-12
    assert divergence_per_position(p, q, "none").eq(0).all()


def test_divergence_by_hand() -> None:
    student = torch.tensor([[0.5, 0.5]]).log()
    reference = torch.tensor([[0.25, 0.75]]).log()
    reverse = divergence_per_position(student, reference, "reverse")
    assert reverse.item() == pytest.approx(0.5 * torch.tensor(4 / 3).log().item(), abs=1e-6)


def test_head_keeps_its_dtype() -> None:
    hidden, _, _ = make_inputs()
    for dtype, work in [(torch.bfloat16, torch.float32), (torch.float64, torch.float64)]:
        head = make_head(dtype, bias=True, softcap=2.0)
        assert head.logits(hidden).dtype == work
        assert head.logits(hidden).abs().max() <= 2.0

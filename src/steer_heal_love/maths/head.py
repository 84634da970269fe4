"""Likelihood and divergence per position from hidden states, without the whole logits.

This is the hot path of the heal stage: `[positions, vocabulary]` logits exist only a chunk of rows
at a time, and both gradients are made in the forward pass, while the chunk is there.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

Divergence = Literal["reverse", "forward", "none"]


@dataclass(frozen=True, eq=False)
class Head:
    """A frozen language-model head: `logits = cap(scale · (h Wᵀ + bias))`.

    `softcap` c is Gemma 2's `cap(z) = c · tanh(z / c)`; None leaves the logits as they are.
    """

    weight: Float[Tensor, "V d"]
    bias: Float[Tensor, " V"] | None = None
    softcap: float | None = None
    scale: float = 1.0

    @property
    def work_dtype(self) -> torch.dtype:
        """The dtype of softmax and losses: float32, or float64 for a float64 weight."""
        return torch.promote_types(self.weight.dtype, torch.float32)

    def at(self, temperature: float) -> Head:
        """The head whose logits are these divided by a temperature; itself for 1.

        Raises ValueError where the temperature is not positive.
        """
        if not temperature > 0:
            raise ValueError(f"a temperature must be positive, not {temperature}")
        if temperature == 1:
            return self
        # c tanh(z / c) / T = c' tanh(z' / c') with c' = c / T and z' = z / T.
        cap = None if self.softcap is None else self.softcap / temperature
        return replace(self, softcap=cap, scale=self.scale / temperature)

    def logits(self, hidden: Float[Tensor, "n d"]) -> Float[Tensor, "n V"]:
        """All logits at once, in `work_dtype`; the matmul runs in the weight's dtype."""
        return self.from_product(hidden.to(self.weight.dtype) @ self.weight.T)

    def from_product(self, product: Float[Tensor, "n V"]) -> Float[Tensor, "n V"]:
        """The logits, in `work_dtype`, from `h Wᵀ`."""
        logits = product.to(self.work_dtype)
        if self.bias is not None:
            logits = logits + self.bias
        if self.scale != 1.0:
            logits = logits * self.scale
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    def finish_(self, product: Float[Tensor, "n V"]) -> None:
        """Turn `h Wᵀ` into logits in place (no autograd)."""
        if self.bias is not None:
            product.add_(self.bias)
        if self.scale != 1.0:
            product.mul_(self.scale)
        if self.softcap is not None:
            product.div_(self.softcap).tanh_().mul_(self.softcap)


def head_losses(
    hidden: Float[Tensor, "n d"],
    reference_hidden: Float[Tensor, "n d"] | None,
    targets: Int[Tensor, " n"],
    head: Head,
    divergence: Divergence = "reverse",
    chunk_elements: int = 2**23,
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Negative log likelihood of the targets and divergence from the reference, per position.

    `nll = −log p_s[target]` and `kl` as in `divergence_per_position`, both in nats and in
    `head.work_dtype`. No tensor has more than `max(chunk_elements, V)` logits; about 3.5 such
    chunks of float32 live at once. Only `hidden` gets a gradient (head and reference are frozen),
    with `∂nll/∂z = p_s − onehot`, reverse `∂kl/∂z = p_s (log p_s − log p_r − kl)` and forward
    `∂kl/∂z = p_s − p_r`. Without a reference, or with `"none"`, kl is zero.

    Raises ValueError where `chunk_elements` is not positive.
    Source: gradients in the forward pass as in Liger Kernel (Hsu et al. 2024, arXiv:2410.10989).
    """
    if chunk_elements < 1:
        raise ValueError(f"chunk_elements must be positive, not {chunk_elements}")
    if reference_hidden is None or divergence == "none":
        reference_hidden, divergence = None, "none"
    wants_gradient = torch.is_grad_enabled() and hidden.requires_grad
    nll, kl = _HeadLosses.apply(  # type: ignore[no-untyped-call]
        hidden, reference_hidden, targets, head, divergence, chunk_elements, wants_gradient
    )
    return nll, kl


class _HeadLosses(torch.autograd.Function):
    """`_walk` as a differentiable function of `hidden`."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        """Losses per row; the gradients per row are saved beside them."""
        reference_hidden, targets, head, divergence, chunk_elements, wants_gradient = rest
        nll, kl, *gradients = _walk(
            hidden, reference_hidden, targets, head, divergence, chunk_elements, wants_gradient
        )
        ctx.save_for_backward(*gradients)
        ctx.dtype, ctx.scale, ctx.has_kl = hidden.dtype, head.scale, divergence != "none"
        return nll, kl

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_nll: Tensor, grad_kl: Tensor) -> tuple[Tensor | None, ...]:
        """The saved rows, weighed by the gradients of the losses."""
        rows_nll, rows_kl = ctx.saved_tensors
        gradient = rows_nll * grad_nll[:, None]  # promoted to the losses' dtype
        if ctx.has_kl:
            gradient.addcmul_(rows_kl.to(gradient.dtype), grad_kl[:, None])
        return (gradient.mul_(ctx.scale).to(ctx.dtype), *[None] * 6)


def _walk(
    hidden: Tensor,
    reference_hidden: Tensor | None,
    targets: Tensor,
    head: Head,
    divergence: Divergence,
    chunk_elements: int,
    wants_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Losses and gradients of all rows, in buffers that are made once and used for each chunk."""
    n, vocabulary, weight = len(hidden), len(head.weight), head.weight
    nll, kl = (weight.new_zeros(n, dtype=head.work_dtype) for _ in range(2))
    # A matmul's result is in the weight's dtype, so keeping the rows in it loses nothing.
    g_nll = weight.new_empty(hidden.shape) if wants_gradient else None
    g_kl = weight.new_empty(hidden.shape) if wants_gradient and divergence != "none" else None
    size = max(1, min(n, chunk_elements // vocabulary))
    buffers = _Buffers.make(size, head, with_reference=divergence != "none")
    for start in range(0, n, size):
        rows = slice(start, min(start + size, n))
        chunk = first_rows(buffers, rows.stop - start)
        cap_shift = chunk.log_probabilities(hidden[rows], head, chunk.student)
        at_target = targets[rows, None]
        nll[rows] = -chunk.student.gather(1, at_target).squeeze(1)
        if reference_hidden is not None:
            chunk.log_probabilities(reference_hidden[rows], head, chunk.reference)
        p, d_kl, kl[rows] = chunk.divergence(divergence, wants_gradient)
        if g_nll is None:
            continue
        p.scatter_add_(1, at_target, torch.full_like(p[:, :1], -1.0))
        slope = cap_slope_(chunk.student, cap_shift, head.softcap)
        chunk.pull_back(p, slope, weight, g_nll[rows])
        if g_kl is not None:
            chunk.pull_back(d_kl, slope, weight, g_kl[rows])
    return nll, kl, g_nll, g_kl


@dataclass(frozen=True, eq=False)
class ChunkBuffers:
    """What the matmuls of a chunk of rows need; a walk adds its own arrays of logits."""

    product: Tensor  # results and inputs of matmuls, in the weight's dtype
    scratch: Tensor  # the same in the work dtype; one array with `product` where the dtypes agree

    @staticmethod
    def arrays(rows: int, head: Head, more: int) -> list[Tensor]:
        """`product`, `scratch` and so many more of the work dtype, each [rows, V]."""
        shape = (rows, len(head.weight))
        work = [head.weight.new_empty(shape, dtype=head.work_dtype) for _ in range(1 + more)]
        same = head.weight.dtype == head.work_dtype
        return [work[0] if same else head.weight.new_empty(shape), *work]

    def log_probabilities(self, hidden: Tensor, head: Head, out: Tensor) -> Tensor:
        """Fill `out` with log p; returns logit − log p, one number a row."""
        torch.mm(hidden.to(head.weight.dtype), head.weight.T, out=self.product)
        if self.scratch.dtype != self.product.dtype:
            self.scratch.copy_(self.product)
        head.finish_(self.scratch)
        torch.log_softmax(self.scratch, -1, out=out)
        return self.scratch[:, :1] - out[:, :1]

    def pull_back(
        self, d_logits: Tensor, slope: Tensor | None, weight: Tensor, out: Tensor
    ) -> None:
        """Fill `out` with the gradient on the hidden states, but for `head.scale`."""
        if slope is not None:
            d_logits.mul_(slope)
        same = d_logits.dtype == weight.dtype
        torch.mm(d_logits if same else self.product.copy_(d_logits), weight, out=out)


AnyBuffers = TypeVar("AnyBuffers", bound=ChunkBuffers)


def first_rows(buffers: AnyBuffers, rows: int) -> AnyBuffers:
    """Views of the first `rows` rows of every array."""
    return type(buffers)(*(getattr(buffers, field.name)[:rows] for field in fields(buffers)))


def cap_slope_(
    log_p: Float[Tensor, "n V"], shift: Float[Tensor, "n 1"], softcap: float | None
) -> Float[Tensor, "n V"] | None:
    """Derivative of the softcap, `1 − (z / c)²`, at z = log p + shift, in the place of log p."""
    if softcap is None:
        return None
    return log_p.add_(shift).div_(softcap).square_().neg_().add_(1)


@dataclass(frozen=True, eq=False)
class _Buffers(ChunkBuffers):
    """With two more arrays of a chunk's logits."""

    student: Tensor  # log p_s
    reference: Tensor  # log p_r

    @classmethod
    def make(cls, rows: int, head: Head, *, with_reference: bool) -> _Buffers:
        """Buffers for `rows` rows; without a reference, its array is the student's."""
        arrays = cls.arrays(rows, head, more=1 + with_reference)
        return cls(*arrays[:3], *arrays[-1:])

    def divergence(
        self, divergence: Divergence, wants_gradient: bool
    ) -> tuple[Tensor, Tensor, Any]:
        """p_s, ∂kl/∂logits (both only where a gradient is wanted) and kl; spends `reference`."""
        a, student, c = self.scratch, self.student, self.reference
        match divergence:
            case "none":
                return (torch.exp(student, out=a) if wants_gradient else a), a, 0.0
            case "reverse":
                torch.exp(student, out=a)
                torch.sub(student, c, out=c)
                kl = torch.einsum("nv,nv->n", a, c)  # a batched dot: no array for the products
                if wants_gradient:
                    c.sub_(kl[:, None]).mul_(a)
                return a, c, kl.clamp_(min=0)
            case "forward":
                torch.exp(c, out=a)
                c.sub_(student)
                kl = torch.einsum("nv,nv->n", a, c)
                if wants_gradient:
                    torch.exp(student, out=c)
                    a.neg_().add_(c)
                return c, a, kl.clamp_(min=0)

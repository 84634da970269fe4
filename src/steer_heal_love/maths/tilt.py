"""A teacher made by tilting the base model, and how far a student is from both, by position.

The online heal's hot path, built as the heal's in `head.py`: logits exist a chunk of rows at a
time, and every gradient is made in the forward pass, while the chunk is there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from steer_heal_love.maths.head import ChunkBuffers, Head, cap_slope_, first_rows


@dataclass(frozen=True)
class Tilt:
    """What moves the teacher off the base model, and what may not move.

    `log p_T = log p₀ + clip(a/2 · [log p₊ − log p₋] + γ/2 · [log p_pos − log p_neg]) − log Z`,
    where p₊ and p₋ are the base model steered by +κv and −κv, p_pos and p_neg the base model under
    the two persona prompts. A stop id keeps p₀'s probability, so that the tilt neither lengthens
    nor shortens the texts, and the others share what p₀ leaves them. Without a tilt, T is p₀ to
    the bit.

    Raises ValueError where a weight is negative or the clip is not positive.
    """

    steering: float = 0.0  # a, on the odd part of steering
    contrast: float = 0.0  # γ, on the contrast of the personas
    clip: float = 4.0  # bound on the sum of both, either way, in nats a token
    stop_ids: tuple[int, ...] = ()  # tokens that end a turn

    def __post_init__(self) -> None:
        """Refuse what is no tilt towards the trait."""
        if not (0 <= self.steering < math.inf and 0 <= self.contrast < math.inf):
            raise ValueError(
                "a tilt's weights are finite and not negative, "
                f"not {self.steering} (steering) and {self.contrast} (contrast)"
            )
        if not self.clip > 0:
            raise ValueError(f"a tilt's clip is above 0 nats, not {self.clip}")


@dataclass(frozen=True, eq=False)
class TeacherStates:
    """Final-norm outputs of the base model at the same positions, read in up to five ways.

    A pair whose weight is 0 is not needed, and not looked at.
    """

    base: Float[Tensor, "n d"]
    plus: Float[Tensor, "n d"] | None = None  # steered by +κv
    minus: Float[Tensor, "n d"] | None = None  # steered by −κv
    positive: Float[Tensor, "n d"] | None = None  # under the persona with the trait
    negative: Float[Tensor, "n d"] | None = None  # under its opposite

    def weighed(self, tilt: Tilt) -> list[tuple[Tensor, float]]:
        """What the tilt sums over: states, each with the factor on its log-probabilities.

        Raises ValueError where states are missing that the tilt weighs.
        """
        pairs = {
            "steering": (tilt.steering, self.plus, self.minus),
            "contrast": (tilt.contrast, self.positive, self.negative),
        }
        terms: list[tuple[Tensor, float]] = []
        for name, (weight, toward, away) in pairs.items():
            if weight == 0:
                continue
            if toward is None or away is None:
                raise ValueError(f"the tilt's {name} is {weight}, so both of its states are needed")
            terms += [(toward, weight / 2), (away, -weight / 2)]
        return terms


def teacher_log_probabilities(
    states: TeacherStates, head: Head, tilt: Tilt
) -> Float[Tensor, "n V"]:
    """log p_T of `Tilt`, all rows at once and in `head.work_dtype`: for few positions.

    Raises ValueError as `TeacherStates.weighed` does.
    """
    chunk = _Buffers.make(len(states.base), head)
    chunk.fill_teacher(states.base, states.weighed(tilt), head, tilt)
    return chunk.teacher


@dataclass(frozen=True, eq=False)
class TiltedLosses:
    """Per position and in nats: all but `base_entropy` carry a gradient to the hidden states."""

    to_teacher: Float[Tensor, " n"]  # KL(student ‖ teacher)
    from_teacher: Float[Tensor, " n"]  # KL(teacher ‖ student)
    to_base: Float[Tensor, " n"]  # KL(student ‖ base), for the barrier
    entropy: Float[Tensor, " n"]  # of the student
    base_entropy: Float[Tensor, " n"]


def tilted_losses(
    hidden: Float[Tensor, "n d"],
    states: TeacherStates,
    head: Head,
    tilt: Tilt,
    chunk_elements: int = 2**23,
) -> TiltedLosses:
    """The student's divergences from its teacher and its base, and its entropy, per position.

    In `head.work_dtype`. No tensor has more than `max(chunk_elements, V)` logits; about six such
    chunks of float32 live at once (seven with a softcap). Only `hidden` gets a gradient. With
    p the student's, T the teacher's, p₀ the base's probabilities and z the student's logits:
    `∂KL(p‖T)/∂z = p (log p − log T − KL)`, `∂KL(T‖p)/∂z = p − T`,
    `∂KL(p‖p₀)/∂z = p (log p − log p₀ − KL)` and `∂H/∂z = −p (log p + H)`. Four rows of the hidden
    size are kept for the backward pass, so any function of the four losses can be differentiated.

    Raises ValueError where `chunk_elements` is not positive, and as `TeacherStates.weighed` does.
    """
    if chunk_elements < 1:
        raise ValueError(f"chunk_elements must be positive, not {chunk_elements}")
    wants_gradient = torch.is_grad_enabled() and hidden.requires_grad
    losses = _TiltedLosses.apply(  # type: ignore[no-untyped-call]
        hidden, states, head, tilt, chunk_elements, wants_gradient
    )
    return TiltedLosses(*losses)


class _TiltedLosses(torch.autograd.Function):
    """`_walk` as a differentiable function of `hidden`."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, *rest: Any) -> tuple[Tensor, ...]:
        """Losses per row; the gradients per row are saved beside them."""
        losses, gradients = _walk(hidden, *rest)
        ctx.save_for_backward(gradients)
        ctx.dtype, ctx.scale = hidden.dtype, rest[1].scale
        ctx.mark_non_differentiable(losses[-1])
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The saved rows, weighed by the gradients of the losses."""
        (rows,) = ctx.saved_tensors
        gradient = rows.new_zeros(rows.shape[1:], dtype=grads[0].dtype)
        for own, grad in zip(rows, grads, strict=False):  # the last loss has no rows
            gradient.addcmul_(own.to(gradient.dtype), grad[:, None])
        return (gradient.mul_(ctx.scale).to(ctx.dtype), *[None] * 5)


def _walk(
    hidden: Tensor,
    states: TeacherStates,
    head: Head,
    tilt: Tilt,
    chunk_elements: int,
    wants_gradient: bool,
) -> tuple[tuple[Tensor, ...], Tensor | None]:
    """Losses and gradients of all rows, in buffers that are made once and used for each chunk."""
    n, weight, terms = len(hidden), head.weight, states.weighed(tilt)
    losses = tuple(weight.new_empty(n, dtype=head.work_dtype) for _ in range(5))
    gradients = weight.new_empty(4, *hidden.shape) if wants_gradient else None
    size = max(1, min(n, chunk_elements // len(weight)))
    buffers = _Buffers.make(size, head)
    for start in range(0, n, size):
        rows = slice(start, min(start + size, n))
        chunk = first_rows(buffers, rows.stop - start)
        own_terms = [(state[rows], factor) for state, factor in terms]
        chunk.fill_teacher(states.base[rows], own_terms, head, tilt)
        cap_shift = chunk.log_probabilities(hidden[rows], head, chunk.student)
        for loss, own in zip(losses, chunk.losses_(), strict=True):
            loss[rows] = own
        if gradients is not None:
            by_loss = chunk.gradients_(*(loss[rows, None] for loss in losses[:4]))
            slope = chunk.slope(cap_shift, head.softcap)
            for index, d_logits in by_loss:
                chunk.pull_back(d_logits, slope, weight, gradients[index, rows])
    return losses, gradients


@dataclass(frozen=True, eq=False)
class _Buffers(ChunkBuffers):
    """With four more arrays of a chunk's logits, and a fifth for a softcap's slope."""

    student: Tensor  # log p
    base: Tensor  # log p₀, then log p − log p₀
    teacher: Tensor  # log T, then log p − log T
    spare: Tensor
    cap: Tensor

    @classmethod
    def make(cls, rows: int, head: Head) -> _Buffers:
        """Buffers for `rows` rows; without a softcap, `cap` is not used and is another's."""
        arrays = cls.arrays(rows, head, more=4 + (head.softcap is not None))
        return cls(*arrays[:6], *arrays[-1:])

    def fill_teacher(
        self, base: Tensor, terms: list[tuple[Tensor, float]], head: Head, tilt: Tilt
    ) -> None:
        """Fill `base` with log p₀ and `teacher` with log T."""
        self.log_probabilities(base, head, self.base)
        self.teacher.zero_()
        for state, factor in terms:
            self.log_probabilities(state, head, self.spare)
            self.teacher.add_(self.spare, alpha=factor)
        self.teacher.clamp_(-tilt.clip, tilt.clip)
        stops = torch.tensor(tilt.stop_ids, dtype=torch.long, device=self.base.device)
        held = self.base.index_select(1, stops)
        # What p₀ leaves the others is summed, not 1 − p₀(stops): that has no digits left where
        # the turn is all but over.
        self.base.index_fill_(1, stops, -math.inf)
        self.teacher.add_(self.base)
        left = self.base.logsumexp(-1, keepdim=True)
        self.teacher.add_(left - self.teacher.logsumexp(-1, keepdim=True))
        self.base.index_copy_(1, stops, held)
        self.teacher.index_copy_(1, stops, held)

    def losses_(self) -> tuple[Tensor, ...]:
        """The five of `TiltedLosses`; `scratch` becomes p, `spare` T, the others differences."""
        p, other = self.scratch, self.spare
        base_entropy = _dot(torch.exp(self.base, out=other), self.base).neg_()
        torch.exp(self.student, out=p)
        torch.exp(self.teacher, out=other)
        torch.sub(self.student, self.teacher, out=self.teacher)
        torch.sub(self.student, self.base, out=self.base)
        to_teacher, to_base = _dot(p, self.teacher), _dot(p, self.base)
        from_teacher, entropy = _dot(other, self.teacher).neg_(), _dot(p, self.student).neg_()
        kls = (kl.clamp_(min=0) for kl in (to_teacher, from_teacher, to_base))
        return (*kls, entropy, base_entropy)

    def slope(self, shift: Tensor, softcap: float | None) -> Tensor | None:
        """Derivative of the softcap, in an array of its own: the entropy still needs log p."""
        return None if softcap is None else cap_slope_(self.cap.copy_(self.student), shift, softcap)

    def gradients_(
        self, to_teacher: Tensor, _: Tensor, to_base: Tensor, entropy: Tensor
    ) -> Iterator[tuple[int, Tensor]]:
        """After `losses_`, each loss's place and gradient by the logits; spends all arrays.

        One at a time: what is given may be changed, and lasts until the next is asked for.
        """
        p, other = self.scratch, self.spare
        yield 1, torch.sub(p, other, out=other)
        yield 0, self.teacher.sub_(to_teacher).mul_(p)
        yield 2, self.base.sub_(to_base).mul_(p)
        yield 3, torch.add(self.student, entropy, out=other).mul_(p).neg_()


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Σ a·b of each row, without an array for the products."""
    return torch.einsum("nv,nv->n", a, b)

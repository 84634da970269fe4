"""Copies of frozen weights in the layout that a CPU's bfloat16 units read, for passes that do not
learn.

A plain product lays its weight out anew in each call, which costs more than the product itself
where a batch is small. The layout is oneDNN's, by the operators that torch's own compiler emits for
frozen models. They are not part of torch's public interface: they are tried first, and where they
are missing or wrong everything runs as it would without them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.temperature import current_head
from steer_heal_love.maths.tilted_head import TiltedHead

LOG = logging.getLogger(__name__)

ROWS = 64  # that the layout is chosen for; others work too
ROOM = 3  # times the copies' size must be free


@dataclass(frozen=True, eq=False)
class Packed:
    """`x ↦ x Wᵀ + bias` by a packed copy of W [d_out, d_in]; equal up to rounding. No gradient."""

    weight: Tensor  # the one that was packed
    version: int  # of it, then
    layout: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None = None) -> Packed:
        """Pack a weight."""
        layout = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), ROWS)
        return cls(weight, weight._version, layout, bias)

    def __call__(self, x: Tensor) -> Tensor:
        """The product; x is [..., d_in]."""
        product: Tensor = torch.ops.mkldnn._linear_pointwise(
            x.contiguous(), self.layout, self.bias, "none", [], ""
        )
        return product

    def added_to(self, other: Tensor, x: Tensor) -> Tensor:
        """`other + x Wᵀ` in one pass; other is [..., d_out]."""
        total: Tensor = torch.ops.mkldnn._linear_pointwise.binary(
            x, other.contiguous(), self.layout, self.bias, "add"
        )
        return total

    def is_current(self, weight: Tensor) -> bool:
        """Whether this is still that weight, and nobody has written to it."""
        return weight is self.weight and weight._version == self.version


@contextmanager
def pack_weights(lm: LanguageModel) -> Iterator[None]:
    """Inside, linear layers and the head multiply by packed copies where these can be had.

    The copies are kept with the model. Weights, hooks and patches are as they were. Only for
    forward passes without a gradient.
    """
    modules = _that_fit(lm) if applies(lm) else []
    swapped: list[nn.Module] = []
    try:
        for module in modules:
            module.forward = pack_of(lm, module.weight, module.bias)
            swapped.append(module)
        if modules and lm.head.bias is None:
            pack_of(lm, lm.head.weight)
        yield
    finally:
        for module in swapped:
            del module.__dict__["forward"]  # the method of its class again


def head_logits(lm: LanguageModel, hidden: Tensor) -> Tensor:
    """Logits [n, V] of hidden states [n, d], by the packed head where there is one.

    Divided by the temperature that is on: see `temperature.py`. Of a contrast that is on they are
    the logits of three states side by side, [n, 3 · d].
    """
    head = current_head(lm)
    if isinstance(head, TiltedHead):
        return head.logits(hidden)
    pack = lm.packs.get(id(lm.head.weight))
    if pack is None or torch.is_grad_enabled() or not pack.is_current(lm.head.weight):
        return head.logits(hidden)
    return head.from_product(pack(hidden.to(lm.head.weight.dtype)))


def pack_of(lm: LanguageModel, weight: Tensor, bias: Tensor | None = None) -> Packed:
    """The packed copy of one of the model's weights, made once."""
    pack = lm.packs.get(id(weight))
    if pack is None or not pack.is_current(weight):
        pack = lm.packs[id(weight)] = Packed.of(weight, bias)
    return pack


def applies(lm: LanguageModel) -> bool:
    """Whether the model computes in bfloat16 on a CPU whose packed products work."""
    return lm.device.type == "cpu" and lm.dtype == torch.bfloat16 and works()


@cache
def works() -> bool:
    """Whether the operators are there, on a CPU with bfloat16 units, and compute what they should.

    Looked up once a process.
    """
    if not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return False
    try:
        right = _computes_right()
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        LOG.info("packed products are not to be had here: %s", error)
        return False
    if not right:
        LOG.warning("packed products compute something else here: they are not used")
    return right


@torch.inference_mode(False)  # whose tensors, without a version, cannot be told from changed ones
def _computes_right() -> bool:
    weight, x, other = (
        torch.randn(n, 32, generator=torch.Generator().manual_seed(n)).bfloat16()
        for n in (32, 3, 3)
    )
    pack = Packed.of(weight)
    added = pack.added_to(other, x).float()
    wanted = other.float() + x.float() @ weight.float().T
    alone = pack(x).float() + other.float()
    return all(bool((y - wanted).norm() < 0.02 * wanted.norm()) for y in (added, alone))


def _that_fit(lm: LanguageModel) -> list[Any]:
    """The layers to pack; none where the copies that are not made yet, the head's too, do not fit
    in memory several times over.
    """
    modules = _linears(lm)
    wanted = [m.weight for m in modules] + [lm.head.weight]
    missing = sum(w.nbytes for w in wanted if id(w) not in lm.packs)
    return modules if psutil.virtual_memory().available > ROOM * missing else []


def _linears(lm: LanguageModel) -> list[Any]:
    """Plain, frozen linear layers of the model's own precision whose forward is their class's."""
    return [
        m
        for m in lm.layers.modules()
        if type(m) is nn.Linear
        and m.weight.dtype == torch.bfloat16
        and not m.weight.requires_grad
        and "forward" not in m.__dict__
    ]

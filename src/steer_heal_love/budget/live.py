"""Count the bytes that are alive while code runs on tensors without contents."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_aten: Any = torch.ops.aten
_ASK = (_aten._local_scalar_dense.default, _aten.item.default, _aten.is_nonzero.default)


class LiveBytes(TorchDispatchMode):
    """Bytes of the tensors that were made inside and are still alive: now, and at most.

    A tensor's storage counts once, until the last tensor on it is gone; views and results in
    place count nothing, and neither does what was there before. Where code asks whether something
    holds of a tensor's contents, of which there are none, the answer is yes: nothing is padded, no
    sequences share a row.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0
        self._alive: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator and count what it made."""
        if func in _ASK and args[0].is_meta and args[0].dtype == torch.bool:
            return True
        result = func(*args, **(kwargs or {}))
        inputs = {_key(t) for t in (*_tensors(args), *_tensors((kwargs or {}).values()))}
        for tensor in _tensors(result):
            if _key(tensor) not in inputs:
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive:
            return
        self._alive[key] = weakref.ref(storage, lambda _gone: self._forget(key, size))
        self.now += size
        self.peak = max(self.peak, self.now)

    def _forget(self, key: int, size: int) -> None:
        self._alive.pop(key, None)
        self.now -= size


def _tensors(values: Any) -> Iterator[Tensor]:
    """The tensors of an operator's arguments or results, which nest in lists and tuples alone."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Iterable) and not isinstance(values, str):
        for value in values:
            yield from _tensors(value)


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


class _FusedAttention(torch.autograd.Function):
    """Attention as the fused kernels hold it: no scores, but inputs, output and a sum per row."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """The output, laid out as the kernels do: heads beside each other for each position."""
        batch, heads, length, _ = query.shape
        sums = query.new_empty(batch, heads, length, dtype=torch.float32)
        output = query.new_empty(batch, length, heads, value.shape[-1]).transpose(1, 2)
        ctx.save_for_backward(query, key, value, output, sums, mask)
        return output

    @staticmethod
    def backward(ctx: Any, *_grad: Tensor) -> tuple[Tensor | None, ...]:
        """A gradient for each of query, key and value."""
        query, key, value, *_ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), None


class _Fused(TorchFunctionMode):
    """Stands in for torch's attention, which on the meta device is the unfused one."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Attention by the stand-in, all else as it is."""
        if func is not torch.nn.functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        return _attend(*args, **(kwargs or {}))


def _attend(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **_how: Any
) -> Tensor:
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.empty_like(attn_mask, dtype=query.dtype)  # the kernels add it
    result: Tensor = _FusedAttention.apply(query, key, value, attn_mask)  # type: ignore[no-untyped-call]
    return result


@contextmanager
def count_live_bytes() -> Iterator[LiveBytes]:
    """Count what is alive inside; attention is that of the fused kernels."""
    with LiveBytes() as live, _Fused():
        yield live

"""Two devices for a machine that has none: `lazy:0` and `lazy:1`.

Their numbers lie in the memory of the CPU, but their rules are those of any device: an operation
takes tensors of one device alone, and `.to` copies. They go by a device type of torch's that
nothing else here uses and that autograd needs no thread for. Import this in a process of its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

NAME = "lazy"
_MOVES = ("_to_copy", "copy_")
_INDEXES = ("index", "index_put", "index_put_", "_unsafe_index")  # by indices of the CPU, too


class Twin(torch.Tensor):
    """A tensor of one of the two devices, around one of the CPU."""

    raw: torch.Tensor

    @staticmethod
    def __new__(cls, raw: torch.Tensor, device: torch.device) -> Twin:
        made = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            raw.shape,
            strides=raw.stride(),
            storage_offset=raw.storage_offset(),
            dtype=raw.dtype,
            device=device,
        )
        made.raw = raw
        return made  # type: ignore[no-any-return]

    def __repr__(self, **_: Any) -> str:
        return f"Twin({self.raw!r}, device={self.device})"

    def data_ptr(self) -> int:
        """Accelerate tells by it which weights are the same."""
        return self.raw.data_ptr()

    def tolist(self) -> Any:
        """As of any device: a subclass of torch's has it refused."""
        return self.raw.tolist()

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        options = kwargs or {}
        leaves = tree_leaves((args, options))
        given = [a for a in leaves if isinstance(a, torch.Tensor)]
        named = next((a for a in leaves if isinstance(a, torch.device)), None)
        name = func.overloadpacket.__name__
        where = next(a.device for a in given if isinstance(a, Twin))
        strangers = {str(a.device) for a in given if a.device != where and a.ndim > 0}
        if strangers - ({"cpu"} if name in _INDEXES else set()) and name not in _MOVES:
            raise RuntimeError(
                f"{func}: expected all tensors to be on the same device, found {where} and "
                f"{', '.join(sorted(strangers))}"
            )
        raw = func(*tree_map(_bare, args), **tree_map(_bare, options))
        if named is not None:
            where = _indexed(named)
            if where.type != NAME:
                return raw
        known = {id(a.raw): a for a in given if isinstance(a, Twin)}
        if name == "copy_":
            return args[0]

        def dressed(found: Any) -> Any:
            if not isinstance(found, torch.Tensor):
                return found
            same = known.get(id(found))
            if same is None:
                return Twin(found, where)
            return same if same.device == where else Twin(found.clone(), where)

        return tree_map(dressed, raw)


def _bare(value: Any) -> Any:
    """What the CPU is to see in place of a tensor or the name of a device."""
    if isinstance(value, torch.device):
        return torch.device("cpu")
    return value.raw if isinstance(value, Twin) else value


def _indexed(device: torch.device) -> torch.device:
    return torch.device(device.type, device.index or 0)


def _empty(size: Any, *, dtype: Any = None, device: Any = None, **_: Any) -> Twin:
    return Twin(torch.empty(size, dtype=dtype), _indexed(device))


def _empty_strided(
    size: Any, stride: Any, *, dtype: Any = None, device: Any = None, **_: Any
) -> Twin:
    return Twin(torch.empty_strided(size, stride, dtype=dtype), _indexed(device))


def _copy_from(source: torch.Tensor, target: torch.Tensor, non_blocking: bool = False) -> Any:
    _bare(target).copy_(_bare(source))
    return target


_LIBRARY = torch.library.Library("aten", "IMPL")
_LIBRARY.impl("empty.memory_format", _empty, "Lazy")
_LIBRARY.impl("empty_strided", _empty_strided, "Lazy")
_LIBRARY.impl("_copy_from", _copy_from, "Lazy")

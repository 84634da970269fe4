"""A key-value cache that grows in chunks and whose rows can be dropped, joined and rewound."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

CHUNK = 64  # columns that are allocated at a time


class GrowingLayer(CacheLayerMixin):  # type: ignore[misc]
    """Keys and values [batch, heads, length, head_dim] at the front of a larger buffer.

    transformers' dynamic layer copies the whole cache for each token; this one writes the new
    column in place and copies once in `CHUNK` tokens. It keeps all positions, of sliding-window
    layers too (their mask hides what is out of the window), so that it can be rewound.
    """

    is_sliding = False
    is_croppable = True

    def __init__(self) -> None:
        super().__init__()
        self.length = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate the first chunk, in the dtype and on the device of the first states."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys = _room(key_states, CHUNK)
        self.values = _room(value_states, CHUNK)
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append the new states; returns views of everything so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None
        assert self.values is not None
        end = self.length + key_states.shape[-2]
        if end > self.keys.shape[-2]:
            self.keys = _grown(self.keys, self.length, end)
            self.values = _grown(self.values, self.length, end)
        self.keys[..., self.length : end, :] = key_states
        self.values[..., self.length : end, :] = value_states
        self.length = end
        return self.keys[..., :end, :], self.values[..., :end, :]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """(length, offset) of the keys that the next query of this length sees."""
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        """Columns in use."""
        return self.length

    def get_max_length(self) -> int:
        """No maximum."""
        return -1

    def gather(self, rows: Tensor, first: int) -> None:
        """Keep these rows (repeats allowed), and of the columns those from `first` on."""
        if self.keys is None or self.values is None:
            return
        rows = rows.to(self.keys.device)
        self.keys = self.keys[rows, :, first:]
        self.values = self.values[rows, :, first:]
        self.length -= first

    def join(self, other: GrowingLayer) -> None:
        """Append the rows of another layer; the shorter of the two is padded on the left."""
        length = max(self.length, other.length)
        self.keys = torch.cat(
            [self._flush_right("keys", length), other._flush_right("keys", length)]
        )
        self.values = torch.cat(
            [self._flush_right("values", length), other._flush_right("values", length)]
        )
        self.length = length

    def shift(self, row: int, columns: int) -> None:
        """Drop a row's last columns: the rest of it moves right, what is left of it is free."""
        if self.keys is None or self.values is None:
            return
        for states in (self.keys, self.values):
            states[row, :, columns : self.length] = states[row, :, : self.length - columns].clone()

    def _flush_right(self, name: str, length: int) -> Tensor:
        states: Tensor = getattr(self, name)[..., : self.length, :]
        return torch.nn.functional.pad(states, (0, 0, length - self.length, 0))


def _room(states: Tensor, columns: int) -> Tensor:
    batch, heads, length, width = states.shape
    return states.new_zeros(batch, heads, length + columns, width)


def _grown(buffer: Tensor, used: int, needed: int) -> Tensor:
    batch, heads, _, width = buffer.shape
    larger = buffer.new_zeros(batch, heads, needed + CHUNK, width)
    larger[..., :used, :] = buffer[..., :used, :]
    return larger


class GrowingCache(Cache):  # type: ignore[misc]
    """One `GrowingLayer` per decoder layer."""

    def __init__(self, n_layers: int) -> None:
        super().__init__(layers=[GrowingLayer() for _ in range(n_layers)])

    def gather(self, rows: Tensor, first: int = 0) -> None:
        """Keep these rows, and the columns from `first` on."""
        for layer in self.layers:
            layer.gather(rows, first)

    def join(self, other: GrowingCache) -> None:
        """Append another cache's rows, flush right."""
        for mine, theirs in zip(self.layers, other.layers, strict=True):
            mine.join(theirs)

    def shift(self, row: int, columns: int) -> None:
        """Drop the last columns of one row, which stays flush right."""
        for layer in self.layers:
            layer.shift(row, columns)

    def copy_of(self, rows: Tensor) -> GrowingCache:
        """A new cache made of these rows (repeats allowed)."""
        new = GrowingCache(len(self.layers))
        for mine, theirs in zip(self.layers, new.layers, strict=True):
            if mine.keys is not None:
                chosen = rows.to(mine.keys.device)
                theirs.lazy_initialization(mine.keys[chosen], mine.values[chosen])
                theirs.update(
                    mine.keys[chosen, :, : mine.length], mine.values[chosen, :, : mine.length]
                )
        return new

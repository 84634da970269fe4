"""Batches of token ids: padding, positions, shared prefixes, completion masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

Ids = Sequence[int]


@dataclass(frozen=True)
class PaddedBatch:
    """Rows of token ids padded to one length; mask is 1 at real tokens."""

    ids: Int[Tensor, "batch seq"]
    mask: Int[Tensor, "batch seq"]

    @property
    def positions(self) -> Int[Tensor, "batch seq"]:
        """Position of each token in its own row; 0 at left padding."""
        return (self.mask.cumsum(-1) - 1).clamp(min=0)


def pad_left(rows: Sequence[Ids], pad_id: int, device: torch.device) -> PaddedBatch:
    """Rows flush right, so that the last column is each row's last token."""
    return _pad(rows, pad_id, device, left=True)


def pad_right(rows: Sequence[Ids], pad_id: int, device: torch.device) -> PaddedBatch:
    """Rows flush left."""
    return _pad(rows, pad_id, device, left=False)


def _pad(rows: Sequence[Ids], pad_id: int, device: torch.device, *, left: bool) -> PaddedBatch:
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        where = slice(width - len(row), width) if left else slice(0, len(row))
        ids[i, where] = torch.tensor(row, dtype=torch.long)
        mask[i, where] = 1
    return PaddedBatch(ids.to(device), mask.to(device))


def common_prefix(rows: Sequence[Ids]) -> int:
    """Number of leading tokens that all rows share."""
    ordered = sorted(tuple(row) for row in rows)
    shortest, longest = ordered[0], ordered[-1]  # all others lie between the two
    for i, (a, b) in enumerate(zip(shortest, longest, strict=False)):
        if a != b:
            return i
    return min(len(shortest), len(longest))


def batches_by_length(
    lengths: Sequence[int], max_tokens: int, max_rows: int
) -> Iterator[list[int]]:
    """Indices in batches of similar length, longest first; a padded batch fits `max_tokens`.

    The longest come first so that an out-of-memory shows at once.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        width = lengths[batch[0]] if batch else lengths[index]
        if batch and (len(batch) + 1 > max_rows or width * (len(batch) + 1) > max_tokens):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch

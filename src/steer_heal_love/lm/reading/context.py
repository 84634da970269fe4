"""What a model has read of some rows: keys, values and mask, and reading on from there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.reading.cache import GrowingCache
from steer_heal_love.lm.tokens import Ids, common_prefix

MIN_SHARED_PREFIX = 8  # tokens; a shorter prefix is not worth a forward pass of its own


@dataclass(eq=False)
class Context:
    """Rows flush right: the last column is the last token of each; mask is 1 at real tokens."""

    cache: GrowingCache
    mask: Int[Tensor, "rows columns"]

    def read(
        self,
        lm: LanguageModel,
        ids: Int[Tensor, "rows new"],
        positions: Int[Tensor, "rows new"],
        mask: Int[Tensor, "rows new"] | None = None,
    ) -> Float[Tensor, "rows new d"]:
        """Read more tokens of each row; gives their final normed hidden states.

        Where `mask` is 0 the token is padding; on the right of a row it must be rewound after.
        """
        self.mask = torch.cat([self.mask, torch.ones_like(ids) if mask is None else mask], dim=1)
        states: Tensor = lm.decoder(
            input_ids=ids,
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state
        return states

    def join(self, other: Context) -> None:
        """Append the rows of another one."""
        width = max(self.mask.shape[1], other.mask.shape[1])
        pad = torch.nn.functional.pad
        self.mask = torch.cat([pad(m, (width - m.shape[1], 0)) for m in (self.mask, other.mask)])
        self.cache.join(other.cache)

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Only these rows; columns that are padding for all of them go."""
        mask = self.mask[rows]
        first = int(mask.any(0).int().argmax())
        self.mask = mask[:, first:]
        self.cache.gather(rows, first)

    def copy_of(self, rows: Int[Tensor, " chosen"]) -> Context:
        """A new one of these rows."""
        return Context(self.cache.copy_of(rows), self.mask[rows])

    def rewind(self, row: int, columns: int) -> None:
        """Take the last columns of one row away again.

        The row moves right, so that it stays flush with the others: nothing is computed, and a
        sliding window sees the same distances as before.
        """
        if columns == 0:
            return
        kept = self.mask.shape[1] - columns
        self.mask[row] = torch.nn.functional.pad(self.mask[row, :kept], (columns, 0))
        self.cache.shift(row, columns)


@dataclass(frozen=True, eq=False)
class Prefix:
    """The tokens that all prompts begin with, read once; of length 0 where it is not worth it."""

    length: int = 0
    cache: GrowingCache | None = None

    def begin(self, lm: LanguageModel, count: int) -> Context:
        """A context of `count` rows that has read the prefix."""
        zeros = torch.zeros(count, dtype=torch.long, device=lm.device)
        cache = GrowingCache(len(lm.layers)) if self.cache is None else self.cache.copy_of(zeros)
        return Context(cache, zeros.new_ones(count, self.length))


def shared_prefix(prompts: Sequence[Ids]) -> int:
    """Length of the prefix that is worth reading once; each prompt has a token after it."""
    length = min(common_prefix(prompts), min(map(len, prompts)) - 1)
    return 0 if len(prompts) < 2 or length < MIN_SHARED_PREFIX else length


def read_prefix(lm: LanguageModel, ids: Ids) -> Prefix:
    """Read a prefix with the model as it is patched now."""
    if len(ids) == 0:
        return Prefix()
    cache = GrowingCache(len(lm.layers))
    lm.decoder(
        input_ids=torch.tensor([list(ids)], device=lm.device), past_key_values=cache, use_cache=True
    )
    return Prefix(len(ids), cache)

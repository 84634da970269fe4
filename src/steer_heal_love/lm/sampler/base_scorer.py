"""Watch rows while they are generated: each token's surprise under the base model, in blocks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from steer_heal_love.errors import DivergedError
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.adapters import base
from steer_heal_love.lm.reading.context import Context, read_prefix
from steer_heal_love.lm.reading.score import token_logprobs
from steer_heal_love.lm.tokens import Ids, PaddedBatch, pad_left, pad_right


class BaseScorer:
    """The base model's own reading of the rows, so that a look costs the new tokens alone.

    `surprise_nats` has −log p of each token of a row that was scored, `read_tokens` what went
    through the base model for it, padding included.
    """

    def __init__(self, lm: LanguageModel, prompts: Sequence[Ids], shared: int) -> None:
        self.lm, self.prompts = lm, prompts
        self.surprise_nats: dict[int, list[float]] = defaultdict(list)
        self.read_tokens: dict[int, int] = defaultdict(int)
        with base(lm):
            self._prefix = read_prefix(lm, prompts[0][:shared])
        self._rows: list[int] = []
        self._columns: dict[int, int] = {}  # that a row has of the context
        self._context: Context | None = None

    def score(self, tokens: Mapping[int, Sequence[int]]) -> None:
        """Score what is new in the texts of these rows, among them all that `keep` kept.

        Raises:
            DivergedError: a log-probability is NaN.
        """
        new = [r for r in tokens if r not in self._columns and len(tokens[r]) > 0]
        with base(self.lm):
            if any(self._unread(r, tokens[r]) for r in self._rows):
                self._read_on(tokens)
            if new:
                self._begin(new, tokens)

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all rows but these."""
        stay = [k for k, r in enumerate(self._rows) if r in rows]
        if len(stay) == len(self._rows):
            return
        self._rows = [self._rows[k] for k in stay]
        self._columns = {r: self._columns[r] for r in self._rows}
        if self._context is not None and stay:
            self._context.keep(torch.tensor(stay, device=self.lm.device))
        elif not stay:
            self._context = None

    def rewind(self, row: int, to: int) -> None:
        """Put a row back to its first `to` tokens."""
        assert self._context is not None
        columns = len(self.prompts[row]) + to - 1
        self._context.rewind(self._rows.index(row), self._columns[row] - columns)
        self._columns[row] = columns
        del self.surprise_nats[row][to:]

    def _unread(self, row: int, tokens: Sequence[int]) -> list[int]:
        """What the base model has not read: the last token predicts nothing, so it can wait."""
        return [*self.prompts[row], *tokens][self._columns.get(row, self._prefix.length) : -1]

    def _read_on(self, tokens: Mapping[int, Sequence[int]]) -> None:
        """Rows that were read before. A row with less that is new has ended, or is rewound next:
        so what is padded on its right leaves the context before it is read on."""
        assert self._context is not None
        unread = [self._unread(r, tokens[r]) for r in self._rows]
        batch = pad_right(unread, self.lm.pad_id, self.lm.device)
        start = torch.tensor([[self._columns[r]] for r in self._rows], device=self.lm.device)
        positions = start + torch.arange(batch.ids.shape[1], device=self.lm.device)
        states = self._context.read(self.lm, batch.ids, positions, batch.mask)
        for row in self._rows:
            self._columns[row] += batch.ids.shape[1]
        self._record(self._rows, tokens, batch, states, [len(part) for part in unread])

    def _begin(self, rows: list[int], tokens: Mapping[int, Sequence[int]]) -> None:
        """Rows that are new here, prompts and all."""
        batch = pad_left([self._unread(r, tokens[r]) for r in rows], self.lm.pad_id, self.lm.device)
        context = self._prefix.begin(self.lm, len(rows))
        positions = batch.positions + self._prefix.length
        states = context.read(self.lm, batch.ids, positions, batch.mask)
        self._record(rows, tokens, batch, states, [batch.ids.shape[1]] * len(rows))
        for row in rows:
            self._columns[row] = len(self.prompts[row]) + len(tokens[row]) - 1
        self._rows = self._rows + rows
        if self._context is None:
            self._context = context
        else:
            self._context.join(context)

    def _record(
        self,
        rows: Sequence[int],
        tokens: Mapping[int, Sequence[int]],
        batch: PaddedBatch,
        states: Tensor,
        ends: Sequence[int],
    ) -> None:
        """Surprises of what was not scored: predicted by the states just before `ends`."""
        texts = [tokens[r][len(self.surprise_nats[r]) :] for r in rows]
        spans = [
            states[k, end - len(t) : end]
            for k, (t, end) in enumerate(zip(texts, ends, strict=True))
        ]
        targets = torch.tensor([t for text in texts for t in text], device=self.lm.device)
        values = -token_logprobs(self.lm, torch.cat(spans), targets)[0].cpu()
        if bool(values.isnan().any()):
            raise DivergedError(
                "watching: a log-probability of the base model is NaN: use float32 (--dtype)"
            )
        for row, part in zip(rows, values.split([len(t) for t in texts]), strict=True):
            self.surprise_nats[row] += part.tolist()
            self.read_tokens[row] += batch.ids.shape[1]

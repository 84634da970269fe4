"""Count the tokens that run through a decoder, by stage and by kind, from outside the package."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from steer_heal_love.lm.model.load import LanguageModel


@dataclass
class Tally:
    """Tokens of one stage."""

    prefill: int = 0  # forward, without gradient
    train: int = 0  # forward that a backward follows
    padding: int = 0  # processed, but nobody's token
    decode: Counter[int] = field(default_factory=Counter)  # rows in the step: tokens
    passes: int = 0  # calls of the decoder that are no decode step

    @property
    def tokens(self) -> int:
        """All real tokens."""
        return self.prefill + self.train + self.decode.total()


class TokenCounter:
    """Tallies by stage; whoever runs the stages sets `stage`."""

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id
        self.stage = "other"
        self.tallies: dict[str, Tally] = {}

    def see(self, inputs: Mapping[str, Any]) -> None:
        """Count one call of the decoder."""
        ids: Tensor = inputs["input_ids"]
        tally = self.tallies.setdefault(self.stage, Tally())
        if ids.shape[1] == 1 and inputs.get("past_key_values") is not None:
            tally.decode[len(ids)] += len(ids)
            return
        tally.passes += 1
        real = self._real(ids, inputs.get("attention_mask"))
        tally.padding += ids.numel() - real
        if torch.is_grad_enabled():
            tally.train += real
        else:
            tally.prefill += real

    def _real(self, ids: Tensor, mask: Tensor | None) -> int:
        """Tokens that are no padding: by the mask, else all but the padding that ends a row."""
        if mask is not None and mask.ndim == 2:
            return int(mask[:, -ids.shape[1] :].sum())
        other = (ids != self.pad_id).flip(-1).cumsum(-1)
        return int((other > 0).sum())


@contextmanager
def counting(lm: LanguageModel) -> Iterator[TokenCounter]:
    """Count every call of the model's decoder inside."""
    counter = TokenCounter(lm.pad_id)

    def see(_module: Any, args: tuple[Any, ...], inputs: dict[str, Any]) -> None:
        counter.see({"input_ids": args[0], **inputs} if args else inputs)

    handle = lm.decoder.register_forward_pre_hook(see, with_kwargs=True)
    try:
        yield counter
    finally:
        handle.remove()

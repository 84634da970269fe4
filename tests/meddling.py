"""Models and engines that a test meddles with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor, nn

from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.sampler.engine import Engine


class Meddling(nn.Module):
    """A decoder whose calls pass through a function first."""

    def __init__(self, decoder: nn.Module, before: Callable[[Tensor], float]) -> None:
        super().__init__()
        self.decoder, self.before = decoder, before

    def forward(self, input_ids: Tensor, **rest: Any) -> Any:
        factor = self.before(input_ids)
        output = self.decoder(input_ids=input_ids, **rest)
        output.last_hidden_state = output.last_hidden_state * factor
        return output


def meddled(lm: LanguageModel, before: Callable[[Tensor], float]) -> LanguageModel:
    return dataclasses.replace(lm, decoder=Meddling(lm.decoder, before))


def look_every(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Look at the tokens as seldom as on a GPU."""
    original = Engine.__init__

    def init(self: Any, *args: Any) -> None:
        original(self, *args)
        self.check_every = steps

    monkeypatch.setattr(Engine, "__init__", init)

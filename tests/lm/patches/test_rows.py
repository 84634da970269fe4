"""A batch in which each row has its own part of the history on, against one student at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from steer_heal_love.errors import ModelError
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.adapters import Switch, base, student
from steer_heal_love.records import Adapter
from tiny import KINDS, Kind, random_adapter, random_ids, tiny_lm

IDS = torch.tensor(random_ids(9, 9, 9, 9))
DEPTHS = [0, 2, 1, 3]
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@contextmanager
def student_rows(
    lm: LanguageModel, adapters: Sequence[Adapter], depths: Sequence[int]
) -> Iterator[Switch]:
    with student(lm, adapters) as switch:
        switch.depths = torch.tensor(depths)
        yield switch


@torch.inference_mode()
def logits(model: Any, ids: Tensor = IDS) -> Tensor:
    return model(ids).logits


@pytest.mark.parametrize("kind", KINDS)
def test_each_row_is_the_student_of_its_depth(kind: Kind) -> None:
    lm = tiny_lm(kind)
    adapters = [random_adapter(lm, seed) for seed in range(3)]
    with student_rows(lm, adapters, DEPTHS):
        found = logits(lm.model)
    for row, depth in enumerate(DEPTHS):
        with student(lm, adapters[:depth]):
            torch.testing.assert_close(found[row], logits(lm.model)[row], **CLOSE)
    assert (found - logits(lm.model)).abs().amax((1, 2))[1:].min() > 0.1


class Flat(nn.Linear):
    """A linear layer that keeps its weight in another shape, as those of 4 bits do."""

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__(plain.in_features, plain.out_features, bias=plain.bias is not None)
        self.weight = nn.Parameter(plain.weight.detach().reshape(-1, 1), requires_grad=False)
        self.bias = plain.bias

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight.view(self.out_features, self.in_features), self.bias)


def test_a_weight_may_be_kept_in_another_shape() -> None:
    lm = tiny_lm()
    adapters = [random_adapter(lm, seed) for seed in range(3)]
    with student_rows(lm, adapters, DEPTHS):
        plain = logits(lm.model)
    for layer in lm.layers:
        layer.mlp.down_proj = Flat(layer.mlp.down_proj)
    with student_rows(lm, adapters, DEPTHS):
        torch.testing.assert_close(logits(lm.model), plain, **CLOSE)
    with student(lm, adapters):
        torch.testing.assert_close(logits(lm.model)[3], plain[3], **CLOSE)


def test_a_row_without_adapters_is_the_base_model_to_the_bit() -> None:
    lm = tiny_lm()
    bare = logits(lm.model)
    with student_rows(lm, [random_adapter(lm)], [0, 1, 0, 1]):
        found = logits(lm.model)
    assert torch.equal(found[0], bare[0])
    assert torch.equal(found[2], bare[2])


def test_adapters_of_different_ranks_and_modules_go_together() -> None:
    lm = tiny_lm()
    adapters = [
        random_adapter(lm, 0, rank=2, targets=("q_proj",)),
        random_adapter(lm, 1, rank=5, targets=("q_proj", "down_proj")),
    ]
    with student_rows(lm, adapters, [2, 1, 0, 2]):
        found = logits(lm.model)
    with student(lm, adapters):
        torch.testing.assert_close(found[0], logits(lm.model)[0], **CLOSE)
    with student(lm, adapters[:1]):
        torch.testing.assert_close(found[1], logits(lm.model)[1], **CLOSE)


def test_rows_can_be_dropped() -> None:
    lm = tiny_lm()
    adapters = [random_adapter(lm, seed) for seed in range(3)]
    with student_rows(lm, adapters, DEPTHS) as rows:
        whole = logits(lm.model)
        kept = torch.tensor([1, 3])
        assert rows.depths is not None
        rows.depths = rows.depths[kept]
        torch.testing.assert_close(logits(lm.model, IDS[kept]), whole[kept], **CLOSE)


def test_base_turns_every_row_off_and_nothing_stays_on() -> None:
    lm = tiny_lm()
    bare = logits(lm.model)
    with student_rows(lm, [random_adapter(lm)], [1, 1, 1, 1]):
        with base(lm):
            assert torch.equal(logits(lm.model), bare)
        assert not torch.equal(logits(lm.model), bare)
    assert torch.equal(logits(lm.model), bare)
    assert lm.patches == []


def test_an_adapter_of_another_model_is_refused_and_nothing_stays_on() -> None:
    lm = tiny_lm()
    bare = logits(lm.model)
    larger = random_adapter(tiny_lm(num_hidden_layers=8))
    wider = random_adapter(tiny_lm(intermediate_size=96))
    for adapter in (larger, wider):
        with (
            pytest.raises(ModelError, match=r"made for (another|different) model"),
            student_rows(lm, [random_adapter(lm), adapter], [2, 2, 2, 2]),
        ):
            raise AssertionError("it went in")
        assert torch.equal(logits(lm.model), bare)
        assert lm.patches == []

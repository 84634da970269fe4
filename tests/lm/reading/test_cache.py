"""The growing cache against transformers' own, and its rows against a fresh computation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.reading import cache as cache_module
from steer_heal_love.lm.reading.cache import GrowingCache
from steer_heal_love.lm.tokens import PaddedBatch, pad_left
from tiny import KINDS, SLIDING_WINDOW, random_ids, tiny_lm

LONGER_THAN_WINDOW = 2 * SLIDING_WINDOW + 5


@pytest.fixture(params=KINDS)
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    return tiny_lm(request.param)


@torch.inference_mode()
def states(lm: LanguageModel, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:
    return lm.decoder(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=cache is not None,
    ).last_hidden_state


def read(lm: LanguageModel, rows: list[list[int]]) -> tuple[PaddedBatch, GrowingCache]:
    padded, cache = pad_left(rows, 0, lm.device), GrowingCache(len(lm.layers))
    states(lm, padded.ids, padded.mask, padded.positions, cache)
    return padded, cache


def last_alone(lm: LanguageModel, row: list[int]) -> Tensor:
    """State of the last token of a row, computed with no cache, no padding, no other row."""
    ids = torch.tensor([row])
    return states(lm, ids, torch.ones_like(ids), torch.arange(len(row))[None], None)[0, -1]


@torch.inference_mode()
def test_equals_the_dynamic_cache_step_by_step(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "CHUNK", 4)  # so that it grows several times
    first, *rest = torch.tensor(random_ids(LONGER_THAN_WINDOW, LONGER_THAN_WINDOW)).split(
        [9, 1, 1, 3, *[1] * (LONGER_THAN_WINDOW - 14)], dim=1
    )
    mine, theirs = GrowingCache(len(lm.layers)), DynamicCache(config=lm.decoder.config)
    for ids in (first, *rest):
        a = lm.model(ids, past_key_values=mine, use_cache=True).logits
        b = lm.model(ids, past_key_values=theirs, use_cache=True).logits
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert mine.get_seq_length() == LONGER_THAN_WINDOW


def test_growing_keeps_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "CHUNK", 2)
    layer = GrowingCache(1).layers[0]
    parts = [torch.randn(2, 1, n, 3) for n in (3, 1, 1, 1, 4)]
    for part in parts:
        keys, values = layer.update(part, -part)
    assert torch.equal(keys, torch.cat(parts, 2))
    assert torch.equal(values, -torch.cat(parts, 2))


def test_gathered_rows_go_on_as_if_alone(lm: LanguageModel) -> None:
    rows = random_ids(LONGER_THAN_WINDOW, 5, 12)
    padded, cache = read(lm, rows)
    chosen = torch.tensor([2, 1, 2])
    first = LONGER_THAN_WINDOW - 12
    cache.gather(chosen, first)
    assert cache.get_seq_length() == 12
    check_next(lm, [rows[i] for i in chosen], padded.mask[chosen, first:], cache)


@pytest.mark.parametrize("lengths", [(LONGER_THAN_WINDOW, 7), (7, LONGER_THAN_WINDOW)])
def test_joined_rows_go_on_as_if_alone(lm: LanguageModel, lengths: tuple[int, int]) -> None:
    mine, theirs = random_ids(lengths[0], 6), random_ids(lengths[1], 4, seed=4)
    (a, cache), (b, other) = read(lm, mine), read(lm, theirs)
    cache.join(other)
    width = max(lengths)
    masks = [torch.nn.functional.pad(m.mask, (width - m.mask.shape[1], 0)) for m in (a, b)]
    check_next(lm, mine + theirs, torch.cat(masks), cache)


def test_a_copy_goes_on_as_if_alone_and_leaves_the_original(lm: LanguageModel) -> None:
    rows = random_ids(SLIDING_WINDOW + 3)
    padded, cache = read(lm, rows)
    copy = cache.copy_of(torch.tensor([0, 0]))
    check_next(lm, rows * 2, padded.mask.repeat(2, 1), copy)
    assert cache.get_seq_length() == SLIDING_WINDOW + 3
    check_next(lm, rows, padded.mask, cache)


def check_next(lm: LanguageModel, rows: list[list[int]], mask: Tensor, cache: GrowingCache) -> None:
    """Feed one more token to every row, twice, and compare with the row computed alone."""
    for token in (11, 12):
        rows = [[*row, token] for row in rows]
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], 1)
        ids = torch.full((len(rows), 1), token)
        positions = torch.tensor([[len(row) - 1] for row in rows])
        found = states(lm, ids, mask, positions, cache)[:, -1]
        expected = torch.stack([last_alone(lm, row) for row in rows])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_an_empty_cache_gathers_and_copies_to_an_empty_one() -> None:
    cache = GrowingCache(2)
    cache.gather(torch.tensor([0]))
    assert cache.copy_of(torch.tensor([0])).get_seq_length() == 0
    assert cache.get_seq_length() == 0


def test_kinds_have_sliding_layers() -> None:
    types = {kind: set(getattr(tiny_lm(kind).decoder.config, "layer_types", [])) for kind in KINDS}
    assert len(types["gemma3"]) == len(types["gemma3_conditional"]) == 2

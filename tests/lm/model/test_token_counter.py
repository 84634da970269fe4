"""Tokens are counted where work is asked for, and do not depend on how it is split."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.model.team import Team
from steer_heal_love.lm.model.token_counter import TokenCounter
from steer_heal_love.lm.patches.hooks import read_hidden
from steer_heal_love.lm.reading.score import completion_logprobs, next_token_logprobs
from steer_heal_love.lm.sampler.generate import Sampling, generate
from tiny import random_ids, tiny_lm

PROMPTS = random_ids(5, 12, 9, 3, 17, seed=3)
ANSWERS = random_ids(4, 7, 2, 9, 5, seed=4)
READ, SCORED = sum(map(len, PROMPTS)), sum(map(len, ANSWERS))


def spent(lm: LanguageModel) -> int:
    """Tokens of some work of every kind, each checked on its own."""
    before = lm.token_counter.tokens
    found = generate(lm, PROMPTS, Sampling(6), seed=1)
    drawn = sum(len(g.token_ids) + (g.end_id is not None) for g in found)
    assert lm.token_counter.tokens == before + READ + drawn
    completion_logprobs(lm, PROMPTS, ANSWERS)
    assert lm.token_counter.tokens == before + READ + drawn + READ + SCORED
    next_token_logprobs(lm, PROMPTS, [5, 6])
    read_hidden(lm, PROMPTS, [1])
    assert lm.token_counter.tokens == before + 4 * READ + drawn + SCORED
    return lm.token_counter.tokens - before


@pytest.mark.parametrize(("rows", "shards"), [(1, 1), (2, 1), (64, 3)])
def test_tokens_are_those_of_the_texts_however_they_are_split(rows: int, shards: int) -> None:
    lm = replace(tiny_lm(), rows=rows, team=Team(shards), token_counter=TokenCounter())
    assert spent(lm) == spent(tiny_lm())


def test_a_batch_that_is_tried_again_counts_once() -> None:
    from meddling import meddled

    def allocate(ids: torch.Tensor) -> float:
        if len(ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 1.0

    assert spent(meddled(tiny_lm(), allocate)) == spent(tiny_lm())

"""Lengths of texts, and the usual ones that stand in where there is no tokenizer."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch

from steer_heal_love.budget.texts import USUAL, PromptStats, measure_texts
from steer_heal_love.inputs.axes import load_axis, load_contexts
from steer_heal_love.lm.model.load import load_config, load_tokenizer
from steer_heal_love.lm.model.meta_model import build_meta_model
from steer_heal_love.run_config import RunConfig


def test_a_lot_tells_what_is_shared_from_what_is_each_texts_own() -> None:
    rows = [[*range(10), 50 + k, *([7] * k)] for k in range(4)]
    assert PromptStats.of(rows) == PromptStats(4, 10, 4, 2.5)
    assert PromptStats.of(rows, share=False) == PromptStats(4, 0, 14, 12.5)


@pytest.mark.parametrize(("shards", "expected"), [(1, 192), (5, 39), (192, 1), (500, 1)])
def test_processes_share_the_texts(shards: int, expected: int) -> None:
    shared = USUAL.shared_by(shards)
    assert shared.prompts.count == expected
    assert shared.prompt == USUAL.prompt


@pytest.mark.golden
def test_the_usual_texts_are_those_of_the_embedded_model_and_the_love_axis() -> None:
    tokenizer = load_tokenizer("smollm2")
    lm = build_meta_model(load_config("smollm2"), torch.bfloat16, tokenizer=tokenizer)
    found = measure_texts(lm, load_axis("love"), load_contexts(), RunConfig())
    for name, lot in asdict(USUAL).items():
        assert asdict(found)[name] == pytest.approx(lot, abs=0.1), name


@pytest.mark.golden
def test_without_vignettes_none_are_counted() -> None:
    tokenizer = load_tokenizer("smollm2")
    lm = build_meta_model(load_config("smollm2"), torch.bfloat16, tokenizer=tokenizer)
    config = RunConfig.model_validate({"evaluate": {"mfv": "off"}})
    found = measure_texts(lm, load_axis("love"), load_contexts(), config)
    assert found.vignettes.count == 0

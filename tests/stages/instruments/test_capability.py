"""Perplexity of ordinary text against the model's own loss."""

from __future__ import annotations

import math

import pytest
import torch

from steer_heal_love.lm.patches.adapters import student
from steer_heal_love.lm.reading.chat import encode_text
from steer_heal_love.stages.instruments.capability import measure_capability, ordinary_paragraphs
from tiny import random_adapter, tiny_lm

PARAGRAPHS = ["The train leaves at noon.", "Listen, and be kind to people.", "Rules are rules."]


def test_the_bundled_text_is_twelve_paragraphs() -> None:
    paragraphs = ordinary_paragraphs()
    assert len(paragraphs) == 12
    assert all(len(p.split()) > 100 for p in paragraphs)


def test_it_is_the_model_s_own_loss() -> None:
    lm = tiny_lm()
    found = measure_capability(lm, PARAGRAPHS)
    total, tokens = 0.0, 0
    for text, nll in zip(PARAGRAPHS, found.items["capability_nats"], strict=True):
        ids = torch.tensor([encode_text(lm, text)])
        with torch.inference_mode():
            loss = float(lm.model(input_ids=ids, labels=ids).loss)
        assert nll == pytest.approx(loss, abs=1e-4)
        total, tokens = total + loss * (ids.shape[1] - 1), tokens + ids.shape[1] - 1
    figure = found.figures["capability_perplexity"]
    assert figure.value == pytest.approx(math.exp(total / tokens), rel=1e-3)
    assert figure.low <= figure.value <= figure.high


def test_it_sees_the_student() -> None:
    lm = tiny_lm()
    before = measure_capability(lm, PARAGRAPHS).value("capability_perplexity")
    with student(lm, [random_adapter(lm)]):
        assert measure_capability(lm, PARAGRAPHS).value("capability_perplexity") != before


def test_a_long_paragraph_is_cut_to_the_context() -> None:
    lm = tiny_lm(max_position_embeddings=16)
    long = " ".join(PARAGRAPHS)
    found = measure_capability(lm, [long, PARAGRAPHS[0]])
    ids = encode_text(lm, long)[:16]
    with torch.inference_mode():
        loss = float(lm.model(input_ids=torch.tensor([ids]), labels=torch.tensor([ids])).loss)
    assert found.items["capability_nats"][0] == pytest.approx(loss, abs=1e-4)


def test_nothing_to_predict() -> None:
    with pytest.raises(ValueError, match="token to predict"):
        measure_capability(tiny_lm(), ["", "The train"])

"""Reference texts and what they say of a model: sharpness, its match, and divergence from base."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.adapters import base, student
from steer_heal_love.lm.patches.temperature import current_head, set_temperature
from steer_heal_love.lm.reading.chat import encode_chat
from steer_heal_love.lm.reading.score import completion_logprobs
from steer_heal_love.lm.sampler.answers import sample_answers
from steer_heal_love.lm.sampler.generate import Sampling
from steer_heal_love.records import AnswerPair, Axis
from steer_heal_love.stages.instruments.answer_pairs import answer_pair_values, measure_trait
from steer_heal_love.stages.instruments.entropy import (
    PARAGRAPHS,
    TOKENS,
    Reference,
    measure_divergence,
    measure_entropy,
    sample_reference,
    split_answers,
)
from tiny import random_adapter, tiny_lm

QUESTIONS = ("How are you?", "Tell me about rain.", "I am sad.")
AXIS = Axis(
    name="kind",
    description="",
    template="You are {persona}.",
    pos="someone who cares",
    neg="someone who does not care",
    probes=QUESTIONS,
    pairs=(
        AnswerPair("Do you care?", "Yes, I do.", "No, I do not."),
        AnswerPair("Help me?", "With all my heart.", "Not at any rate."),
    ),
)


def reference_of(lm: LanguageModel) -> Reference:
    return Reference(lm, sample_reference(lm, QUESTIONS, seed=3))


def test_the_texts_are_the_bares_base_whatever_is_on() -> None:
    lm = tiny_lm()
    plain = sample_reference(lm, QUESTIONS, seed=3)
    assert [c.prompt for c in plain] == list(QUESTIONS)
    assert max(len(c.token_ids) for c in plain) <= TOKENS
    with student(lm, [random_adapter(lm)]), set_temperature(lm, 0.5):
        assert sample_reference(lm, QUESTIONS, seed=3) == plain
    assert sample_reference(lm, QUESTIONS, seed=4) != plain


def test_base_is_as_sharp_as_itself_to_the_bit() -> None:
    lm = tiny_lm()
    found = measure_trait(lm, AXIS, reference_of(lm))
    assert found.value("temperature_match") == 1.0
    assert found.value("entropy_shift_nats") == found.value("kl_matched_nats") == 0.0
    assert found.items["trait_nats"] == found.items["trait_raw_nats"]
    assert list(found.items["trait_nats"]) == answer_pair_values(lm, AXIS)
    assert len(found.items["entropy_nats"]) == len(QUESTIONS) + PARAGRAPHS


def test_entropy_is_that_of_the_models_own_table() -> None:
    lm = tiny_lm()
    texts = sample_reference(lm, QUESTIONS, seed=3)
    found = measure_entropy(Reference(lm, texts)).measurement
    prompt, answer = encode_chat(lm, QUESTIONS[0]), texts[0].token_ids
    with torch.inference_mode():
        table = lm.model(torch.tensor([[*prompt, *answer]])).logits[0].double().log_softmax(-1)
    rows = table[len(prompt) - 1 :][: len(answer) + texts[0].ended]
    expected = float(-(rows.exp() * rows).sum(-1).mean())
    assert found.items["entropy_nats"][0] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("temperature", [0.5, 1.6])
def test_a_temperature_is_no_trait(temperature: float) -> None:
    lm = tiny_lm()
    reference = reference_of(lm)
    plain = measure_trait(lm, AXIS, reference)
    with set_temperature(lm, temperature):
        found = measure_trait(lm, AXIS, reference)
    assert found.value("temperature_match") == pytest.approx(1 / temperature, rel=0.02)
    assert found.value("kl_matched_nats") == pytest.approx(0, abs=1e-4)
    assert found.value("trait_nats") == pytest.approx(plain.value("trait_nats"), abs=2e-3)
    assert abs(found.value("trait_raw_nats") - plain.value("trait_nats")) > 0.01
    shift = found.figures["entropy_shift_nats"]
    assert (shift.value < 0) == (temperature < 1)
    entropies = (m.value("entropy_nats") for m in (found, plain))
    assert shift.value == pytest.approx(next(entropies) - next(entropies), abs=1e-5)
    assert shift.low <= shift.value <= shift.high


def test_a_persona_is_read_with_the_answers_and_not_with_ordinary_text() -> None:
    lm = tiny_lm()
    reference = reference_of(lm)
    plain = measure_entropy(reference).measurement.items["entropy_nats"]
    found = measure_entropy(reference, AXIS.pos_system).measurement.items["entropy_nats"]
    n = len(QUESTIONS)
    assert found[n:] == plain[n:]
    assert found[:n] != plain[:n]


def test_no_match_leaves_the_trait_without_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    from steer_heal_love.stages.instruments import entropy

    lm = tiny_lm()
    monkeypatch.setattr(entropy, "match_entropy", lambda *_: None)
    found = measure_trait(lm, AXIS, reference_of(lm))
    assert not {"trait_nats", "temperature_match", "kl_matched_nats"} & set(found.figures)
    assert found.items["trait_nats"] == (None, None)
    assert {"trait_raw_nats", "entropy_nats", "entropy_shift_nats"} <= set(found.figures)


def test_cross_entropy_on_own_answers_is_split_in_two() -> None:
    lm = tiny_lm()
    whole = Sampling(200, top_k=len(lm.head.weight), top_p=1.0)
    with student(lm, [random_adapter(lm)]):
        answers = sample_answers(lm, [*QUESTIONS, *QUESTIONS], whole, seed=0)
        splits = split_answers(lm, answers)
        found = measure_divergence(splits)
    prompts = [encode_chat(lm, c.prompt) for c in answers]
    with base(lm):
        rows = completion_logprobs(lm, prompts, [c.token_ids for c in answers])
    for row, split in zip(rows, splits, strict=True):
        torch.testing.assert_close(-row, split.surprise, rtol=0, atol=1e-4)
    surprise = torch.cat([s.surprise for s in splits])
    expected = torch.cat([s.entropy + s.kl for s in splits])
    error = float((surprise - expected).std()) / math.sqrt(len(surprise))
    assert float(surprise.mean()) == pytest.approx(float(expected.mean()), abs=4 * error)
    assert 0 < found.value("kl_nats") <= found.value("kl_rmse_nats")
    assert len(found.items["kl_nats"]) == len(answers)


def test_base_has_not_moved_and_an_empty_answer_has_no_value() -> None:
    lm = tiny_lm()
    answers = sample_answers(lm, QUESTIONS[:2], Sampling(8), seed=0)
    found = measure_divergence(split_answers(lm, [*answers, replace(answers[0], token_ids=())]))
    assert found.items["kl_nats"] == (0.0, 0.0, None)
    assert found.value("kl_nats") == found.value("kl_rmse_nats") == 0.0
    assert measure_divergence([]).figures == {}


def test_a_temperature_is_off_in_base_and_gone_afterwards() -> None:
    lm = tiny_lm()
    with set_temperature(lm, 0.5):
        assert current_head(lm).scale == pytest.approx(2 * lm.head.scale)
        with base(lm):
            assert current_head(lm) is lm.head
    assert current_head(lm) is lm.head
    assert lm.patches == []
    with pytest.raises(ValueError, match="positive"), set_temperature(lm, 0.0):
        pass


def test_sampling_draws_at_the_temperature_that_is_on() -> None:
    lm = tiny_lm()
    plain = sample_answers(lm, QUESTIONS, Sampling(12, temperature=0.5), seed=1)
    with set_temperature(lm, 0.5):
        assert [c.token_ids for c in sample_answers(lm, QUESTIONS, Sampling(12), seed=1)] == [
            c.token_ids for c in plain
        ]

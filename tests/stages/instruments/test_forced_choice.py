"""The forced choice on tiny random models, and on made-up log-probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from steer_heal_love.errors import DivergedError, ModelError
from steer_heal_love.inputs.vignettes import FOUNDATIONS, Vignette, load_bundled
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.reading.chat import decode_text, encode_text
from steer_heal_love.lm.tokens import common_prefix
from steer_heal_love.records import Measurement
from steer_heal_love.stages.instruments import forced_choice
from steer_heal_love.stages.instruments.forced_choice import (
    ORDERS,
    ForcedChoiceConfig,
    Slot,
    build_prompts,
    find_slot,
    measure_forced_choice,
)
from tiny import KINDS, Kind, tiny_lm

PLAIN = ForcedChoiceConfig()
ROOMY = {"max_position_embeddings": 2048}  # a byte-like tokenizer makes long prompts


def few() -> list[Vignette]:
    """Two bundled vignettes a foundation."""
    return load_bundled()[::6]


def profile(found: Measurement) -> list[float]:
    return [found.value(f"{f}_nats") for f in FOUNDATIONS]


def by_place(
    monkeypatch: pytest.MonkeyPatch, style: str, logprob: Callable[[str, int], float]
) -> None:
    """A model whose log-probability of an answer is a function of foundation and place in the list.

    The place is read off the prompt, as a model would.
    """

    def fake(
        lm: LanguageModel, prompts: Sequence[Sequence[int]], candidates: Sequence[int], **_: Any
    ) -> Tensor:
        rows = []
        for prompt in prompts:
            text = decode_text(lm, list(prompt))
            order = sorted(FOUNDATIONS, key=lambda f: text.index(f"{f}: "))
            asked = FOUNDATIONS if style == "words" else order
            rows.append([logprob(f, order.index(f)) for f in asked])
        return torch.tensor(rows)

    monkeypatch.setattr(forced_choice, "next_token_logprobs", fake)
    ids = tuple(range(10, 17))
    monkeypatch.setattr(forced_choice, "find_slot", lambda *_: Slot(style, (5,), ids))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_the_shared_prefix_changes_nothing(kind: Kind) -> None:
    lm = tiny_lm(kind, **ROOMY)
    shared, alone = (
        measure_forced_choice(lm, few(), PLAIN, share_prefix=share) for share in (True, False)
    )
    assert profile(shared) == pytest.approx(profile(alone), abs=1e-4)
    assert shared.items["top1"] == alone.items["top1"]
    assert shared.value("p_ans_any") == pytest.approx(alone.value("p_ans_any"), rel=1e-4)


@pytest.mark.parametrize("style", ["auto", "letters"])
def test_the_reversed_order_gives_the_same_profile(
    style: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm, config = tiny_lm(**ROOMY), ForcedChoiceConfig(style=style)
    forward = measure_forced_choice(lm, few(), config)
    monkeypatch.setattr(forced_choice, "ORDERS", ORDERS[::-1])
    backward = measure_forced_choice(lm, few(), config)
    assert profile(forward) == pytest.approx(profile(backward), abs=1e-6)
    assert forward.value("p_ans_any") == pytest.approx(backward.value("p_ans_any"))


def test_a_model_that_answers_uniformly() -> None:
    lm = tiny_lm(tie_word_embeddings=False, **ROOMY)
    torch.nn.init.zeros_(lm.head.weight)
    found = measure_forced_choice(lm, few(), PLAIN)
    assert profile(found) == pytest.approx([math.log(1 / 7)] * 7)
    assert found.value("p_ans_any") == pytest.approx(7 / lm.head.weight.shape[0])


@pytest.mark.parametrize("style", ["words", "letters"])
def test_a_preference_for_early_options_cancels(
    style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_place(monkeypatch, style, lambda _, place: -1.0 - 0.7 * place)
    found = measure_forced_choice(tiny_lm(**ROOMY), few(), PLAIN)
    assert profile(found) == pytest.approx([math.log(1 / 7)] * 7)


@pytest.mark.parametrize("style", ["words", "letters"])
def test_an_opinion_is_found_under_a_preference_for_late_options(
    style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_place(monkeypatch, style, lambda f, place: -9.0 + 0.5 * place + 2.0 * (f == "sanctity"))
    found = measure_forced_choice(tiny_lm(**ROOMY), few(), PLAIN)
    expected = math.exp(2) / (6 + math.exp(2))
    assert found.value("p_sanctity") == pytest.approx(expected)
    assert found.value("informedness") == 0  # whatever the act, it says the same
    mass = [sum(math.exp(-9 + 0.5 * k + 2 * (f == "sanctity")) for k, f in enumerate(order))
            for order in ORDERS]  # fmt: skip
    assert found.value("p_ans_any") == pytest.approx(sum(mass) / 2)


def test_a_broken_model_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    by_place(monkeypatch, "words", lambda *_: math.nan)
    with pytest.raises(DivergedError, match="NaN"):
        measure_forced_choice(tiny_lm(**ROOMY), few(), PLAIN)


@pytest.mark.parametrize("style", ["words", "letters"])
def test_vignettes_share_all_that_comes_before_them(style: Any) -> None:
    lm = tiny_lm(**ROOMY)
    slot = Slot(style, (5,), tuple(range(7)))
    prompts = build_prompts(lm, few(), slot, ORDERS[0], PLAIN, system="You are kind.")
    text = decode_text(lm, prompts[0][: common_prefix(prompts)])
    assert "You are kind." in text
    assert "The act: You" in text


def test_a_system_prompt_counts() -> None:
    lm = tiny_lm(**ROOMY)
    plain, kind = (measure_forced_choice(lm, few(), PLAIN, system=s) for s in (None, "Be kind."))
    assert profile(plain) != pytest.approx(profile(kind), abs=1e-4)


@pytest.mark.parametrize("style", ["auto", "letters"])
def test_the_slot_and_its_answers_are_what_the_tokenizer_makes_of_them(style: Any) -> None:
    lm = tiny_lm()
    slot = find_slot(lm, style)
    names = FOUNDATIONS if slot.style == "words" else "ABCDEFG"
    assert len(set(slot.answers)) == 7
    for answer, name in zip(slot.answers, names, strict=True):
        shown = decode_text(lm, [*slot.ids, answer])
        assert any(f"{b}{lead}{name}".startswith(shown) for _, b, lead in forced_choice._FORMS)
        assert len(shown) > len(decode_text(lm, slot.ids))


def test_words_that_begin_alike_become_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny_lm()
    real = forced_choice._first_token

    def blind(lm: LanguageModel, before: str, slot_ids: list[int], answer: str) -> int | None:
        return 7 if answer.strip() in FOUNDATIONS else real(lm, before, slot_ids, answer)

    monkeypatch.setattr(forced_choice, "_first_token", blind)
    assert find_slot(lm).style == "letters"
    with pytest.raises(ModelError, match="use the style letters"):
        find_slot(lm, "words")
    monkeypatch.setattr(forced_choice, "_first_token", lambda *_: None)
    with pytest.raises(ModelError, match="does not tell the seven answers apart"):
        find_slot(lm)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_thinking_stands_between_question_and_answer(temperature: float) -> None:
    lm = tiny_lm(**ROOMY)
    config = ForcedChoiceConfig(think_tokens=64, think_temperature=temperature)
    slot = find_slot(lm)
    thinking = build_prompts(lm, few(), slot, ORDERS[0], config, seed=3)
    again = build_prompts(lm, few(), slot, ORDERS[0], config, seed=3)
    assert thinking == again
    for prompt in thinking:
        assert prompt[-len(slot.ids) :] == list(slot.ids)
    assert "Think about it briefly" in decode_text(lm, thinking[0])
    measured = measure_forced_choice(lm, few()[:4], config)
    assert sum(measured.value(f"p_{f}") for f in FOUNDATIONS) == pytest.approx(1)


def test_thinking_ends_where_the_model_answers_by_itself() -> None:
    lm = tiny_lm()
    said = encode_text(lm, f"It hurts. {forced_choice._MARK} care")
    thought = forced_choice.Generated(tuple(said), None)
    assert decode_text(lm, forced_choice._thinking(lm, thought)) == "It hurts.\n\n"
    assert forced_choice._thinking(lm, forced_choice.Generated((), 2)) == []


def test_a_prompt_that_does_not_fit() -> None:
    lm = tiny_lm(max_position_embeddings=2048)
    slot = find_slot(lm)
    (prompt,) = build_prompts(lm, few()[:1], slot, ORDERS[0], PLAIN)
    lm = tiny_lm(max_position_embeddings=len(prompt) + 20)
    with pytest.raises(ModelError, match="think less"):
        measure_forced_choice(lm, few()[:1], ForcedChoiceConfig(think_tokens=64))

"""Relevance against scoring one by one."""

from __future__ import annotations

import pytest
import torch

from steer_heal_love.lm.patches.adapters import student
from steer_heal_love.lm.reading.chat import encode_chat, encode_text
from steer_heal_love.lm.reading.relevance import relevance
from steer_heal_love.lm.reading.score import completion_logprobs
from tiny import random_adapter, tiny_lm

PROMPTS = ["How are you?", "What is the time?", "Who is sad?", "How are you?"]


def test_relevance_equals_scoring_one_by_one() -> None:
    lm = tiny_lm()
    answers = [encode_text(lm, t) for t in ("I am well", "noon", "a friend", "well, you?")]
    found = relevance(lm, PROMPTS, answers, n_other=2)  # two others: all of them
    for i, (prompt, answer) in enumerate(zip(PROMPTS, answers, strict=True)):
        mean = {
            p: float(completion_logprobs(lm, [encode_chat(lm, p)], [answer])[0].mean())
            for p in set(PROMPTS)
        }
        others = [m for p, m in mean.items() if p != prompt]
        assert found[i] == pytest.approx(mean[prompt] - sum(others) / len(others), abs=1e-4)


def test_relevance_is_under_the_base_model() -> None:
    lm = tiny_lm()
    answers = [encode_text(lm, t) for t in ("I am well", "noon", "a friend", "well, you?")]
    bare = relevance(lm, PROMPTS, answers)
    with student(lm, [random_adapter(lm)]), torch.inference_mode():
        assert relevance(lm, PROMPTS, answers) == bare


def test_relevance_draws_the_same_others_for_every_condition() -> None:
    """The draw of a sample depends neither on the answers nor on which of them are empty."""
    lm = tiny_lm()
    answers = [encode_text(lm, t) for t in ("I am well", "noon", "a friend", "well, you?")]
    full = relevance(lm, PROMPTS, answers, n_other=1, seed=3)
    holed = relevance(lm, PROMPTS, [answers[0], [], answers[2], answers[3]], n_other=1, seed=3)
    assert holed[1] is None
    assert [holed[i] for i in (0, 2, 3)] == pytest.approx([full[i] for i in (0, 2, 3)], abs=1e-4)


def test_relevance_needs_two_prompts() -> None:
    lm = tiny_lm()
    assert relevance(lm, ["Hello"] * 2, [[5, 6], [7]]) == [None, None]
    assert relevance(lm, PROMPTS[:2], [[], []]) == [None, None]

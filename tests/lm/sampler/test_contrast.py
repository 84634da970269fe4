"""Sampling and scoring by a contrast, against a loop that reads everything anew in float64."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch

from steer_heal_love.errors import HookError, ModelError
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.adapters import base, student
from steer_heal_love.lm.patches.contrast import contrasting, make_contrast
from steer_heal_love.lm.patches.hooks import steering
from steer_heal_love.lm.patches.temperature import set_temperature
from steer_heal_love.lm.reading.chat import encode_chat, under_personas
from steer_heal_love.lm.reading.score import completion_logprobs, next_token_logprobs
from steer_heal_love.lm.sampler.generate import generate
from steer_heal_love.lm.sampler.sampling import Dosing, Generated, Sampling, noise
from steer_heal_love.lm.sampler.stream import StreamRow, Token, stream
from steer_heal_love.lm.tokens import Ids
from steer_heal_love.maths.backtrack import Backtrack
from steer_heal_love.records import Direction
from tiny import KINDS, WIDTH, Kind, random_adapter, tiny_lm
from tiny_run import PROBES, small_axis

STOPS = frozenset(range(3, 384, 9))  # many, so that rows end at different lengths
WHOLE = Sampling(max_new_tokens=10, temperature=1.0, top_k=0, top_p=1.0)
GAMMA, CLIP = 6.0, 4.0
AXIS = small_axis()


def stopping(kind: Kind = "llama") -> LanguageModel:
    return dataclasses.replace(tiny_lm(kind), stop_ids=STOPS)


def naive_log_p(model: Any, ways: Sequence[Ids], so_far: Ids, gamma: float) -> torch.Tensor:
    """The next token's distribution, from three whole passes; `model` is in float64."""
    plain, pos, neg = (
        torch.log_softmax(model(torch.tensor([[*ids, *so_far]])).logits[0, -1].double(), -1)
        for ids in ways
    )
    tilted = plain + (gamma / 2 * (pos - neg)).clamp(-CLIP, CLIP)
    stops = torch.tensor(sorted(STOPS))
    rest = torch.ones_like(plain, dtype=torch.bool).index_fill(0, stops, value=False)
    probs = torch.where(rest, tilted.exp(), 0)
    left = plain.exp()[rest].sum()
    return torch.where(rest, probs * left / probs.sum(), plain.exp()).log()


@torch.inference_mode()
def naive_answer(
    lm: LanguageModel, prompt: str, how: Sampling, index: int, seed: int, system: str | None
) -> Generated:
    """Token by token, each by inverting the cumulative distribution at the row's own noise."""
    chat = encode_chat(lm, prompt, system)
    ways = [chat, *under_personas(lm, chat, (AXIS.pos_system, AXIS.neg_system))]
    uniforms, tokens = noise(seed, index, how.max_new_tokens), list[int]()
    for u in uniforms.astype(np.float32):
        log_p = naive_log_p(lm.model, ways, tokens, GAMMA)
        if how.temperature == 0:
            token = int(log_p.argmax())
        else:
            cumulative = (log_p / how.temperature).softmax(-1).cumsum(-1)
            token = int((cumulative <= float(u)).sum())
        if token in STOPS:
            return Generated(tuple(tokens), token)
        tokens.append(token)
    return Generated(tuple(tokens), None)


def sampled(lm: LanguageModel, how: Sampling, system: str | None = None, **changes: Any) -> Any:
    prompts = [encode_chat(lm, p, system) for p in PROBES]
    with contrasting(lm, AXIS, GAMMA):
        return generate(lm, prompts, how, seed=5, **changes)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [1.0, 0.6, 0.0])
def test_answers_are_those_of_the_naive_loop(kind: Kind, temperature: float) -> None:
    lm = stopping(kind)
    how = dataclasses.replace(WHOLE, temperature=temperature)
    answers = sampled(lm, how, system="Be brief.")
    lm.model.double()
    expected = [naive_answer(lm, p, how, i, 5, "Be brief.") for i, p in enumerate(PROBES)]
    assert answers == expected
    ended = sum(g.end_id is not None for g in expected)
    assert (
        temperature != 1
        or 0 < ended < len(expected)
        or len({len(g.token_ids) for g in expected}) > 1
    )


def test_rows_join_and_leave_as_threes() -> None:
    lm = stopping()
    together = sampled(lm, WHOLE)
    for rows in (1, 3, 6, 7):
        assert sampled(lm, WHOLE, batch_size=rows) == together
    finished: list[int] = []
    sampled(lm, WHOLE, on_finished=finished.append)
    assert sum(finished) == len(PROBES)


def test_it_adds_up_with_a_temperature_a_student_and_a_steering() -> None:
    lm = stopping()
    prompts = [encode_chat(lm, p) for p in PROBES]
    with contrasting(lm, AXIS, GAMMA), set_temperature(lm, 0.6):
        cooled = generate(lm, prompts, WHOLE, seed=5)
    assert cooled == sampled(lm, dataclasses.replace(WHOLE, temperature=0.6))
    direction = Direction((1, 2), torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(1)))
    with student(lm, [random_adapter(lm)]), steering(lm, direction, 0.5) as on:
        expected = []
        for i, p in enumerate(PROBES):
            expected.append(naive_answer(lm, p, WHOLE, i, 5, None))
        assert sampled(lm, WHOLE) == expected
        assert sampled(lm, WHOLE, dosing=Dosing(on, [0.5] * len(PROBES))) == expected
    assert expected != sampled(lm, WHOLE)


def test_scores_are_those_of_the_naive_loop() -> None:
    lm = stopping()
    texts = [[9, 3, 40, 41], [8], [], [100, 101, 102, 12]]  # 3 and 12 are stops
    prompts = [encode_chat(lm, p) for p in PROBES]
    with contrasting(lm, AXIS, GAMMA):
        rows = completion_logprobs(lm, prompts, texts)
        few = completion_logprobs(lm, prompts, texts, batch_tokens=1)
        first = next_token_logprobs(lm, prompts, [9, 3])
        with base(lm):
            bare = completion_logprobs(lm, prompts, texts)
    lm.model.double()
    for chat, text, row, again, nexts in zip(prompts, texts, rows, few, first, strict=True):
        ways = [chat, *under_personas(lm, chat, (AXIS.pos_system, AXIS.neg_system))]
        with torch.inference_mode():
            steps = [naive_log_p(lm.model, ways, text[:k], GAMMA) for k in range(len(text))]
            start = naive_log_p(lm.model, ways, [], GAMMA)
        expected = torch.tensor([float(s[t]) for s, t in zip(steps, text, strict=True)])
        assert torch.allclose(row, expected, atol=1e-5)
        assert torch.allclose(again, expected, atol=1e-5)
        assert torch.allclose(nexts, start[[9, 3]].float(), atol=1e-5)
    lm.model.float()
    plain = completion_logprobs(lm, prompts, texts)
    assert all(torch.equal(a, b) for a, b in zip(bare, plain, strict=True))  # base turns it off
    assert not torch.allclose(plain[0], rows[0], atol=1e-2)
    # What a row is not drawn to is held: an end token is as likely as without the contrast.
    assert torch.allclose(rows[0][1], plain[0][1], atol=1e-5)


def test_text_of_no_conversation_is_the_models_own() -> None:
    lm = stopping()
    plain = completion_logprobs(lm, [[5], [6, 7]], [[8, 9, 10], [11]])
    with contrasting(lm, AXIS, GAMMA):
        tilted = completion_logprobs(lm, [[5], [6, 7]], [[8, 9, 10], [11]])
        with pytest.raises(HookError, match="of conversations"):
            generate(lm, [[5], [6, 7]], WHOLE)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(plain, tilted, strict=True))


def test_below_zero_the_personas_change_places() -> None:
    lm = stopping()
    other = dataclasses.replace(AXIS, pos=AXIS.neg, neg=AXIS.pos)
    with contrasting(lm, AXIS, -GAMMA):
        answers = generate(lm, [encode_chat(lm, p) for p in PROBES], WHOLE, seed=5)
    with contrasting(lm, other, GAMMA):
        assert answers == generate(lm, [encode_chat(lm, p) for p in PROBES], WHOLE, seed=5)
    assert answers != sampled(lm, WHOLE)
    assert not lm.patches


def test_what_cannot_be_is_refused_and_nothing_stays_on() -> None:
    lm = stopping()
    with (
        pytest.raises(HookError, match="on already"),
        contrasting(lm, AXIS, 1),
        contrasting(lm, AXIS, 1),
    ):
        pass
    with pytest.raises(ValueError, match="finite"), contrasting(lm, AXIS, float("inf")):
        pass
    direction = Direction((1,), torch.ones(1, WIDTH))
    with (
        steering(lm, direction, 1.0, must_fire=False) as on,
        pytest.raises(HookError, match="taken back"),
    ):
        sampled(lm, WHOLE, dosing=Dosing(on, 1.0, backtrack=Backtrack()))
    assert not lm.patches


def as_generated(tokens: list[Token]) -> Generated:
    ids = tuple(token.id for token in tokens)
    return Generated(ids[:-1], ids[-1]) if tokens[-1].ends else Generated(ids, None)


def test_in_a_stream_it_stands_beside_rows_without_it() -> None:
    lm = stopping()
    adapters = [random_adapter(lm)]
    contrast = make_contrast(lm, AXIS, GAMMA)
    chat = encode_chat(lm, PROBES[1])
    pos, neg = under_personas(lm, chat, contrast.systems)
    rows = [
        StreamRow(chat, judged_on=chat),
        StreamRow(chat, judged_on=chat, personas=(pos, neg)),
        StreamRow(chat, 1, personas=(pos, neg)),
    ]
    by_row: list[list[Token]] = [[] for _ in rows]
    for tokens in stream(lm, rows, WHOLE, seed=5, adapters=adapters, tilt=contrast.tilt):
        for token in tokens:
            by_row[token.row].append(token)
    expected = generate(lm, [chat], WHOLE, seed=5)
    for depth in (0, 1):
        with (
            student(lm, adapters[:depth]) if depth else nullcontext(),
            contrasting(lm, AXIS, GAMMA),
        ):
            expected += generate(lm, [chat], WHOLE, seed=5)
    assert [as_generated(tokens) for tokens in by_row] == expected
    assert len({g.token_ids for g in expected}) == len(rows)
    [surprise] = completion_logprobs(lm, [chat], [[t.id for t in by_row[1]]])
    read = torch.tensor([t.surprise_nats for t in by_row[1]], dtype=torch.float32)
    assert torch.allclose(read, -surprise, atol=1e-4)
    with pytest.raises(ModelError, match="no tilt"):
        next(stream(lm, rows, WHOLE))

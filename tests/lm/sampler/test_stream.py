"""The stream against the sampler, one row at a time, and its surprises against the scorer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steer_heal_love.errors import DivergedError, ModelError
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.adapters import student
from steer_heal_love.lm.patches.hooks import steering
from steer_heal_love.lm.reading.score import completion_logprobs
from steer_heal_love.lm.sampler.generate import Generated, generate
from steer_heal_love.lm.sampler.sampling import Dosing, Sampling
from steer_heal_love.lm.sampler.stream import Intervention, StreamRow, Token, stream
from steer_heal_love.maths.schedule import Schedule
from steer_heal_love.records import Direction
from tiny import KINDS, WIDTH, Kind, random_adapter, random_ids, tiny_lm

HOW = Sampling(max_new_tokens=12, temperature=1.0, top_k=50, top_p=0.95)
STOPS = frozenset(range(3, 384, 9))  # many, so that rows end at different lengths
PROMPT, PERSONA = random_ids(7, 15)
LINEAR = Schedule("linear", 5, 0.2)


def stopping(kind: Kind = "llama", **changes: int) -> LanguageModel:
    return dataclasses.replace(tiny_lm(kind, **changes), stop_ids=STOPS)


def some_direction() -> Direction:
    generator = torch.Generator().manual_seed(1)
    return Direction((1, 2), torch.randn(2, WIDTH, generator=generator))


def rows_of(steps: Iterable[list[Token]], count: int) -> list[list[Token]]:
    found: list[list[Token]] = [[] for _ in range(count)]
    for tokens in steps:
        for token in tokens:
            assert not found[token.row] or not found[token.row][-1].last, "more after the last"
            found[token.row].append(token)
    return found


def as_generated(tokens: list[Token]) -> Generated:
    ids = tuple(token.id for token in tokens)
    return Generated(ids[:-1], ids[-1]) if tokens[-1].ends else Generated(ids, None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", [HOW, Sampling(12, temperature=0.0)], ids=["sampled", "greedy"])
def test_every_row_is_what_the_sampler_draws_alone(kind: Kind, how: Sampling) -> None:
    lm, direction = stopping(kind), some_direction()
    adapters = [random_adapter(lm, seed) for seed in range(2)]
    rows = [
        StreamRow(PROMPT, judged_on=PROMPT),
        StreamRow(PERSONA, judged_on=PROMPT),
        StreamRow(PROMPT, 1, 1.5, judged_on=PROMPT),
        StreamRow(PROMPT, 2),
    ]
    intervention = Intervention(direction, gate="relu", operator="rotate")
    streamed = rows_of(
        stream(lm, rows, how, seed=3, adapters=adapters, intervention=intervention), len(rows)
    )
    expected = generate(lm, [PROMPT], how, seed=3) + generate(lm, [PERSONA], how, seed=3)
    with student(lm, adapters[:1]), steering(lm, direction, 1.5, gate="relu", operator="rotate"):
        expected += generate(lm, [PROMPT], how, seed=3)
    with student(lm, adapters):
        expected += generate(lm, [PROMPT], how, seed=3)
    assert [as_generated(row) for row in streamed] == expected
    assert len({tuple(g.token_ids) for g in expected}) > 1  # else nothing is shown


def test_rows_that_end_early_leave_the_others_as_they_were() -> None:
    lm = stopping()
    prompts = random_ids(3, 9, 5, 12, 6, seed=11)
    rows = [StreamRow(p, judged_on=PROMPT) for p in prompts]
    streamed = rows_of(stream(lm, rows, HOW, seed=1), len(rows))
    assert [as_generated(r) for r in streamed] == [
        generate(lm, [p], HOW, seed=1)[0] for p in prompts
    ]
    assert len({len(row) for row in streamed}) > 2


@pytest.mark.parametrize("kind", KINDS)
def test_surprise_is_under_the_base_model_and_the_plain_prompt(kind: Kind) -> None:
    lm = stopping(kind)
    adapters = [random_adapter(lm)]
    rows = [
        StreamRow(PROMPT, judged_on=PROMPT),
        StreamRow(PERSONA, judged_on=PROMPT),
        StreamRow(PROMPT, 1, -2.0, judged_on=PROMPT),
    ]
    how = Intervention(some_direction())
    streamed = rows_of(stream(lm, rows, HOW, adapters=adapters, intervention=how), len(rows))
    for row in streamed:
        ids = [token.id for token in row]
        (expected,) = completion_logprobs(lm, [PROMPT], [ids])
        found = torch.tensor([token.surprise_nats for token in row])
        torch.testing.assert_close(found, -expected, rtol=1e-4, atol=1e-4)


def test_nobody_reads_along_where_nobody_is_asked_to() -> None:
    lm = stopping()
    (row,) = rows_of(stream(lm, [StreamRow(PROMPT)], HOW), 1)
    assert {token.surprise_nats for token in row} == {None}


@pytest.mark.parametrize(
    "schedule", [LINEAR, Schedule("exponential", 6, 0.1), Schedule("prefix", 3, 0.0)]
)
def test_a_schedule_doses_as_the_sampler_does(schedule: Schedule) -> None:
    lm, direction = tiny_lm(), some_direction()
    with steering(lm, direction, 2.0) as patch:
        (expected,) = generate(lm, [PROMPT], HOW, seed=2, dosing=Dosing(patch, 2.0, schedule))
    rows = [StreamRow(PROMPT), StreamRow(PROMPT, kappa=2.0)]
    how = Intervention(direction, schedule=schedule)
    plain, dosed = rows_of(stream(lm, rows, HOW, seed=2, intervention=how), 2)
    assert as_generated(dosed).token_ids == expected.token_ids
    assert expected.kappas is not None
    doses = expected.kappas[: len(dosed)]
    assert [token.kappa for token in dosed][: len(doses)] == pytest.approx(doses)
    assert {token.kappa for token in plain} == {0.0}
    assert dosed[0].kappa == 2.0
    assert dosed[-1].kappa < 2.0


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=5),
    st.integers(0, 2**31 - 1),
    st.integers(1, 6),
)
def test_any_rows_give_a_token_a_step_until_each_is_finished(
    lengths: list[int], seed: int, limit: int
) -> None:
    lm = stopping()
    rows = [StreamRow(p, judged_on=PROMPT) for p in random_ids(*lengths, seed=seed % 1000)]
    steps = list(stream(lm, rows, Sampling(limit), seed=seed))
    assert 1 <= len(steps) <= limit
    for row in rows_of(steps, len(rows)):
        assert row[-1].last
        assert [t.ends for t in row] == [t.id in STOPS for t in row]
        assert row[-1].ends or len(row) == limit


def test_the_models_context_ends_an_answer() -> None:
    lm = tiny_lm(max_position_embeddings=20)
    (long,) = random_ids(17)
    (row,) = rows_of(stream(lm, [StreamRow(long)], Sampling(12, temperature=0.0)), 1)
    assert len(row) == 3
    assert (row[-1].last, row[-1].ends) == (True, False)
    with pytest.raises(ModelError, match="exceeds the model's context of 20"):
        next(stream(lm, [StreamRow(random_ids(20)[0])], HOW))


def test_a_stream_that_is_closed_leaves_the_model_as_it_was() -> None:
    lm = tiny_lm()
    ids = torch.tensor([PROMPT])
    with torch.inference_mode():
        before = lm.model(ids).logits
    how = Intervention(some_direction())
    rows = [StreamRow(PROMPT, 1, 1.0)]
    steps = stream(lm, rows, HOW, adapters=[random_adapter(lm)], intervention=how)
    next(steps)
    with torch.inference_mode():
        assert not torch.equal(lm.model(ids[:1]).logits, before)
    steps.close()
    with torch.inference_mode():
        assert torch.equal(lm.model(ids).logits, before)
    assert lm.patches == []


def test_what_cannot_be_streamed_is_refused() -> None:
    lm = tiny_lm()
    with pytest.raises(ModelError, match="no direction"):
        next(stream(lm, [StreamRow(PROMPT, kappa=1.0)], HOW))
    with pytest.raises(ModelError, match="more adapters than the 0"):
        next(stream(lm, [StreamRow(PROMPT, depth=1)], HOW))


def test_numbers_that_go_bad_are_told() -> None:
    lm = tiny_lm()
    broken = Intervention(Direction((1,), torch.full((1, WIDTH), float("inf"))))
    with pytest.raises(DivergedError, match="lower the dose"):
        list(
            stream(lm, [StreamRow(PROMPT), StreamRow(PROMPT, kappa=1.0)], HOW, intervention=broken)
        )
    assert lm.patches == []

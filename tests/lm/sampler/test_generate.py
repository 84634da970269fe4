"""The sampler against transformers' greedy search and a naive float64 sampler."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from meddling import look_every, meddled
from steer_heal_love.errors import DivergedError, OutOfMemory
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.sampler.generate import Generated, Sampling, generate
from steer_heal_love.lm.sampler.request import Request
from steer_heal_love.lm.sampler.sampling import noise, pick_tokens
from tiny import KINDS, Kind, random_ids, tiny_lm

GREEDY = Sampling(max_new_tokens=14, temperature=0)
SAMPLED = Sampling(max_new_tokens=14, temperature=1.0, top_k=50, top_p=0.95)
STOPS = frozenset(range(3, 384, 5))  # many, so that rows end at different lengths
MIXED = random_ids(5, 40, 1, 17, 9, 2, 33, 5, 12)
(PREFIX,) = random_ids(12, seed=7)
SHARED = [PREFIX + row for row in random_ids(1, 9, 3, 21, 5, 2, 14, seed=8)]
ROWS = {"mixed": MIXED, "shared prefix": SHARED, "one": MIXED[:1], "twice the same": MIXED[1:2] * 2}


def stopping(kind: Kind = "llama", **changes: Any) -> LanguageModel:
    return dataclasses.replace(tiny_lm(kind, **changes), stop_ids=STOPS)


def greedy_of_transformers(lm: LanguageModel, prompt: list[int], length: int) -> Generated:
    ids = torch.tensor([prompt])
    output = lm.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=length,
        eos_token_id=sorted(lm.stop_ids),
    )
    new = output[0, len(prompt) :].tolist()
    if new[-1] in lm.stop_ids:
        return Generated(tuple(new[:-1]), new[-1])
    return Generated(tuple(new), None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_greedy_equals_transformers_token_by_token(kind: Kind, rows: list[list[int]]) -> None:
    lm = stopping(kind)
    expected = [greedy_of_transformers(lm, row, GREEDY.max_new_tokens) for row in rows]
    assert generate(lm, rows, GREEDY, batch_size=3) == expected
    if len(rows) > 2:
        assert len({len(g.token_ids) for g in expected}) > 1  # so that rows are replaced


def test_greedy_with_a_prefix_inside_a_wide_sliding_window() -> None:
    lm = stopping("gemma3", sliding_window=128)
    assert Request(lm, SHARED, [GREEDY] * len(SHARED), 0, 0).shared == len(PREFIX)
    expected = [greedy_of_transformers(lm, row, GREEDY.max_new_tokens) for row in SHARED]
    assert generate(lm, SHARED, GREEDY, batch_size=2) == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [MIXED, SHARED], ids=["mixed", "shared prefix"])
def test_a_row_does_not_depend_on_its_batch(kind: Kind, rows: list[list[int]]) -> None:
    lm = stopping(kind)
    together = generate(lm, rows, SAMPLED, seed=5, batch_size=64)
    for batch_size in (1, 2, 4):
        assert generate(lm, rows, SAMPLED, seed=5, batch_size=batch_size) == together
    alone = [generate(lm, [row], SAMPLED, seed=5, first_index=i) for i, row in enumerate(rows)]
    assert [g for (g,) in alone] == together


def test_rows_may_differ_in_temperature_and_length() -> None:
    lm = stopping()
    short, warm = (
        dataclasses.replace(SAMPLED, max_new_tokens=4),
        dataclasses.replace(SAMPLED, temperature=1.7),
    )
    cold = dataclasses.replace(SAMPLED, temperature=0.0)
    how = [SAMPLED, short, warm, cold, short, SAMPLED, cold, warm, SAMPLED][: len(MIXED)]
    together = generate(lm, MIXED, how, seed=5, batch_size=4)
    alone = [
        generate(lm, [row], one, seed=5, first_index=i)[0]
        for i, (row, one) in enumerate(zip(MIXED, how, strict=True))
    ]
    assert together == alone
    assert together[3] == greedy_of_transformers(lm, MIXED[3], cold.max_new_tokens)
    assert max(len(together[i].token_ids) for i in (1, 4)) <= 4


def test_rows_may_not_differ_in_what_is_drawn_from() -> None:
    other = dataclasses.replace(SAMPLED, top_k=7)
    with pytest.raises(ValueError, match="one top_k"):
        generate(stopping(), MIXED[:2], [SAMPLED, other])
    with pytest.raises(ValueError, match="per prompt"):
        generate(stopping(), MIXED[:2], [SAMPLED])


def test_a_seed_fixes_the_draw_whatever_the_global_state() -> None:
    lm = stopping()
    first = generate(lm, MIXED, SAMPLED, seed=1)
    torch.manual_seed(99)
    assert generate(lm, MIXED, SAMPLED, seed=1) == first
    assert generate(lm, MIXED, SAMPLED, seed=2) != first


def test_generation_leaves_the_global_state_alone() -> None:
    before = torch.random.get_rng_state()
    generate(stopping(), MIXED, SAMPLED, seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**40), st.integers(1, 8))
@settings(max_examples=25)
def test_noise_is_a_function_of_seed_and_index(seed: int, index: int, length: int) -> None:
    row = noise(seed, index, length)
    assert np.array_equal(row, noise(seed, index, length))
    assert np.array_equal(row, noise(seed, index, length + 3)[:length])
    assert not np.array_equal(row, noise(seed, index + 1, length))
    assert ((row >= 0) & (row < 1)).all()


def naive_nucleus(logits: np.ndarray, how: Sampling) -> tuple[np.ndarray, float]:
    """Probabilities after temperature, top-k and top-p, and how near the cut a token came."""
    scaled = logits.astype(np.float64) / how.temperature
    order = np.argsort(-scaled, kind="stable")[: how.top_k]
    p = np.exp(scaled[order] - scaled[order].max())
    p /= p.sum()
    below = np.cumsum(p) - p
    margin = float(np.abs(below - how.top_p).min())
    p = np.where(below < how.top_p, p, 0.0)
    result = np.zeros_like(scaled)
    result[order] = p / p.sum()
    return result, margin


@given(
    st.lists(st.floats(-6, 6, width=32), min_size=2, max_size=12, unique=True),
    st.floats(0.3, 2.0),
    st.integers(1, 14),
    st.floats(0.05, 1.0),
)
@settings(max_examples=60, deadline=None)
def test_draws_follow_the_naive_distribution(
    values: list[float], temperature: float, top_k: int, top_p: float
) -> None:
    how = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    expected, margin = naive_nucleus(np.array(values, dtype=np.float32), how)
    assume(margin > 1e-5)
    n = 4000
    uniforms = (torch.arange(n) + 0.5) / n  # evenly spaced: the error is 1 / n a token, no chance
    drawn = pick_tokens(torch.tensor(values).expand(n, -1), uniforms, how)
    found = torch.bincount(drawn, minlength=len(values)).double().numpy() / n
    assert np.abs(found - expected).max() <= 1.5 / n
    assert (found[expected == 0] == 0).all()


def test_draws_through_the_whole_engine_follow_the_distribution() -> None:
    lm = dataclasses.replace(tiny_lm(), stop_ids=frozenset())
    how = Sampling(max_new_tokens=1, top_k=8, top_p=0.9)
    (prompt,) = random_ids(6)
    n = 3000
    drawn = [g.token_ids[0] for g in generate(lm, [prompt] * n, how, seed=4, batch_size=1000)]
    logits = lm.model(torch.tensor([prompt])).logits[0, -1].numpy()
    expected, _ = naive_nucleus(logits, how)
    found = np.bincount(drawn, minlength=len(logits))
    assert (found[expected == 0] == 0).all()
    inside = expected > 0
    chi_square = ((found[inside] - n * expected[inside]) ** 2 / (n * expected[inside])).sum()
    assert inside.sum() > 3
    assert chi_square < 35  # 7 degrees of freedom: p about 1e-5


@pytest.mark.parametrize("uniform", [0.0, 1.0])
@pytest.mark.parametrize("top_p", [1e-6, 0.5, 1.0])
def test_the_ends_of_the_unit_interval_stay_in_the_nucleus(uniform: float, top_p: float) -> None:
    logits = torch.randn(64, 40, generator=torch.Generator().manual_seed(0)) * 3
    how = Sampling(top_k=10, top_p=top_p)
    drawn = pick_tokens(logits, torch.full((64,), uniform), how)
    for row, token in zip(logits.numpy(), drawn.tolist(), strict=True):
        assert naive_nucleus(row, how)[0][token] > 0


def test_temperature_zero_is_greedy() -> None:
    logits = torch.randn(5, 20)
    drawn = pick_tokens(logits, torch.full((5,), 0.99), GREEDY)
    assert torch.equal(drawn, logits.argmax(-1))


def test_it_stops_at_any_end_token_and_names_it() -> None:
    lm = dataclasses.replace(tiny_lm(), stop_ids=frozenset())
    (prompt,) = random_ids(6)
    ((*free,),) = [g.token_ids for g in generate(lm, [prompt], GREEDY)]
    second = next(t for t in free if t != free[0])
    for end in (free[0], second):
        stopped = dataclasses.replace(lm, stop_ids=frozenset({end, 1, 2}))
        (found,) = generate(stopped, [prompt], GREEDY)
        assert found == Generated(tuple(free[: free.index(end)]), end)


def test_without_an_end_token_the_limit_cuts() -> None:
    lm = dataclasses.replace(tiny_lm(), stop_ids=frozenset())
    for length in (1, 5):
        found = generate(lm, MIXED, Sampling(max_new_tokens=length), batch_size=2)
        assert {(len(g.token_ids), g.end_id) for g in found} == {(length, None)}


def test_no_prompts_no_answers() -> None:
    assert generate(tiny_lm(), [], GREEDY) == []


def test_each_finished_row_is_announced_once() -> None:
    told: list[int] = []
    generate(stopping(), MIXED, SAMPLED, batch_size=2, on_finished=told.append)
    assert sum(told) == len(MIXED)


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_out_of_memory_halves_the_batch_and_changes_nothing(limit: int) -> None:
    lm, sizes = stopping(), []

    def allocate(ids: Tensor) -> float:
        if len(ids) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(ids))
        return 1.0

    found = generate(meddled(lm, allocate), MIXED, SAMPLED, seed=5, batch_size=8)
    assert found == generate(lm, MIXED, SAMPLED, seed=5, batch_size=8)
    assert max(sizes) <= limit


def test_out_of_memory_halfway_keeps_what_is_finished() -> None:
    lm, calls, told = stopping(), [], []

    def allocate(ids: Tensor) -> float:
        calls.append(len(ids))
        if len(calls) == 12:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 1.0

    found = generate(
        meddled(lm, allocate), MIXED, SAMPLED, seed=5, batch_size=4, on_finished=told.append
    )
    assert found == generate(lm, MIXED, SAMPLED, seed=5)
    assert sum(told) == len(MIXED)


def test_one_row_that_does_not_fit_is_an_error() -> None:
    def allocate(ids: Tensor) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(OutOfMemory, match="fewer new tokens"):
        generate(meddled(stopping(), allocate), MIXED[:3], SAMPLED)


@pytest.mark.parametrize("how", [GREEDY, SAMPLED])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("call", [1, 4])
@pytest.mark.parametrize("check_every", [1, 8])
def test_logits_that_are_not_finite_are_an_error(
    monkeypatch: pytest.MonkeyPatch, how: Sampling, value: float, call: int, check_every: int
) -> None:
    look_every(monkeypatch, check_every)
    calls: list[int] = []

    def break_at(ids: Tensor) -> float:
        calls.append(1)
        return value if len(calls) == call else 1.0

    lm = dataclasses.replace(tiny_lm(), stop_ids=frozenset())
    with pytest.raises(DivergedError, match="NaN or infinity"):
        generate(meddled(lm, break_at), MIXED[:2], how)


@pytest.mark.parametrize("how", [GREEDY, SAMPLED])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_one_logit_that_is_not_finite_is_drawn_so_that_it_shows(
    how: Sampling, value: float
) -> None:
    logits = torch.randn(8, 100)
    places = torch.arange(8) * 7
    logits[torch.arange(8), places] = value
    assert torch.equal(pick_tokens(logits, torch.rand(8), how), places)


@pytest.mark.parametrize("steps", [3, 8, 50])
def test_rows_that_overrun_between_looks_are_cut(
    monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    lm = stopping()
    expected = generate(lm, MIXED, SAMPLED, seed=5, batch_size=3)
    look_every(monkeypatch, steps)
    assert generate(lm, MIXED, SAMPLED, seed=5, batch_size=3) == expected


def test_the_shared_prefix_is_read_once() -> None:
    def tokens_read(rows: Sequence[list[int]]) -> int:
        read: list[int] = []

        def count(ids: Tensor) -> float:
            read.append(ids.numel())
            return 1.0

        generate(meddled(stopping(), count), rows, Sampling(max_new_tokens=1))
        return sum(read)

    rows = [PREFIX + row for row in random_ids(3, 3, 3, 3)]
    assert tokens_read(rows) == len(PREFIX) + 4 * 3

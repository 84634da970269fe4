"""Doses that follow the rows, and backtracking, against a sampler without cache or batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from meddling import look_every, meddled
from steer_heal_love.errors import DivergedError, HookError
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.adapters import base, student
from steer_heal_love.lm.patches.hooks import Steering, steering
from steer_heal_love.lm.sampler.generate import Dosing, Generated, Sampling, generate
from steer_heal_love.lm.sampler.sampling import noise, pick_tokens
from steer_heal_love.maths.backtrack import Backtrack, first_fault
from steer_heal_love.maths.schedule import CONSTANT, Schedule
from steer_heal_love.records import Direction
from tiny import WIDTH, Kind, random_adapter, random_ids, tiny_lm

ARCHITECTURES: tuple[Kind, ...] = ("llama", "gemma3", "qwen3")
ROWS = random_ids(5, 20, 1, 17, 9, 2)
(PREFIX,) = random_ids(12, seed=7)
SHARED = [PREFIX + row for row in random_ids(1, 9, 3, 5, 2, 14, seed=8)]
SAMPLED = Sampling(max_new_tokens=16, top_k=50)
GREEDY = Sampling(max_new_tokens=32, temperature=0)
LINEAR = Schedule("linear", 10, 0.25)
SEED, KAPPA = 5, 2.0
# Tiny random models: about 6 nats a token; the limits are where some rows fault and some do not.
WATCHED = Backtrack(every=4, window=4, spike_nats=5.4, margin=1, factor=0.8)


def lm_of(kind: Kind = "llama") -> LanguageModel:
    return dataclasses.replace(tiny_lm(kind), stop_ids=frozenset(range(3, 384, 64)))


def direction() -> Direction:
    vectors = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(1))
    return Direction((1, 2), vectors)


@contextmanager
def steered(lm: LanguageModel, **how: Any) -> Iterator[Steering]:
    with steering(lm, direction(), KAPPA, **how) as patch:
        yield patch


def one_by_one(
    lm: LanguageModel, patch: Steering, row: int, prompt: list[int], how: Sampling, dosing: Dosing
) -> Generated:
    """Every token from a pass over the whole text, each position at its own dose; no cache."""
    backtrack, kappa, rewinds = dosing.backtrack, dosing.kappa, 0
    assert isinstance(kappa, float)
    tokens: list[int] = []
    kappas: list[float] = []
    end = None
    while len(tokens) < how.max_new_tokens and end is None:
        count = len(tokens)
        kappas.append(float(torch.tensor(kappa) * dosing.schedule.factor(torch.tensor(count))))
        doses = [float(dosing.kappa)] * (len(prompt) - 1) + kappas
        patch.kappa = torch.tensor(doses)[None, :, None]
        with torch.inference_mode():
            logits = lm.model(torch.tensor([prompt + tokens])).logits[:, -1]
        drawn = noise(SEED, row, how.max_new_tokens)[count]
        token = int(pick_tokens(logits, torch.tensor([drawn], dtype=torch.float32), how))
        if token in lm.stop_ids:
            end = token
            kappas.pop()
            break
        tokens.append(token)
        if backtrack is None:
            continue
        fault = first_fault(base_surprise(lm, prompt, tokens), tokens, backtrack)
        if fault is not None and rewinds == backtrack.max_rewinds:
            return Generated(tuple(tokens), None, tuple(kappas), rewinds, dropped=True)
        if fault is not None:
            rewinds, kappa = rewinds + 1, kappa * backtrack.factor
            tokens, kappas = tokens[: fault.back_to], kappas[: fault.back_to]
    follows = rewinds > 0 or dosing.schedule.shape != "constant"
    return Generated(tuple(tokens), end, tuple(kappas) if follows else None, rewinds)


@torch.inference_mode()
def base_surprise(lm: LanguageModel, prompt: list[int], tokens: list[int]) -> Tensor:
    with base(lm):
        logits = lm.model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
    return -logits.log_softmax(-1).gather(1, torch.tensor(tokens)[:, None])[:, 0]


def check_against_one_by_one(
    lm: LanguageModel,
    rows: Sequence[list[int]],
    how: Sampling,
    schedule: Schedule,
    backtrack: Backtrack | None,
    batch_size: int,
) -> list[Generated]:
    with steered(lm) as patch:
        dosing = Dosing(patch, KAPPA, schedule, backtrack)
        expected = [one_by_one(lm, patch, i, row, how, dosing) for i, row in enumerate(rows)]
        found = generate(lm, rows, how, seed=SEED, batch_size=batch_size, dosing=dosing)
    assert found == expected
    return found


@pytest.mark.parametrize(
    "schedule", [LINEAR, Schedule("exponential", 6, 0.1), Schedule("prefix", 5)]
)
@pytest.mark.parametrize("rows", [ROWS, SHARED], ids=["mixed", "shared prefix"])
def test_the_dose_follows_each_row(schedule: Schedule, rows: list[list[int]]) -> None:
    check_against_one_by_one(lm_of(), rows, SAMPLED, schedule, None, batch_size=3)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_rewound_rows_equal_fresh_ones_token_by_token(kind: Kind) -> None:
    found = check_against_one_by_one(lm_of(kind), ROWS, SAMPLED, CONSTANT, WATCHED, batch_size=3)
    assert min(g.rewinds for g in found) < max(g.rewinds for g in found) == 2
    assert {g.dropped for g in found} == {True, False}


def test_backtracking_under_a_schedule_a_shared_prefix_and_adapters() -> None:
    lm = lm_of()
    with student(lm, [random_adapter(lm)]):
        found = check_against_one_by_one(lm, SHARED[:4], SAMPLED, LINEAR, WATCHED, batch_size=3)
    assert max(g.rewinds for g in found) > 0


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_loops_are_rewound_to_where_they_begin(kind: Kind) -> None:
    lm = dataclasses.replace(tiny_lm(kind), stop_ids=frozenset())
    calm = dataclasses.replace(WATCHED, spike_nats=1e3)
    found = check_against_one_by_one(lm, ROWS[:3], GREEDY, CONSTANT, calm, batch_size=8)
    assert any(g.rewinds for g in found)


def watched(
    lm: LanguageModel,
    backtrack: Backtrack = WATCHED,
    rows: Sequence[list[int]] = ROWS,
    batch_size: int = 3,
    schedule: Schedule = CONSTANT,
) -> list[Generated]:
    with steered(lm) as patch:
        dosing = Dosing(patch, KAPPA, schedule, backtrack)
        return generate(lm, rows, SAMPLED, seed=SEED, batch_size=batch_size, dosing=dosing)


@pytest.mark.parametrize("every", [1, 3, 8, 50])
@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_how_often_it_looks_changes_the_cost_alone(every: int, batch_size: int) -> None:
    seldom = dataclasses.replace(WATCHED, every=every)
    assert watched(lm_of(), seldom, batch_size=batch_size) == watched(lm_of())


@pytest.mark.parametrize("steps", [3, 8])
def test_rows_that_overrun_between_looks_are_cut(
    monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    expected = watched(lm_of(), schedule=LINEAR)
    look_every(monkeypatch, steps)
    assert watched(lm_of(), schedule=LINEAR) == expected


@pytest.mark.parametrize("limit", [1, 2])
def test_out_of_memory_halves_the_batch_and_changes_nothing(limit: int) -> None:
    lm = lm_of()

    def allocate(ids: Tensor) -> float:
        if len(ids) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 1.0

    assert watched(meddled(lm, allocate), batch_size=8) == watched(lm)


@pytest.mark.parametrize("every", [1, 5, 16])
def test_every_token_that_is_computed_is_accounted_for(every: int) -> None:
    lm, read = lm_of(), []

    def count(ids: Tensor) -> float:
        read.append(ids.numel())
        return 1.0

    found = watched(meddled(lm, count), dataclasses.replace(WATCHED, every=every))
    spent = [g.spent for g in found if g.spent is not None]
    assert len(spent) == len(ROWS)
    # The prompt's pass gives the first token: each further one takes a pass of its own.
    ours = sum(s.prompt_tokens + s.sampled_tokens - 1 + s.watched_tokens for s in spent)
    assert ours == sum(read)


def test_a_dropped_row_costs_nothing_further() -> None:
    lm = lm_of()
    strict = dataclasses.replace(WATCHED, every=1, max_rewinds=0, spike_nats=6.4)
    found = watched(lm, strict)
    dropped = [g for g in found if g.dropped]
    assert dropped
    assert len(dropped) < len(found)
    for row in dropped:
        assert row.spent is not None
        assert row.spent.sampled_tokens == len(row.token_ids) < SAMPLED.max_new_tokens
    # Each that is dropped leaves the others as they are without it.
    alive = [i for i, g in enumerate(found) if not g.dropped]
    for i in alive:
        with steered(lm) as patch:
            dosing = Dosing(patch, KAPPA, CONSTANT, strict)
            alone = generate(lm, [ROWS[i]], SAMPLED, seed=SEED, first_index=i, dosing=dosing)
        assert alone == [found[i]]


def test_one_dose_for_all_is_plain_steering() -> None:
    lm = lm_of()
    with steered(lm) as patch:
        plain = generate(lm, SHARED, SAMPLED, seed=SEED)
        patch.kappa = 7.0
        found = generate(lm, SHARED, SAMPLED, seed=SEED, dosing=Dosing(patch, KAPPA))
        assert patch.kappa == 7.0  # as it was before
    assert found == plain
    assert all(g.kappas is None for g in found)


@pytest.mark.parametrize("rows", [ROWS, SHARED], ids=["mixed", "shared prefix"])
def test_each_row_may_have_a_dose_of_its_own(rows: list[list[int]]) -> None:
    lm, kappas = lm_of(), [0.0, 2.0, -1.0, 0.5, 3.0, 1.0]
    with steered(lm) as patch:
        dosing = Dosing(patch, kappas)
        together = generate(lm, rows, SAMPLED, seed=SEED, batch_size=3, dosing=dosing)
        for i, (row, kappa) in enumerate(zip(rows, kappas, strict=True)):
            patch.kappa = kappa
            assert generate(lm, [row], SAMPLED, seed=SEED, first_index=i) == [together[i]]
    assert all(g.kappas is None for g in together)


@pytest.mark.parametrize("gate", ["relu", "complement"])
def test_gates_and_rotation_work_while_generating(gate: Any) -> None:
    lm = lm_of()
    with steered(lm, gate=gate, operator="rotate") as patch:
        dosing = Dosing(patch, KAPPA, LINEAR)
        expected = [one_by_one(lm, patch, i, row, SAMPLED, dosing) for i, row in enumerate(ROWS)]
        assert generate(lm, ROWS, SAMPLED, seed=SEED, batch_size=3, dosing=dosing) == expected


def test_the_dose_comes_back_where_generation_fails() -> None:
    lm = meddled(lm_of(), lambda _ids: float("nan"))
    with steered(lm) as patch:
        with pytest.raises(DivergedError):
            generate(lm, ROWS, SAMPLED, dosing=Dosing(patch, KAPPA, LINEAR))
        assert patch.kappa == KAPPA


def test_a_base_model_that_is_broken_is_an_error() -> None:
    lm = lm_of()

    def broken(_ids: Tensor) -> float:
        return 1.0 if patch.enabled else float("nan")

    with steered(lm) as patch, pytest.raises(DivergedError, match="watching"):
        generate(meddled(lm, broken), ROWS, SAMPLED, dosing=Dosing(patch, 1.0, CONSTANT, WATCHED))


def test_what_is_no_dosing() -> None:
    lm = lm_of()
    with steered(lm) as patch:
        with pytest.raises(ValueError, match="one per prompt"):
            generate(lm, ROWS, SAMPLED, dosing=Dosing(patch, [1.0, 2.0]))
        with base(lm), pytest.raises(HookError, match="must be on"):
            generate(lm, ROWS, SAMPLED, dosing=Dosing(patch, 1.0))
        generate(lm, ROWS[:1], SAMPLED)
    with pytest.raises(HookError, match="must be on"):
        generate(lm, ROWS, SAMPLED, dosing=Dosing(patch, 1.0))


def test_no_prompts_no_work() -> None:
    lm = lm_of()
    with steering(lm, direction(), 1.0, must_fire=False) as patch:
        assert generate(lm, [], SAMPLED, dosing=Dosing(patch, 1.0, CONSTANT, WATCHED)) == []

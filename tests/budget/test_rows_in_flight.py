"""The rows in flight are chosen once, by memory, and a run keeps them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steer_heal_love.budget.rows import (
    answers_of,
    bytes_in_flight,
    choose_rows,
    rows_in_flight,
    with_rows,
)
from steer_heal_love.budget.shape import Shape
from steer_heal_love.errors import ConfigError
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.model.team import Team
from steer_heal_love.lm.reading.chat import encode_chat
from steer_heal_love.lm.sampler import generate
from steer_heal_love.lm.sampler.engine import Engine
from steer_heal_love.lm.sampler.request import Request
from steer_heal_love.loop.measure import evaluate_student
from steer_heal_love.records import Context
from steer_heal_love.run_config import GenerateConfig, RunConfig
from steer_heal_love.runner.repeat import check_same
from tiny import tiny_lm
from tiny_run import config_data, small_axis

OPEN = RunConfig.model_validate(config_data())
PROMPTS = ("How are you?", "Tell me about rain.")
MEMORY = st.integers(0, 2**40)


@cache
def lm() -> LanguageModel:
    return tiny_lm()


@cache
def shape() -> Shape:
    return Shape.of(lm())


@settings(deadline=None)
@given(free=MEMORY, more=MEMORY, device=st.sampled_from(["cpu", "cuda"]), shards=st.integers(1, 9))
def test_rows_are_a_power_of_two_that_grows_with_memory(
    free: int, more: int, device: str, shards: int
) -> None:
    rows = rows_in_flight(shape(), OPEN, 30, free, device, shards)
    assert rows.bit_count() == 1
    assert 1 <= rows <= (64 if device == "cpu" else 1024 * shards)
    assert rows <= rows_in_flight(shape(), OPEN, 30, free + more, device, shards)
    assert rows <= rows_in_flight(shape(), OPEN, 30, free, device, shards + 1)


def test_with_enough_memory_there_are_as_many_as_pay() -> None:
    assert rows_in_flight(shape(), RunConfig(), 100, 2**40, "cpu") == 64
    assert rows_in_flight(shape(), RunConfig(), 100, 2**40, "cuda") == 1024
    assert rows_in_flight(shape(), RunConfig(), 100, 0, "cuda") == 1


def test_few_rows_are_as_wide_as_the_long_answers_that_they_join() -> None:
    config = RunConfig()
    assert answers_of(config) == 48 + 3 + 8
    row = shape().row_bytes(100, 96, 64)
    assert bytes_in_flight(shape(), config, 100, 64) == 64 * row
    wide = shape().row_bytes(100, 512, 64)
    assert bytes_in_flight(shape(), config, 100, 32) == 32 * wide
    watched = config.model_copy(
        update={"dosing": config.dosing.model_copy(update={"backtrack": True})}
    )
    assert bytes_in_flight(shape(), watched, 100, 64) == 2 * 64 * row
    assert bytes_in_flight(shape(), config, 100, 64, shards=4) == 16 * row


def test_the_longest_prompt_is_counted_with_its_persona() -> None:
    axis = small_axis()
    longest = max(
        len(encode_chat(lm(), p, s)) for p in PROMPTS for s in (axis.pos_system, axis.neg_system)
    )
    for rows in (1, 2, 8, 32):
        free = int(bytes_in_flight(shape(), OPEN, longest, rows) / 0.75) + 1
        found = choose_rows(lm(), axis, PROMPTS, OPEN, free=free)
        assert found == with_rows(OPEN, rows)
    assert choose_rows(lm(), axis, PROMPTS, OPEN).generate.rows == 64


def test_a_number_that_is_given_or_was_chosen_stays_whatever_the_memory() -> None:
    for rows in (3, 64):
        given_rows = with_rows(OPEN, rows)
        assert choose_rows(lm(), small_axis(), PROMPTS, given_rows, free=0) is given_rows
    with pytest.raises(ValueError, match="not chosen"):
        assert GenerateConfig().rows


class Uneven(Team):
    """A team in which another process has room for four rows alone."""

    def gather(self, value: Any) -> list[Any]:
        return [value, 4, 64]


def test_processes_agree_on_the_least() -> None:
    joined = replace(lm(), team=Uneven(1, 0, 3))
    assert choose_rows(joined, small_axis(), PROMPTS, OPEN).generate.rows == 4


def test_who_goes_on_with_a_run_need_not_ask_for_what_was_chosen(tmp_path: Any) -> None:
    stored = with_rows(OPEN, 16)
    check_same(OPEN, stored, tmp_path)
    check_same(stored, stored, tmp_path)
    with pytest.raises(ConfigError, match=r"generate\.batch_size = 16, not 8"):
        check_same(with_rows(OPEN, 8), stored, tmp_path)
    with pytest.raises(ConfigError, match="seed"):
        check_same(OPEN.model_copy(update={"seed": 5}), stored, tmp_path)


def test_everything_that_is_sampled_has_so_many_rows_in_flight(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[int] = []

    class Seen(Engine):
        def __init__(self, request: Request, batch_size: int) -> None:
            seen.append(batch_size)
            super().__init__(request, batch_size)

    monkeypatch.setattr(generate, "Engine", Seen)
    config = with_rows(OPEN, 2)
    context = [Context("plain", "Hello there.")]
    evaluate_student(tiny_lm(), small_axis(), context, config, [])
    assert len(seen) >= 4  # the limits, and three conditions
    assert set(seen) == {2}

"""Out of memory: halves, in order, each row once; told in the log; one row alone is an error."""

from __future__ import annotations

import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_generate import meddled

from steer_heal_love.errors import OutOfMemory
from steer_heal_love.lm.hooks import read_hidden
from steer_heal_love.lm.memory import half, in_parts, is_out_of_memory
from steer_heal_love.lm.score import completion_logprobs
from tiny import random_ids, tiny_lm

PROMPTS = random_ids(5, 12, 9, 3, 17, seed=3)
ANSWERS = random_ids(4, 7, 2, 9, 5, seed=4)


def no_more_than(rows: int, sizes: list[int]) -> object:
    def allocate(ids: torch.Tensor) -> float:
        if len(ids) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(ids))
        return 1.0

    return meddled(tiny_lm(), allocate)


@given(st.integers(1, 20), st.integers(1, 20))
def test_every_row_once_and_in_order(count: int, fits: int) -> None:
    def compute(rows: list[int]) -> list[int]:
        if len(rows) > fits:
            raise MemoryError
        return [10 * r for r in rows]

    parts = list(in_parts(list(range(count)), compute, "work"))
    assert [r for rows, _ in parts for r in rows] == list(range(count))
    assert [x for _, found in parts for x in found] == [10 * r for r in range(count)]
    assert max(len(rows) for rows, _ in parts) <= fits


def test_other_errors_are_not_about_memory() -> None:
    def compute(rows: list[int]) -> int:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        list(in_parts([0, 1], compute, "work"))
    assert not is_out_of_memory(RuntimeError("shapes differ"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))


def test_it_is_told_and_one_row_is_the_end(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert half(9, "scoring", "use less") == 4
    assert "scoring ran out of memory with 9 rows at a time: on with 4" in caplog.text
    with pytest.raises(OutOfMemory, match="one row at a time: use less"):
        half(1, "scoring", "use less")


@pytest.mark.parametrize("rows", [1, 2])
def test_scores_and_states_do_not_change(rows: int) -> None:
    sizes: list[int] = []
    tight = no_more_than(rows, sizes)
    plain = completion_logprobs(tiny_lm(), PROMPTS, ANSWERS)
    for a, b in zip(completion_logprobs(tight, PROMPTS, ANSWERS), plain, strict=True):  # type: ignore[arg-type]
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    states = read_hidden(tight, PROMPTS, [1, 2])  # type: ignore[arg-type]
    torch.testing.assert_close(
        states, read_hidden(tiny_lm(), PROMPTS, [1, 2]), rtol=1e-4, atol=1e-5
    )
    assert max(sizes) == rows

"""Rows by the memory that is free: powers of two, more with more memory, at least one."""

from __future__ import annotations

import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steer_heal_love.budget.rows import (
    CPU_ROWS,
    GPU_ROWS,
    RESERVE,
    fit_rows,
    free_bytes,
    most_rows,
    rows_for,
)
from steer_heal_love.budget.shape import Shape
from steer_heal_love.lm.sampler.generate import Sampling, generate
from tiny import random_ids, tiny_lm

MEMORY = st.integers(0, 2**45)
ROW = st.integers(1, 2**32)
MOST = st.integers(1, 4096)


@settings(deadline=None)
@given(free=MEMORY, row=ROW, most=MOST)
def test_as_many_rows_as_fit_and_no_more_than_pay(free: int, row: int, most: int) -> None:
    rows = fit_rows(free, lambda n: n * row, most)
    assert rows.bit_count() == 1
    assert 1 <= rows <= most
    assert rows == 1 or rows * row <= (1 - RESERVE) * free
    assert 2 * rows > most or 2 * rows * row > (1 - RESERVE) * free


@settings(deadline=None)
@given(free=MEMORY, more=MEMORY, row=ROW, most=MOST, wide=st.integers(1, 20))
def test_more_memory_never_means_fewer_rows(
    free: int, more: int, row: int, most: int, wide: int
) -> None:
    def need(rows: int) -> int:  # few rows may take more than many, as beside long answers
        return rows * row * (wide if rows < 64 else 1)

    assert fit_rows(free, need, most) <= fit_rows(free + more, need, most)


def test_more_than_these_do_not_pay() -> None:
    assert (most_rows("cpu"), most_rows("cpu", 4)) == (CPU_ROWS, CPU_ROWS) == (64, 64)
    assert (most_rows("cuda"), most_rows("cuda", 4)) == (GPU_ROWS, 4 * GPU_ROWS) == (1024, 4096)


def test_a_machine_with_room_gets_what_pays() -> None:
    lm = tiny_lm()
    free = free_bytes(lm, Shape.of(lm))
    assert 0 < free < psutil.virtual_memory().total
    assert rows_for(lm, 50, 96, 64) == 64


@settings(deadline=None)
@given(prompt=st.integers(1, 500), new=st.integers(1, 500), more=st.integers(0, 500))
def test_longer_rows_take_more(prompt: int, new: int, more: int) -> None:
    shape = Shape.of(tiny_lm())
    row = shape.row_bytes(prompt, new, 64)
    assert shape.cache_bytes(1, prompt + new) < row
    assert row <= shape.row_bytes(prompt + more, new, 64)
    assert row <= shape.row_bytes(prompt, new + more, 64)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_model_generates_so_many_rows_at_a_time(rows: int) -> None:
    import dataclasses

    lm = dataclasses.replace(tiny_lm(), rows=rows)
    seen: list[int] = []
    handle = lm.decoder.register_forward_pre_hook(
        lambda _m, _a, inputs: seen.append(len(inputs["input_ids"])), with_kwargs=True
    )
    prompts = random_ids(5, 9, 4, 6, 7, seed=1)
    try:
        generate(lm, prompts, Sampling(6), seed=3)
        assert max(seen) == rows
        seen.clear()
        generate(lm, prompts, Sampling(6), seed=3, batch_size=4)
        assert max(seen) == 4
    finally:
        handle.remove()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_what_torch_holds_and_does_not_use_is_free_on_a_gpu() -> None:
    lm = tiny_lm()
    lm.model.to("cuda")
    shape = Shape.of(lm)
    block = torch.empty(2**28, dtype=torch.uint8, device="cuda")
    with_block = free_bytes(lm, shape)
    del block
    assert free_bytes(lm, shape) - with_block >= 2**28

"""Out of memory: halves, in order, each row once; told in the log; one row alone is an error."""

from __future__ import annotations

import logging
import platform
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from meddling import meddled
from steer_heal_love.errors import OutOfMemory
from steer_heal_love.lm import memory
from steer_heal_love.lm.memory import halve, is_out_of_memory, run_in_parts
from steer_heal_love.lm.patches.hooks import read_hidden
from steer_heal_love.lm.reading.score import completion_logprobs
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

    parts = list(run_in_parts(list(range(count)), compute, "work"))
    assert [r for rows, _ in parts for r in rows] == list(range(count))
    assert [x for _, found in parts for x in found] == [10 * r for r in range(count)]
    assert max(len(rows) for rows, _ in parts) <= fits


def test_other_errors_are_not_about_memory() -> None:
    def compute(rows: list[int]) -> int:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        list(run_in_parts([0, 1], compute, "work"))
    assert not is_out_of_memory(RuntimeError("shapes differ"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))


def test_it_is_told_and_one_row_is_the_end(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert halve(9, "scoring", "use less") == 4
    assert "scoring ran out of memory with 9 rows at a time: on with 4" in caplog.text
    with pytest.raises(OutOfMemory, match="one row at a time: use less"):
        halve(1, "scoring", "use less")


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


FRAGMENTS = """
import ctypes, psutil
from steer_heal_love.lm.memory import give_back
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
blocks = [libc.malloc(100_000) for _ in range(2000)]  # below the threshold of blocks of their own
for block in blocks:
    ctypes.memset(block, 1, 100_000)
for k, block in enumerate(blocks):
    if k % 20:  # the rest keeps the heap from shrinking
        libc.free(ctypes.c_void_p(block))
before = psutil.Process().memory_info().rss
give_back()
print(before - psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps such holes")
def test_holes_of_the_heap_are_given_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FRAGMENTS], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) > 150_000_000


def test_another_library_than_glibc_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _name: object())
    assert memory._malloc_trim.__wrapped__() is None

"""Rows shared out over shards, and shards over processes (threads stand in for them here)."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steer_heal_love.errors import OutOfMemory, SteerHealLoveError
from steer_heal_love.lm.model.team import Team, run_in_shards
from tiny import tiny_lm


class Threads:
    """What several threads tell one another."""

    def __init__(self, count: int) -> None:
        self.count, self.told = count, [None] * count
        self.barrier = threading.Barrier(count, timeout=60)

    def team(self, shards: int, rank: int) -> Team:
        meeting = self

        class Member(Team):
            def gather(self, value: Any) -> list[Any]:
                meeting.told[self.rank] = value
                meeting.barrier.wait()
                found = list(meeting.told)
                meeting.barrier.wait()
                return found

        return Member(shards, rank, self.count)

    def run(self, shards: int, act: Any) -> list[Any]:
        """What `act` returns in each thread, given its model, or the error that it raised."""
        found: list[Any] = [None] * self.count
        lm = tiny_lm()

        def one(rank: int) -> None:
            try:
                found[rank] = act(replace(lm, team=self.team(shards, rank)))
            except SteerHealLoveError as error:
                found[rank] = error

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(self.count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(0, 12),
    shards=st.integers(1, 5),
    members=st.integers(1, 4),
)
def test_every_row_is_computed_once_and_all_get_it(count: int, shards: int, members: int) -> None:
    seen: list[int] = []

    def act(lm: Any) -> list[str]:
        def compute(rows: list[int]) -> list[str]:
            seen.extend(rows)
            return [f"row {row}" for row in rows]

        return run_in_shards(lm, count, compute)

    found = Threads(members).run(shards, act)
    assert found == [[f"row {row}" for row in range(count)]] * members
    assert sorted(seen) == list(range(count)) or members > 1 == shards


def test_batches_are_of_one_shard_whatever_the_number_of_processes() -> None:
    batches: dict[int, list[list[int]]] = {}
    for members in (1, 2, 4):
        found: list[list[int]] = []

        def compute(rows: list[int], found: list[list[int]] = found) -> list[int]:
            found.append(rows)
            return rows

        def act(lm: Any, compute: Any = compute) -> list[int]:
            return run_in_shards(lm, 10, compute)

        Threads(members).run(4, act)
        batches[members] = sorted(found)
    assert batches[1] == batches[2] == batches[4] == [[0, 4, 8], [1, 5, 9], [2, 6], [3, 7]]


def test_an_error_of_one_is_raised_by_all() -> None:
    def act(lm: Any) -> list[int]:
        def compute(rows: list[int]) -> list[int]:
            if 1 in rows:
                raise OutOfMemory("row 1 does not fit")
            return rows

        return run_in_shards(lm, 4, compute)

    found = Threads(2).run(2, act)
    assert [(type(e), str(e)) for e in found] == [(OutOfMemory, "row 1 does not fit")] * 2


def test_alone_nothing_is_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Team, "gather", lambda *_: pytest.fail("gathered"))
    assert run_in_shards(tiny_lm(), 3, lambda rows: rows) == [0, 1, 2]

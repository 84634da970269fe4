"""What pieces take is stored beside them, and adds up to the same when they are read back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.model.team import Team
from steer_heal_love.loop.cost import Account
from steer_heal_love.records import Cost
from steer_heal_love.runs.codec import pack, unpack
from tiny import tiny_lm

PARTS = 3

costs = st.builds(
    Cost,
    st.floats(0, 1e6),
    st.none() | st.integers(0, 10**12),
    st.none() | st.integers(0, 2**45),
)


class Kept:
    """A store in memory; `most` pieces are stored before it fails."""

    def __init__(self, most: int = 1000) -> None:
        self.most = most
        self.stored: dict[str, bytes] = {}

    def do(self, name: str, compute: Callable[[], Any]) -> Any:
        if name not in self.stored:
            value = compute()
            if len(self.stored) == self.most:
                raise InterruptedError(name)
            self.stored[name] = pack(value)
        return unpack(self.stored[name], name)

    def forget(self, prefix: str) -> None:
        for name in [n for n in self.stored if n.startswith(prefix)]:
            del self.stored[name]


def work(lm: LanguageModel, kept: Kept) -> Account:
    """A piece of three parts of 10, 11 and 12 tokens with 5 around them, and one of 7."""
    account = Account(lm, kept)
    inner = account.inside("heal")

    def part(k: int) -> int:
        lm.token_counter.add(10 + k)
        return k

    def outer() -> list[int]:
        lm.token_counter.add(5)
        return [inner.do(f"epoch-{k}", lambda k=k: part(k)) for k in range(PARTS)]

    def steer() -> str:
        lm.token_counter.add(7)
        return "there"

    assert account.do("direction", "steer", steer) == "there"
    assert account.do("heal/result", "heal", outer) == [0, 1, 2]
    return account


@settings(deadline=None)
@given(costs, costs)
def test_costs_add_up_and_what_is_unknown_stays_unknown(one: Cost, other: Cost) -> None:
    both = one + other
    assert both == other + one
    assert both.wall_s == one.wall_s + other.wall_s
    assert (both.tokens is None) == (None in (one.tokens, other.tokens))
    assert (both.peak_bytes is None) == (None in (one.peak_bytes, other.peak_bytes))
    assert one + Cost() == one
    if both.peak_bytes is not None:
        assert both.peak_bytes in (one.peak_bytes, other.peak_bytes)


def test_of_a_stage_seconds_and_tokens_add_up() -> None:
    found = work(tiny_lm(), Kept()).stages
    assert {k: c.tokens for k, c in found.items()} == {"steer": 7, "heal": 5 + 10 + 11 + 12}
    assert all(c.wall_s > 0 and (c.peak_bytes or 0) > 0 for c in found.values())


@pytest.mark.parametrize("most", range(5))
def test_whatever_was_stored_before_the_tokens_are_the_same(most: int) -> None:
    whole = work(tiny_lm(), Kept()).stages
    kept = Kept(most)
    with pytest.raises(InterruptedError):
        work(tiny_lm(), kept)
    kept.most = 1000
    again = work(tiny_lm(), kept).stages
    assert {k: c.tokens for k, c in again.items()} == {k: c.tokens for k, c in whole.items()}
    read = work(tiny_lm(), kept)  # everything is there now
    assert {k: c.tokens for k, c in read.stages.items()} == {k: c.tokens for k, c in whole.items()}
    assert read.stages["heal"].wall_s >= sum(
        unpack(data, name).cost.wall_s
        for name, data in kept.stored.items()
        if name == "heal/result"
    )


class Three(Team):
    """A team of which another process took far more memory."""

    def gather(self, value: Any) -> list[Any]:
        return [value, value + 2**40, value - 1]


def test_of_several_processes_the_largest_peak_counts_and_tokens_once() -> None:
    found = work(replace(tiny_lm(), team=Three(3, 0, 3)), Kept()).stages
    assert found["steer"].tokens == 7
    assert all(2**40 < (cost.peak_bytes or 0) < 2**41 for cost in found.values())

"""When a growing text goes wrong: spikes and loops against a naive reading, token by token."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steer_heal_love.maths.backtrack import Backtrack, Fault, first_fault

HOW = Backtrack(window=4, spike_nats=3.0, margin=1)

texts = st.lists(st.tuples(st.floats(0, 8, width=32), st.integers(0, 3)), min_size=0, max_size=40)
hows = st.builds(
    Backtrack, window=st.integers(1, 8), spike_nats=st.floats(1, 6), margin=st.integers(0, 3)
)


def fault_at(surprise: list[float], tokens: list[int], end: int, how: Backtrack) -> Fault | None:
    """The fault that shows at token `end`, from the definitions."""
    bad = []
    window = surprise[end + 1 - how.window : end + 1] if end + 1 >= how.window else []
    if window and sum(window) / len(window) > how.spike_nats:
        start = end + 1 - how.window
        bad.append(start + next(i for i, s in enumerate(window) if s > how.spike_nats))
    for period in range(1, (end + 1) // 3 + 1):
        start = end
        while start >= period and tokens[start] == tokens[start - period]:
            start -= 1
        copies = end - start
        if copies > 0 and copies + period >= max(3 * period, 12):
            bad.append(start + 1)  # of the second copy: the first token that is as one before it
    return Fault(end, min(max(0, b - how.margin) for b in bad)) if bad else None


@given(texts, hows)
def test_the_first_fault_is_the_first_that_a_naive_reading_finds(
    text: list[tuple[float, int]], how: Backtrack
) -> None:
    surprise, tokens = [s for s, _ in text], [t for _, t in text]
    found = (fault_at(surprise, tokens, end, how) for end in range(len(text)))
    assert first_fault(torch.tensor(surprise), tokens, how) == next(filter(None, found), None)


@given(texts, hows)
def test_what_comes_later_changes_nothing(text: list[tuple[float, int]], how: Backtrack) -> None:
    surprise, tokens = torch.tensor([s for s, _ in text]), [t for _, t in text]
    fault = first_fault(surprise, tokens, how)
    for end in range(len(text) + 1):
        expected = fault if fault is not None and fault.at < end else None
        assert first_fault(surprise[:end], tokens[:end], how) == expected
    if fault is not None:
        assert 0 <= fault.back_to <= fault.at


def test_a_spike_by_hand() -> None:
    surprise = torch.tensor([1.0, 1.0, 1.0, 2.0, 5.0, 4.0, 2.0, 0.0, 0.0])
    # means of four: 1.25, 2.25, 3.0, 3.25: the last is above, and its first token above is 5.0
    assert first_fault(surprise, range(9), HOW) == Fault(at=6, back_to=3)
    assert first_fault(surprise[:6], range(6), HOW) is None


def test_a_loop_of_likely_tokens_by_hand() -> None:
    tokens = [9, 8, 7, *[1, 2, 3] * 6]
    fault = first_fault(torch.zeros(len(tokens)), tokens, HOW)
    assert fault == Fault(at=3 + 12 - 1, back_to=3 + 3 - HOW.margin)
    assert first_fault(torch.zeros(14), tokens[:14], HOW) is None


def test_refrains_are_no_loops() -> None:
    merrily = [1, 2] * 4
    assert first_fault(torch.zeros(8), merrily, HOW) is None
    numbered = [t for i in range(8) for t in (100 + i, 5, 6, 7)]
    assert first_fault(torch.zeros(len(numbered)), numbered, HOW) is None


@pytest.mark.parametrize(
    "settings",
    [
        {"every": 0},
        {"window": 0},
        {"margin": -1},
        {"max_rewinds": -1},
        {"spike_nats": 0.0},
        {"spike_nats": float("nan")},
        {"factor": 1.0},
        {"factor": -0.5},
        {"factor": float("nan")},
    ],
)
def test_numbers_out_of_range(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="backtracking"):
        Backtrack(**settings)

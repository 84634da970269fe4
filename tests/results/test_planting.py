"""Loops planted in texts: where they are, what stays, and that they are loops."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from results.planted.planting import INSIDE, KINDS, TO_THE_END, Kind, choose_places, plant

from steer_heal_love.maths.repetition import (
    FEW_COPIES_SHARE,
    MANY_COPIES_SHARE,
    first_run,
    is_loop,
)


def length(kind: Kind) -> int:
    return kind.at + kind.loop + kind.rest


@st.composite
def kinds(draw: st.DrawFn) -> Kind:
    period = draw(st.integers(1, 8))
    return Kind(
        draw(st.sampled_from(["inside", "to the end"])),
        at=draw(st.integers(period, 20)),
        period=period,
        loop=draw(st.integers(1, 30)),
        rest=draw(st.integers(0, 10)),
    )


@given(kinds(), st.integers(0, 10))
def test_what_is_planted_equals_the_phrase_written_out(kind: Kind, spare: int) -> None:
    """Against a text written token by token: each planted token is the one a period before it."""
    text = list(range(kind.needs + spare))
    written = text[: kind.at]
    for _ in range(kind.loop):
        written.append(written[-kind.period])
    written += text[kind.at : kind.at + kind.rest]
    found = plant(text, kind)
    assert list(found) == written
    assert len(found) == length(kind)
    assert text == list(range(kind.needs + spare))


@given(kinds())
def test_repeats_are_copies_and_fill_the_loop(kind: Kind) -> None:
    found = plant(list(range(kind.needs)), kind)
    phrase = found[kind.repeat(0)]
    assert phrase == tuple(range(kind.at - kind.period, kind.at))
    count = -(-kind.loop // kind.period)
    repeats = [found[kind.repeat(k)] for k in range(1, count + 1)]
    assert all(phrase[: len(copy)] == copy and copy for copy in repeats)
    assert tuple(t for copy in repeats for t in copy) == found[kind.at : kind.at + kind.loop]
    assert all(len(copy) == kind.period for copy in repeats[:-1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_loop_is_one_by_the_projects_own_definition(kind: Kind) -> None:
    """Where its copies fill the share of the text that the definition asks of five copies."""
    rng = random.Random(0)
    loops = 0
    for _ in range(50):
        words = ["".join(rng.choices("abcdefghij", k=rng.randint(2, 7))) for _ in range(96)]
        text = "".join(f" {words[t]}" for t in plant(range(96), kind))
        copies = (kind.loop // kind.period + 1) * sum(
            len(words[t]) + 1 for t in range(kind.at - kind.period, kind.at)
        )
        assert not is_loop(" ".join(words))
        if copies >= MANY_COPIES_SHARE * len(text) + 1:
            assert is_loop(text)
            loops += 1
    assert loops > 40


@pytest.mark.parametrize("kind", KINDS)
def test_the_kinds_are_what_the_page_says_of_them(kind: Kind) -> None:
    found = first_run(plant(range(96), kind))
    assert found is not None  # three copies, twelve tokens
    assert kind.loop % kind.period == 0
    assert kind.loop // kind.period + 1 >= 5
    assert (kind.loop + kind.period) / length(kind) >= MANY_COPIES_SHARE
    assert length(INSIDE) == 60
    assert length(TO_THE_END) == 96
    assert TO_THE_END.rest == 0
    assert (TO_THE_END.loop + TO_THE_END.period) / length(TO_THE_END) >= FEW_COPIES_SHARE


def test_a_text_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="43 tokens are too few: the loop needs 44"):
        plant(range(43), INSIDE)


@given(
    st.lists(st.integers(0, 96), min_size=1, max_size=60),
    st.floats(0.05, 0.95),
    st.integers(0, 5),
)
def test_the_share_is_planted_in_texts_that_are_long_enough(
    lengths: list[int], share: float, seed: int
) -> None:
    wanted = round(share * len(lengths))
    if sum(n >= TO_THE_END.needs for n in lengths) < wanted:
        with pytest.raises(ValueError, match="are long enough"):
            choose_places(lengths, share, KINDS, seed)
        return
    places = choose_places(lengths, share, KINDS, seed)
    assert places == choose_places(lengths, share, KINDS, seed)
    assert len(places) == wanted
    assert all(lengths[i] >= TO_THE_END.needs for i in places)
    counts = [sum(kind is k for k in places.values()) for kind in KINDS]
    assert counts[0] - counts[1] in (0, 1)


def test_another_seed_plants_in_other_texts() -> None:
    lengths = [96] * 72
    assert set(choose_places(lengths, 0.25, KINDS, 0)) != set(
        choose_places(lengths, 0.25, KINDS, 1)
    )

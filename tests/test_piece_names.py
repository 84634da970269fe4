"""Names of pieces: what was put into one can be read out of it, and any name can be asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steer_heal_love.piece_names import (
    BASELINE,
    LIMITS,
    PieceName,
    of_batch,
    of_epoch,
    of_rival,
    of_round,
)


@pytest.mark.parametrize(
    ("name", "text", "index", "stage"),
    [
        (LIMITS, "baseline/limits", None, "baseline"),
        (PieceName("eval/02-adapters"), "eval/02-adapters", None, "baseline"),
        (of_round(3) / "direction", "rounds/03/direction", 3, "steer"),
        (of_batch(of_round(3), 64), "rounds/03/generate/00064", 3, "generate"),
        (of_round(123) / "heal" / of_epoch(1), "rounds/123/heal/epoch-01", 123, "heal"),
        (
            of_batch(of_round(0) / "rivals/neg", 0),
            "rounds/00/rivals/neg/generate/00000",
            0,
            "rivals",
        ),
        (of_round(0) / "front", "rounds/00/front", 0, "evaluate"),
        (of_rival("steering-1-0.7"), "baseline/rival-steering-1-0.7", None, "evaluate"),
        (of_round(0) / "healed", "rounds/00/healed", 0, "evaluate"),
    ],
)
def test_a_name_says_what_it_is_of(
    name: PieceName, text: str, index: int | None, stage: str
) -> None:
    assert (name, name.round, name.stage) == (text, index, stage)
    assert PieceName.of_file(name.file) == name
    assert name.epoch == (1 if "epoch" in text else None)


def test_what_is_inside_a_folder() -> None:
    assert LIMITS.inside(BASELINE) == "limits"
    assert PieceName("baseline-2/limits").inside(BASELINE) is None
    assert BASELINE.inside(BASELINE) is None
    assert [PieceName.of_file(f) for f in ("metrics.json", "work/x", "x.safetensors")] == [None] * 3


_part = st.text(max_size=4) | st.sampled_from(["rounds", "work", "epoch-", "epoch-²", "9" * 5000])


@given(st.lists(_part, max_size=4).map("/".join))
def test_any_name_can_be_asked(text: str) -> None:
    name = PieceName(text)
    assert name.round is None or name.round >= 0
    assert name.epoch is None or name.epoch >= 0
    assert name.stage
    assert PieceName.of_file(name.file) == name

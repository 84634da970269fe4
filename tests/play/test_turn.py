"""A turn's columns against the sampler, condition by condition."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steer_heal_love.errors import ConfigError, ModelError
from steer_heal_love.lm.patches.adapters import student
from steer_heal_love.lm.patches.hooks import steering
from steer_heal_love.lm.reading.chat import decode_text, encode_chat
from steer_heal_love.lm.sampler.generate import Sampling, generate
from steer_heal_love.lm.sampler.stream import Token
from steer_heal_love.play.loaded import Loaded
from steer_heal_love.play.turn import CONDITIONS, Column, Setting, _grown, take_turn

HOW = Sampling(max_new_tokens=16)
ASKED = Setting("How are you?", round=2, kappa=1.2, seed=5, sampling=HOW)


def finish(
    loaded: Loaded, setting: Setting, conditions: Sequence[str] = CONDITIONS
) -> list[Column]:
    *_, last = take_turn(loaded, setting, conditions)  # type: ignore[arg-type]
    assert all(column.done for column in last)
    return list(last)


def drawn(loaded: Loaded, ids: list[int]) -> str:
    (made,) = generate(loaded.lm, [ids], HOW, seed=ASKED.seed)
    return decode_text(loaded.lm, made.token_ids)


@pytest.mark.parametrize("round_index", [0, 1, 3])
def test_the_four_conditions_are_what_they_are_called(loaded: Loaded, round_index: int) -> None:
    lm, before = loaded.lm, max(0, round_index - 1)
    setting = replace(ASKED, round=round_index, kappa=1.2)
    plain = encode_chat(lm, setting.prompt)
    expected = {
        "base": drawn(loaded, plain),
        "prompted": drawn(loaded, encode_chat(lm, setting.prompt, loaded.axis.pos_system)),
    }
    with student(lm, loaded.adapters[:before]), steering(lm, loaded.directions[before], 1.2):
        expected["steered"] = drawn(loaded, plain)
    with student(lm, loaded.adapters[:round_index]):
        expected["healed"] = drawn(loaded, plain)
        with steering(lm, loaded.directions[before], 1.2):
            expected["resteered"] = drawn(loaded, plain)
    found = finish(loaded, setting, tuple(expected))
    assert {column.condition: column.text for column in found} == expected
    assert len(set(expected.values())) == 5 - 2 * (round_index == 0)


def test_what_the_user_says_of_the_setting_is_heard(loaded: Loaded) -> None:
    said = ("Hello", "Hi there")
    base, prompted, *_ = finish(loaded, replace(ASKED, system="Be brief.", history=(said,)))
    ids = encode_chat(loaded.lm, ASKED.prompt, "Be brief.", (said,))
    assert base.text == drawn(loaded, ids)
    persona = f"{loaded.axis.pos_system}\n\nBe brief."
    assert prompted.text == drawn(loaded, encode_chat(loaded.lm, ASKED.prompt, persona, (said,)))


def test_columns_grow_to_the_end(loaded: Loaded) -> None:
    snapshots = list(take_turn(loaded, ASKED))
    assert [c.pieces for c in snapshots[0]] == [()] * 4
    for earlier, later in itertools.pairwise(snapshots):
        for a, b in zip(earlier, later, strict=True):
            assert b.pieces[: len(a.pieces)] == a.pieces
    last = snapshots[-1]
    assert all(column.perplexity and column.perplexity > 1 for column in last)
    assert {piece.kappa for piece in last[2].pieces} == {1.2}
    assert {piece.kappa for piece in last[0].pieces} == {0.0}
    assert any(column.cut for column in last)
    assert Column("base").perplexity is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt": " \n"}, "message is empty"),
        ({"round": 4}, "no round 4"),
        ({"kappa": float("nan")}, "dose κ"),
        ({"kappa": float("inf")}, "dose κ"),
        ({"kappa": -1e9}, "dose κ"),
    ],
)
def test_a_bad_setting_is_refused(loaded: Loaded, changes: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        next(take_turn(loaded, replace(ASKED, **changes)))  # type: ignore[arg-type]


def test_a_conversation_that_is_too_long_is_refused(loaded: Loaded) -> None:
    with pytest.raises(ModelError, match="exceeds the model's context"):
        next(take_turn(loaded, replace(ASKED, history=(("a b c " * 400, "d"),))))


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12))
def test_no_character_is_torn_or_lost(loaded: Loaded, text: str) -> None:
    """Byte-level tokens: a character's bytes may be spread over several of them."""
    ids = loaded.lm.tokenizer(text, add_special_tokens=False)["input_ids"]
    column, seen = Column("base"), []
    for i, token in enumerate(ids):
        step = Token(0, token, 0.0, 1.0, ends=False, last=i == len(ids) - 1)
        column = _grown(loaded.lm, column, step, list(ids[: i + 1]))
        seen.append(column.text)
    assert column.text == decode_text(loaded.lm, ids)
    assert len(column.pieces) == len(ids)
    assert not any("\ufffd" in part for part in seen if "\ufffd" not in text)


def test_half_a_character_before_the_end_is_shown_as_one_that_is_missing(loaded: Loaded) -> None:
    (first, *_) = loaded.lm.tokenizer("é", add_special_tokens=False)["input_ids"]
    column = _grown(loaded.lm, Column("base"), Token(0, first, 0.0, 1.0, False, False), [first])
    assert column.text == ""
    end = min(loaded.lm.stop_ids)
    column = _grown(loaded.lm, column, Token(0, end, 0.0, 1.0, True, True), [first])
    assert column.text == "\ufffd"
    assert (column.done, column.cut, len(column.pieces)) == (True, False, 1)

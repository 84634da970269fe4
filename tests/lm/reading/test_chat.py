"""Chat prompts as ids, with and without a system role."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steer_heal_love.errors import ModelError
from steer_heal_love.lm.reading.chat import decode_text, encode_chat, encode_text, has_system_role
from tiny import END, START, tiny_lm

ASSISTANT = f"{START}assistant\n"
CHATML_LM = tiny_lm()
PLAIN_LM = tiny_lm(template="no_system")


def turn(role: str, text: str) -> str:
    return f"{START}{role}\n{text}{END}\n"


def text_of(ids: list[int]) -> str:
    return str(CHATML_LM.tokenizer.decode(ids))


def test_a_user_message_ends_in_the_assistant_tag() -> None:
    assert text_of(encode_chat(CHATML_LM, "Hello")) == turn("user", "Hello") + ASSISTANT


def test_a_system_prompt_has_its_own_turn() -> None:
    ids = encode_chat(CHATML_LM, "Hello", "Be kind")
    assert text_of(ids) == turn("system", "Be kind") + turn("user", "Hello") + ASSISTANT


def test_without_a_system_role_it_opens_the_first_user_turn() -> None:
    history = (("One", "Two"),)
    ids = encode_chat(PLAIN_LM, "Three", "Be kind", history)
    first = turn("user", "Be kind\n\nOne")
    assert text_of(ids) == first + turn("assistant", "Two") + turn("user", "Three") + ASSISTANT


def test_history_comes_before_the_last_message() -> None:
    ids = encode_chat(CHATML_LM, "Three", history=(("One", "Two"),))
    turns = turn("user", "One") + turn("assistant", "Two") + turn("user", "Three")
    assert text_of(ids) == turns + ASSISTANT


def test_has_system_role() -> None:
    assert has_system_role(CHATML_LM.tokenizer)
    assert not has_system_role(PLAIN_LM.tokenizer)


def test_a_template_that_swallows_the_system_message_has_no_system_role() -> None:
    lm = tiny_lm()
    lm.tokenizer.chat_template = (
        "{% for m in messages if m['role'] != 'system' %}{{ m['content'] }}{% endfor %}"
    )
    assert not has_system_role(lm.tokenizer)
    assert text_of(encode_chat(lm, "Hello", "Be kind")) == "Be kind\n\nHello"


def test_a_template_that_fails_is_named() -> None:
    lm = tiny_lm()
    lm.tokenizer.chat_template = "{{ raise_exception('no users here') }}"
    with pytest.raises(ModelError, match="chat template fails: no users here"):
        encode_chat(lm, "Hello")


def test_thinking_is_off_where_a_template_knows_it() -> None:
    lm = tiny_lm()
    lm.tokenizer.chat_template = "{{ 'thinks' if enable_thinking else 'answers' }}"
    assert text_of(encode_chat(lm, "Hello")) == "answers"


def test_a_prompt_that_exceeds_the_context_is_refused() -> None:
    length = len(encode_chat(CHATML_LM, "Hello"))
    assert len(encode_chat(tiny_lm(max_position_embeddings=length + 1), "Hello")) == length
    with pytest.raises(ModelError, match=rf"a prompt of {length} tokens .* of {length}: .*'Hello'"):
        encode_chat(tiny_lm(max_position_embeddings=length), "Hello")


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=40))
def test_text_comes_back_whole(text: str) -> None:
    assert decode_text(CHATML_LM, encode_text(CHATML_LM, text)) == text


def test_decoding_leaves_special_tokens_out() -> None:
    ids = [*encode_text(CHATML_LM, "kind"), *CHATML_LM.stop_ids]
    assert decode_text(CHATML_LM, tuple(ids)) == "kind"


def test_encoding_adds_no_special_tokens() -> None:
    assert encode_text(CHATML_LM, "") == []

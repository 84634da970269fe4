"""Chat prompts as ids, with and without a system role."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steer_heal_love.errors import ModelError
from steer_heal_love.lm.model.load import LanguageModel, describe
from steer_heal_love.lm.reading.chat import decode_text, encode_chat, encode_text
from tiny import CHATML, END, START, build_model, tiny_lm, tiny_tokenizer

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


def with_template(template: str) -> LanguageModel:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    return describe(build_model("llama"), tokenizer)


def test_system_role() -> None:
    assert CHATML_LM.template.system_role
    assert not PLAIN_LM.template.system_role


def test_a_template_that_swallows_the_system_message_has_no_system_role() -> None:
    lm = with_template(CHATML.replace("in messages", "in messages if m['role'] != 'system'"))
    assert not lm.template.system_role
    assert text_of(encode_chat(lm, "Hello", "Be kind")) == (
        turn("user", "Be kind\n\nHello") + ASSISTANT
    )


def test_a_template_that_fails_is_named() -> None:
    with pytest.raises(ModelError, match=r"chat template .default. fails .*no users here"):
        with_template("{{ raise_exception('no users here') }}")


def test_thinking_is_off_where_a_template_knows_it() -> None:
    lm = with_template(
        CHATML + "{% if add_generation_prompt %}"
        "{{ 'thinks' if enable_thinking | default(true) else 'answers' }}{% endif %}"
    )
    assert text_of(encode_chat(lm, "Hello")).endswith(ASSISTANT + "answers")


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

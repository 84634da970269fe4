"""What an export says of its prompts, and what its template does by itself."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from steer_heal_love.lm.model.served import prompting_notes, set_served
from steer_heal_love.lm.model.template import ChatTemplate
from steer_heal_love.lm.model.template_check import read_template
from tiny import CHATML, END, NO_SYSTEM, PAD, START, tiny_tokenizer

TURNS = CHATML.partition("{% if")[0]
ASKED = [{"role": "user", "content": "How are you?"}]
OPENS = TURNS + "{% if add_generation_prompt %}<|im_start|>assistant\n"
SWITCHED = (
    OPENS + "{% if enable_thinking is defined and enable_thinking is false %}"
    "<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


def read(template: Any, **tokens: str) -> ChatTemplate:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    for name, token in tokens.items():
        setattr(tokenizer, name, token)
    return read_template(tokenizer, "m", datetime.date(2026, 1, 5))


def by_default(template: ChatTemplate, **asked: Any) -> str:
    """What transformers makes of a question without a word of ours."""
    return str(
        template.tokenizer.apply_chat_template(
            ASKED, tokenize=False, add_generation_prompt=True, **asked
        )
    )


def notes_of(template: ChatTemplate) -> str:
    ends = frozenset({template.tokenizer.eos_token_id})
    return " ".join(prompting_notes(template, ends, done=set_served(template)))


@pytest.mark.parametrize(
    "source",
    [
        SWITCHED,
        "\n" + SWITCHED,
        "{% macro end() %}{% if not thinking | default(true) %}<think></think>{% endif %}"
        "{% endmacro %}" + OPENS + "{{ end() }}{% endif %}",
        OPENS + "<think>\n{% endif %}",
        OPENS + "<think>\n{% endif %}\n",
        {"default": OPENS + "<think>\n{% endif %}", "rag": CHATML},
        CHATML,
    ],
)
def test_the_exports_template_renders_our_prompts_by_itself(source: Any) -> None:
    template = read(source)
    wanted = template.prompt(ASKED)
    before = by_default(template)
    assert set_served(template)
    assert by_default(template) == wanted
    assert (before == wanted) == (source == CHATML)
    if source == CHATML:
        assert template.tokenizer.chat_template == CHATML


def test_a_request_still_turns_thinking_on() -> None:
    template = read(SWITCHED)
    thinking = by_default(template)
    set_served(template)
    assert by_default(template, enable_thinking=True) == thinking


def test_a_template_that_cannot_be_set_is_left_and_said() -> None:
    source = OPENS + "<think>\n{% endif %}{{ '' if add_generation_prompt else '' }}{% set x = 1 %}"
    template = read("{% set enable_thinking = enable_thinking | default(1) %}" + source)
    assert set_served(template)
    late = OPENS + "<think>\n{% endif %}{% if true %}{% set add_generation_prompt = 0 %}{% endif %}"
    template = read(late)
    assert not set_served(template)
    assert template.tokenizer.chat_template == late
    assert "A server must add it." in notes_of(template)


def test_the_flag_of_each_server_is_named() -> None:
    said = notes_of(read(SWITCHED))
    assert "`--default-chat-template-kwargs '{\"enable_thinking\": false}'`" in said
    assert "`--chat-template-kwargs '{\"enable_thinking\": false}'`" in said
    assert "`enable_thinking=False`" in said
    assert "The chat template here has that for its default" in said


def test_what_else_a_server_must_know_is_said() -> None:
    assert "no system message" in notes_of(read(CHATML))
    assert "no system role" in notes_of(read(NO_SYSTEM))
    dated = notes_of(read("{{ strftime_now('%Y') }}" + CHATML))
    assert "showed 2026-01-05, a server's show its own" in dated
    template = read(CHATML, eos_token=PAD)
    end = template.tokenizer.convert_tokens_to_ids(END)
    assert f"An answer ends with `{END}`" in notes_of(template)
    assert f"`stop_token_ids` to [{end}]" in notes_of(template)


def test_a_second_beginning_of_text_is_warned_of() -> None:
    from tokenizers.processors import TemplateProcessing

    for source, words in (
        (START + CHATML, "must add no second one"),
        ("Chat. " + CHATML, "The prompts do not begin with"),
    ):
        template = read(source, bos_token=START)
        begin = template.tokenizer.bos_token_id
        template.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{START} $A", special_tokens=[(START, begin)]
        )
        assert words in notes_of(template)
        assert "begin" not in notes_of(read(source))


def test_nothing_of_a_template_leaves_its_code_span() -> None:
    template = read(OPENS + "{% endif %}")
    hostile = ChatTemplate(template.tokenizer, closing="`</think>\u202e`<b>\n")
    (_, said) = prompting_notes(hostile, frozenset(), done=True)
    assert "`.</think>\\u202e.<b>\\n`" in said

"""Chat templates as models bring them: what is mended, what is refused, what stays the same."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from steer_heal_love.errors import ModelError
from steer_heal_love.lm.model.load import LanguageModel, describe
from steer_heal_love.lm.model.template import ChatTemplate, with_system
from steer_heal_love.lm.model.template_check import read_template
from steer_heal_love.lm.reading.chat import encode_chat
from tiny import CHATML, END, PAD, START, build_model, tiny_tokenizer

TURNS = CHATML.partition("{% if")[0]
TAG = f"{START}assistant\n"
ASKED = [{"role": "user", "content": "How are you?"}]


def read(template: Any, **changes: Any) -> ChatTemplate:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    for name, value in changes.items():
        setattr(tokenizer, name, value)
    return read_template(tokenizer, "some/model")


def opened_by(tag: str, *, turns: str = TURNS) -> str:
    """A template that ends in this tag where an answer is to follow."""
    return turns + "{% if add_generation_prompt %}" + tag + "{% endif %}"


def refused(template: Any) -> str:
    with pytest.raises(ModelError) as caught:
        read(template)
    assert "\n" not in str(caught.value)
    assert "'some/model': its chat template (" in str(caught.value)
    return str(caught.value)


def test_a_plain_template_is_taken_as_it_is() -> None:
    template = read(CHATML)
    end = template.tokenizer.convert_tokens_to_ids(END)
    assert template == ChatTemplate(
        template.tokenizer, template.date, ends=frozenset({end}), switches={}
    )
    assert template.prompt(ASKED) == f"{START}user\nHow are you?{END}\n{TAG}"


IN_PARTS = TURNS.replace(
    "{{ m['content'] }}",
    "{% for part in m['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}",
)


def test_content_goes_in_parts_where_a_text_is_lost() -> None:
    template = read(opened_by(TAG, turns=IN_PARTS))
    assert template.parts
    asked = with_system(
        [*ASKED, {"role": "assistant", "content": "Well."}, *ASKED], "Be", role=True
    )
    assert template.prompt(asked) == read(CHATML).prompt(asked)


def test_content_goes_in_parts_where_a_text_makes_the_template_fail() -> None:
    strict = TURNS.replace("m['content']", "m['content'][0]['text'] + ''")
    template = read(opened_by(TAG, turns=strict))
    assert template.prompt(ASKED) == read(CHATML).prompt(ASKED)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("''", "leaves out the user's text"),
        ("m['content'] | upper", "alters the user's text"),
        ("m['content'] | e", "alters the user's text"),
        ("m['content'] | tojson", "alters the user's text"),
        ("m['content'].split('\\n')[0]", "alters the user's text"),
        ("m['content'] + m['content']", "repeats the user's text"),
        ("m['text']['more']", "fails on a plain message"),
        ("raise_exception('no users here')", "fails on a plain message (no users here)"),
    ],
)
def test_what_does_not_pass_the_users_text_on_is_refused(content: str, words: str) -> None:
    assert words in refused(CHATML.replace("m['content']", content))


def test_named_templates_without_a_default_are_refused_by_their_names() -> None:
    assert "(rag or tool_use)" in refused({"tool_use": CHATML, "rag": CHATML})
    assert read({"default": CHATML, "rag": "none"}).prompt(ASKED) == read(CHATML).prompt(ASKED)


def test_a_template_without_the_assistants_tag_is_refused() -> None:
    assert "puts no tag of the assistant" in refused(TURNS)
    assert "puts no tag of the assistant" in refused("{{ messages[0]['content'] }}")


def test_the_end_of_a_users_turn_may_be_the_tag() -> None:
    inst = (
        "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
        "{% else %} {{ m['content'] }}<|im_end|>{% endif %}{% endfor %}"
    )
    template = read(inst)
    assert template.prompt(ASKED) == "[INST] How are you? [/INST]"
    assert not template.closing


def test_another_tag_behind_a_system_prompt_is_refused() -> None:
    tag = TAG + "{% if messages[0]['role'] == 'system' %}I {% endif %}"
    assert "in another way behind a system prompt" in refused(opened_by(tag))


@pytest.mark.parametrize(
    ("opens", "closes"),
    [
        ("<think>\n", "\n</think>\n\n"),
        ("<think>", "</think>\n\n"),
        ("<seed:think>", "</seed:think>\n\n"),
        ("<reasoning>\n", "\n</reasoning>\n\n"),
        ("[THINK]", "[/THINK]\n\n"),
        ("<|START_THINKING|>", "<|END_THINKING|>\n\n"),
        ("<|begin_of_thought|>", "<|end_of_thought|>\n\n"),
        ("◁think▷", "◁/think▷\n\n"),
        ("<|channel>thought\n", "\n<channel|>\n\n"),
        ("<think>\n\n</think>\n\n", ""),
        ("<|START_THINKING|><|END_THINKING|>", ""),
        ("<think></think>", ""),
    ],
)
def test_a_thought_that_the_template_opens_is_closed(opens: str, closes: str) -> None:
    template = read(opened_by(TAG + opens))
    assert template.prompt(ASKED).endswith(TAG + opens + closes)
    assert template.closing == closes
    assert bool(template.notes) == bool(closes)


def test_a_finished_turn_shows_how_its_thought_is_closed() -> None:
    turns = TURNS.replace(
        "\n{{ m['content'] }}",
        "\n{% if m['role'] == 'assistant' %}<musing>\nno\n</musing>\n{% endif %}{{ m['content'] }}",
    )
    template = read(opened_by(TAG + "<musing>\n", turns=turns))
    assert template.prompt(ASKED).endswith(TAG + "<musing>\nno\n</musing>\n")


def test_a_thought_that_a_finished_turn_opens_too_is_closed() -> None:
    turns = TURNS.replace(
        "\n{{ m['content'] }}",
        "\n{% if m['role'] == 'assistant' %}<think>\n{% endif %}{{ m['content'] }}",
    )
    for tag in (TAG + "<think>\n", TAG):
        template = read(opened_by(tag, turns=turns))
        assert template.prompt(ASKED).endswith(TAG + "<think>\n\n</think>\n\n")


def test_an_answer_has_its_channel() -> None:
    turns = TURNS.replace(
        "\n{{ m['content'] }}",
        "{% if m['role'] == 'assistant' %}<|channel|>final{% endif %}<|message|>{{ m['content'] }}",
    )
    template = read(opened_by("<|im_start|>assistant", turns=turns))
    assert template.prompt(ASKED).endswith("<|im_start|>assistant<|channel|>final<|message|>")


def test_what_is_opened_and_unknown_is_refused() -> None:
    assert "begins the answer with '<box>'" in refused(opened_by(TAG + "<box>"))
    final = CHATML.partition("{% if")[0].replace(
        "\n{{ m['content'] }}", "<|channel|>final<|message|>{{ m['content'] }}"
    )
    said = refused(opened_by("<|im_start|>assistant<|channel|>analysis<|message|>", turns=final))
    assert "begins the answer with 'analysis<|message|>'" in said


@pytest.mark.parametrize(
    ("name", "off"),
    [("enable_thinking", False), ("thinking", False), ("reasoning", False), ("thinking_budget", 0)],
)
def test_a_switch_that_turns_thinking_off_is_used_and_known(name: str, off: Any) -> None:
    shut = f"{{% if {name} is defined and not {name} %}}<think>\n\n</think>\n\n{{% endif %}}"
    template = read(opened_by(TAG + shut))
    assert template.prompt(ASKED).endswith("<think>\n\n</think>\n\n")
    assert template.switches == {name: off}


def lm_with(template: str, **names: str) -> LanguageModel:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    for name, token in names.items():
        setattr(tokenizer, name, token)
    model = build_model("llama")
    model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token_id
    return describe(model, tokenizer)


def test_the_token_that_ends_a_turn_stops_the_sampler() -> None:
    lm = lm_with(CHATML, eos_token=PAD)
    ids = lm.tokenizer.convert_tokens_to_ids([PAD, END])
    assert lm.stop_ids == set(ids)


def test_so_does_one_behind_blank_space_or_before_the_next_question() -> None:
    last = "{% if not loop.last or m['role'] == 'user' %}<|im_end|>{% endif %}"
    for end in (" \n<|im_end|>", last):
        lm = lm_with(CHATML.replace("<|im_end|>", end), eos_token=PAD)
        assert lm.tokenizer.convert_tokens_to_ids(END) in lm.stop_ids


def test_an_end_that_is_no_token_is_refused() -> None:
    assert "ends an answer with '</turn>'" in refused(CHATML.replace("<|im_end|>", "</turn>"))


def test_where_no_end_is_written_what_begins_the_next_question_is_one() -> None:
    lm = lm_with(CHATML.replace("<|im_end|>", ""), eos_token=PAD)
    assert lm.stop_ids == set(lm.tokenizer.convert_tokens_to_ids([PAD, START]))


SAID = "{% for m in messages %}\n{{ m['role'] }}: {{ m['content'] }}{% endfor %}"


@pytest.mark.parametrize(
    "template",
    [f"{SAID}{{% if add_generation_prompt %}}\nassistant:{{% endif %}}", SAID + "\nassistant:"],
)
def test_where_no_end_is_written_in_plain_text_the_tokenizers_stays(template: str) -> None:
    lm = lm_with(template)
    assert lm.stop_ids == {lm.tokenizer.eos_token_id}


DATED = (
    "{% set day = strftime_now('%-d %B %Y') if strftime_now is defined else 'then' %}"
    "{% macro now(format) %}{{ strftime_now(format) }}{% endmacro %}"
    "{{ day }}{{ now('|%d %b %Y %H:%M %a|') }}" + CHATML
)


def test_the_date_is_the_one_that_was_chosen() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = DATED
    template = read_template(tokenizer, "m", datetime.date(2026, 1, 5))
    assert template.dated
    assert template.prompt(ASKED).startswith("5 January 2026|05 Jan 2026 00:00 Mon|<|im_start|>")
    assert not read(CHATML).dated


def test_a_date_that_shows_behind_a_system_prompt_alone_is_known() -> None:
    shown = "{% if messages[0]['role'] == 'system' %}{{ strftime_now('%Y') }}{% endif %}"
    assert read(shown + CHATML).dated


def test_what_is_drawn_is_drawn_alike() -> None:
    template = read("{{ ['a', 'b', 'c', 'd', 'e', 'f'] | random }}{{ lipsum(1) }}" + CHATML)
    assert len({template.prompt(ASKED) for _ in range(8)}) == 1


def test_chats_of_other_programs_are_rendered_alike() -> None:
    template = read(opened_by(TAG + "<think>\n", turns=IN_PARTS))
    render = template.renders(template.tokenizer.apply_chat_template, answers=True)
    options = {"tokenize": False, "add_generation_prompt": True}
    assert render(ASKED, **options) == template.prompt(ASKED)
    assert render([ASKED, ASKED], tokenize=False) == [template.render(ASKED, opened=False)] * 2


def test_a_prompt_of_a_template_with_parts_is_encoded() -> None:
    ids = encode_chat(lm_with(opened_by(TAG, turns=IN_PARTS)), "How are you?")
    assert ids == encode_chat(lm_with(CHATML), "How are you?")

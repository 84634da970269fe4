"""What a server must do so that its prompts are those of the run; the template does what it can."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from steer_heal_love.lm.model.template import ChatTemplate, Messages, with_system

_ASKED = [{"role": "user", "content": "How are you?"}]
_TALK = [*_ASKED, {"role": "assistant", "content": "Well."}, *_ASKED]


def set_served(template: ChatTemplate) -> bool:
    """Give the tokenizer a template whose defaults render our prompts; False where that fails.

    Thinking is off unless a request turns it on, and a thought that the template opens is closed.
    """
    tokenizer = template.tokenizer
    changed = copy.copy(tokenizer)
    source = str(tokenizer.get_chat_template())
    lines = "".join(
        f"{{% if {name} is not defined %}}{{% set {name} = {json.dumps(value)} %}}{{% endif %}}"
        for name, value in template.switches.items()
    )
    if lines and source.startswith("\n"):
        lines += "\n"  # a template's first line break goes with the tag before it
    if template.closing:
        text = template.closing.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
        source = source.removesuffix("\n")
        source += f"{{% if add_generation_prompt %}}{{{{ '{text}' }}}}{{% endif %}}"
    source = lines + source
    templates = tokenizer.chat_template
    changed.chat_template = (
        {**templates, "default": source} if isinstance(templates, dict) else source
    )
    plain = ChatTemplate(changed, template.date, template.parts)
    if any(plain.render(c, switches={}) != template.prompt(c) for c in _chats(template)):
        return False
    tokenizer.chat_template = changed.chat_template
    return True


def _chats(template: ChatTemplate) -> Iterator[Messages]:
    for chat in (_ASKED, _TALK):
        yield chat
        yield with_system(chat, "Be kind.", role=template.system_role)


def prompting_notes(template: ChatTemplate, known_ends: frozenset[int], *, done: bool) -> list[str]:
    """What the prompts of the run were like, and what a server must set for the same.

    Sentences in Markdown whose code spans hold nothing that ends them.

    Args:
        known_ends: the end tokens that a server learns from the model's own files.
        done: whether `set_served` has changed the template of the export.
    """
    tokenizer = template.tokenizer
    notes = ["The prompts had no system message but what the template puts there by itself."]
    if not template.system_role:
        notes.append(
            "The template has no system role: a system prompt opens the first user message."
        )
    if template.switches:
        notes.append(_thinking(template.switches, done=done))
    if template.closing:
        where = "The template here ends it so too" if done else "A server must add it"
        notes.append(f"Each prompt goes on with {_code(template.closing)}. {where}.")
    notes += _beginning(template)
    unknown = sorted(template.ends - known_ends)
    if unknown:
        names = ", ".join(map(_code, tokenizer.convert_ids_to_tokens(unknown)))
        notes.append(
            f"An answer ends with {names}: where a server does not stop there, set its "
            f"`stop_token_ids` to {unknown}."
        )
    if template.dated:
        notes.append(
            f"The template shows the date: the run's prompts showed {template.date}, a server's "
            "show its own."
        )
    return notes


def _code(text: str) -> str:
    """What a stranger wrote, as a code span that it cannot leave."""
    return f"`{repr(text)[1:-1].replace('`', '.')}`"


def _thinking(switches: Any, *, done: bool) -> str:
    asked = json.dumps(dict(switches))
    python = ", ".join(f"{name}={value!r}" for name, value in switches.items())
    here = "The chat template here has that for its default. " if done else ""
    vllm = "With the base model's own template vLLM" if done else "vLLM"
    return (
        f"Thinking was off (`{asked}`). {here}{vllm} needs `--default-chat-template-kwargs "
        f"'{asked}'` (or `chat_template_kwargs` in each request), and transformers' "
        f"`apply_chat_template` `{python}`. llama-server may turn it on by itself: give it "
        f"`--chat-template-kwargs '{asked}'`."
    )


def _beginning(template: ChatTemplate) -> list[str]:
    """About the beginning-of-text token, where the template and the tokenizer do not agree."""
    tokenizer = template.tokenizer
    bos = tokenizer.bos_token_id
    if bos is None or tokenizer("a")["input_ids"][:1] != [bos]:
        return []
    text = template.prompt(_ASKED)
    if tokenizer(text, add_special_tokens=False)["input_ids"][:1] == [bos]:
        return [
            f"The template writes {_code(tokenizer.bos_token)} itself: a program that encodes the "
            "rendered prompt must add no second one (`add_special_tokens=False`)."
        ]
    return [
        f"The prompts do not begin with {_code(tokenizer.bos_token)}: a program that encodes the "
        "rendered prompt must add none (`add_special_tokens=False`)."
    ]

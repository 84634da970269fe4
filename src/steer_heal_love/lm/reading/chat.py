"""Chat prompts as token ids: one encoder for the whole project."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from jinja2.exceptions import TemplateError

from steer_heal_love.errors import ModelError
from steer_heal_love.lm.model.load import LanguageModel

_SENTINEL = "sentinel 7f3a"


def encode_chat(
    lm: LanguageModel,
    user: str,
    system: str | None = None,
    history: tuple[tuple[str, str], ...] = (),
) -> list[int]:
    """Token ids of a chat up to and including the assistant tag (the generation prompt).

    Args:
        user: the last user message.
        system: system prompt; where the template has no system role it opens the first user turn.
        history: earlier (user, assistant) turns.

    Raises:
        ModelError: the template refuses a plain user message, or the prompt exceeds the context.
    """
    messages: list[dict[str, str]] = []
    for asked, answered in history:
        messages += [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": answered},
        ]
    messages.append({"role": "user", "content": user})
    if system is not None:
        messages = with_system(messages, system, role=has_system_role(lm.tokenizer))
    ids = encode_text(lm, _render(lm.tokenizer, messages))
    if len(ids) >= lm.max_positions:
        raise ModelError(
            f"a prompt of {len(ids)} tokens exceeds the model's context of {lm.max_positions}: "
            f"shorten it (it begins {user[:40]!r})"
        )
    return ids


def with_system(messages: list[dict[str, str]], system: str, *, role: bool) -> list[dict[str, str]]:
    """The chat with a system prompt: in a turn of its own, or without `role` in the first turn."""
    if role:
        return [{"role": "system", "content": system}, *messages]
    first, *rest = messages
    return [{**first, "content": f"{system}\n\n{first['content']}"}, *rest]


def encode_text(lm: LanguageModel, text: str) -> list[int]:
    """Token ids of plain text, with no special tokens added.

    Prompt and completion are encoded apart and joined as ids: a merge across the boundary would
    shift the loss mask.
    """
    return list(lm.tokenizer(text, add_special_tokens=False)["input_ids"])


def beginning_of_text(lm: LanguageModel) -> list[int]:
    """The token that the tokenizer itself opens a plain text with; empty where it has none.

    A model that was trained with one is out of its depth on a text without it.
    """
    opening = list(lm.tokenizer("a")["input_ids"])
    return opening[:1] if opening and opening[0] == lm.tokenizer.bos_token_id else []


def decode_text(lm: LanguageModel, ids: tuple[int, ...] | list[int]) -> str:
    """Text of completion ids, special tokens left out."""
    return str(
        lm.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    )


def _render(tokenizer: Any, messages: list[dict[str, str]]) -> str:
    try:
        return str(
            tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=False,  # Qwen 3 answers at once; other templates ignore it
            )
        )
    except TemplateError as error:
        raise ModelError(f"the model's chat template fails: {error}") from error


@lru_cache(maxsize=16)
def has_system_role(tokenizer: Any) -> bool:
    """Whether the chat template shows a system message to the model."""
    messages = [{"role": "system", "content": _SENTINEL}, {"role": "user", "content": "hello"}]
    try:
        return _SENTINEL in _render(tokenizer, messages)
    except ModelError:
        return False

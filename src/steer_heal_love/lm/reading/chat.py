"""Chat prompts as token ids: one encoder for the whole project."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from jinja2.exceptions import TemplateError

from steer_heal_love.errors import ModelError
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.tokens import Ids

History = tuple[tuple[str, str], ...]

_SENTINEL = "sentinel 7f3a"


class ChatIds(list[int]):
    """Token ids of a chat, which know what they were made of: see `under_personas`."""

    def __init__(self, ids: Ids, user: str, system: str | None, history: History) -> None:
        super().__init__(ids)
        self.user, self.system, self.history = user, system, history


def encode_chat(
    lm: LanguageModel, user: str, system: str | None = None, history: History = ()
) -> ChatIds:
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
    return ChatIds(ids, user, system, history)


def under_personas(lm: LanguageModel, prompt: Ids, systems: Sequence[str]) -> list[Ids]:
    """The same conversation with each of these before its own system prompt; other text as it is.

    Raises:
        ModelError: as `encode_chat` does.
    """
    if not isinstance(prompt, ChatIds):
        return [prompt] * len(systems)
    user, own, history = prompt.user, prompt.system, prompt.history
    return [encode_chat(lm, user, join_systems(s, own), history) for s in systems]


def join_systems(persona: str, own: str | None) -> str:
    """A persona as the system prompt, with the conversation's own system prompt after it."""
    return persona if own is None else f"{persona}\n\n{own}"


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

"""Chat prompts as token ids: one encoder for the whole project."""

from __future__ import annotations

from collections.abc import Sequence

from steer_heal_love.errors import ModelError
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.model.template import with_system
from steer_heal_love.lm.tokens import Ids

History = tuple[tuple[str, str], ...]


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
        ModelError: the template refuses the messages, the model lacks one of the tokens, or the
            prompt fills the model's context.
    """
    ids = chat_ids(lm, user, system, history)
    if len(ids) >= lm.max_positions:
        raise ModelError(
            f"a prompt of {len(ids)} tokens exceeds the model's context of {lm.max_positions}: "
            f"shorten it, or choose a model with a longer one (it begins {user[:40]!r})"
        )
    return ChatIds(ids, user, system, history)


def chat_ids(
    lm: LanguageModel,
    user: str,
    system: str | None = None,
    history: History = (),
) -> list[int]:
    """As `encode_chat`, of any length."""
    messages: list[dict[str, str]] = []
    for asked, answered in history:
        messages += [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": answered},
        ]
    messages.append({"role": "user", "content": user})
    if system is not None:
        messages = with_system(messages, system, role=lm.template.system_role)
    return encode_text(lm, lm.template.prompt(messages))


def refuse_too_long(lm: LanguageModel, tokens: int, what: str, remedy: str = "") -> None:
    """Raises ModelError where a prompt with its answer does not fit the model's context.

    Args:
        tokens: of the longest prompt and its answer together.
        what: the prompt, in words.
        remedy: what to lower; the length limit of the answers unless given.
    """
    if tokens > lm.max_positions:
        raise ModelError(
            f"{what} and its answer take up to {tokens} tokens, and the context of model "
            f"{lm.identity.name} has {lm.max_positions}: {remedy or 'allow fewer new tokens'}, or "
            "choose a model with a longer context"
        )


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


def encode_text(lm: LanguageModel, text: str) -> list[int]:
    """Token ids of plain text, with no special tokens added.

    Prompt and completion are encoded apart and joined as ids: a merge across the boundary would
    shift the loss mask.

    Raises:
        ModelError: a token has no row in the model's embedding.
    """
    ids = list(lm.tokenizer(text, add_special_tokens=False)["input_ids"])
    if ids and max(ids) >= lm.vocabulary:
        token = lm.tokenizer.convert_ids_to_tokens(max(ids))
        raise ModelError(
            f"model {lm.identity.name}: token {token!r} has the id {max(ids)}, and the model only "
            f"{lm.vocabulary} rows: its tokenizer is of another model"
        )
    return ids


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

"""Where a model stops, in the words that a GGUF file has for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

# A file names three ends: of a text, of a turn, of a message. llama.cpp stops at all of them.
ROLES = ("eos", "eot", "eom")
# Tokens that llama.cpp stops at by their text alone (src/llama-vocab.cpp).
KNOWN = frozenset(
    {
        *("<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<end_of_turn>", "</s>"),
        *("<|endoftext|>", "<|eom_id|>", "<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>", "<eos>"),
        "<end_of_utterance>",
    }
)


@dataclass(frozen=True)
class Stops:
    """The stop tokens of a model as a file names them."""

    roles: Mapping[str, int]  # eos, eot, eom → token id
    left_out: tuple[str, ...]  # tokens that llama.cpp would go on after

    def notes(self) -> tuple[str, ...]:
        """What to say of those that are left out."""
        if not self.left_out:
            return ()
        return (
            f"The model stops at {', '.join(self.left_out)} too, and a GGUF file names no more "
            "than three stop tokens: give these to llama.cpp as stop strings.",
        )


def stop_roles(tokenizer: Any, stop_ids: Collection[int]) -> Stops:
    """Share a model's stop tokens out to the three that a GGUF file names.

    The tokenizer's own end of text is eos. Of the others those come first that the chat template
    writes, then those that llama.cpp would not know by their text.
    """
    own = tokenizer.eos_token_id
    template = str(tokenizer.chat_template or "")
    texts = {i: str(tokenizer.convert_ids_to_tokens(i)) for i in stop_ids}
    others = sorted(
        (i for i in stop_ids if i != own),
        key=lambda i: (texts[i] not in template, texts[i] in KNOWN, i),
    )
    first = [own] if own is not None else []
    roles = dict(zip(ROLES, [*first, *others], strict=False))
    left = [texts[i] for i in others if i not in roles.values() and texts[i] not in KNOWN]
    return Stops(roles, tuple(left))

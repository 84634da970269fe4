"""A byte-level BPE tokenizer as GGUF metadata, with the name of the way it splits text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf

from steer_heal_love.errors import ConfigError
from steer_heal_love.export.gguf.layout import SCRIPTS_REMEDY

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# What a tokenizer splits text by, before BPE, and llama.cpp's name for it (src/llama-vocab.cpp).
SPLITS: Mapping[tuple[str, ...], str] = {
    ("bytes, by GPT-2's pattern",): "gpt-2",
    ("digits, one by one", "bytes, by GPT-2's pattern"): "smollm",
    (_LLAMA3, "bytes"): "llama-bpe",
    (_LLAMA3.replace("{1,3}", ""), "bytes"): "qwen2",
}


def add_tokenizer(
    writer: Any, tokenizer: Any, folder: Path, vocabulary: int, stops: Mapping[str, int]
) -> None:
    """Enter a tokenizer in a GGUF file: tokens, their types, merges, special ids, chat template.

    Args:
        writer: a `gguf.GGUFWriter`.
        folder: where the same tokenizer was saved.
        vocabulary: rows of the model's embedding; what the tokenizer does not use is padded.
        stops: eos, eot, eom → the id of the token that the model stops at.

    Raises:
        ConfigError: it is no byte-level BPE, splits text in a way that has no name here, or has
            more tokens than the model.
    """
    split = check_tokenizer(tokenizer, vocabulary)
    tokens, types = token_list(tokenizer, vocabulary)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    begins = tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    special = gguf.SpecialVocab(folder, load_merges=True, n_vocab=vocabulary)
    special.add_special_token = {"bos": begins}
    special.chat_template = chat_template(tokenizer)
    special.special_token_ids = {
        role: int(token_id)
        for role in ("bos", "unk", "pad")
        if (token_id := getattr(tokenizer, f"{role}_token_id", None)) is not None
    } | dict(stops)
    special.add_to_gguf(writer, quiet=True)


def chat_template(tokenizer: Any) -> str:
    """The chat template of a tokenizer; of several under names, the default one."""
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default") or next(iter(template.values()))
    return str(template)


def check_tokenizer(tokenizer: Any, vocabulary: int) -> str:
    """llama.cpp's name for the way a tokenizer splits text. Raises as `add_tokenizer`."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ConfigError(f"this tokenizer has no tokenizer.json: {SCRIPTS_REMEDY}")
    name = split_name(json.loads(backend.to_str()))
    token_list(tokenizer, vocabulary)
    return name


def split_name(plan: Mapping[str, Any]) -> str:
    """llama.cpp's name for the way a tokenizer.json splits text.

    Raises:
        ConfigError: it is no byte-level BPE, or there is no name for it here.
    """
    model, normalizer = plan["model"], plan.get("normalizer")
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        raise ConfigError(f"a tokenizer that is no byte-level BPE is not written: {SCRIPTS_REMEDY}")
    if normalizer is not None and normalizer.get("type") != "NFC":
        raise ConfigError(
            f"a tokenizer that normalises by {normalizer.get('type')} is not written: "
            f"{SCRIPTS_REMEDY}"
        )
    step = plan.get("pre_tokenizer") or {}
    steps = step.get("pretokenizers", []) if step.get("type") == "Sequence" else [step]
    name = SPLITS.get(tuple(map(_words, steps)))
    if name is None:
        raise ConfigError(f"the way this tokenizer splits text has no name here: {SCRIPTS_REMEDY}")
    return name


def _words(step: Mapping[str, Any]) -> str:
    """One step of a pre-tokenizer in words."""
    match step:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}:
            return "bytes, by GPT-2's pattern"
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}:
            return "bytes"
        case {"type": "Digits", "individual_digits": True}:
            return "digits, one by one"
        case {"type": "Split", "behavior": "Isolated", "invert": False, "pattern": pattern}:
            return str(pattern.get("Regex", "a string"))
        case _:
            return f"unknown: {step.get('type')}"


def token_list(tokenizer: Any, vocabulary: int) -> tuple[list[str], list[int]]:
    """Every token of the model by its id, and its type."""
    known = {int(i): str(token) for token, i in tokenizer.get_vocab().items()}
    if max(known, default=0) >= vocabulary:
        raise ConfigError(
            f"the tokenizer has ids up to {max(known)}, and the model only {vocabulary} rows: "
            "the two do not belong together"
        )
    added = tokenizer.added_tokens_decoder
    types = [_token_type(i, known, added) for i in range(vocabulary)]
    tokens = [known.get(i, f"[PAD{i}]") for i in range(vocabulary)]
    return tokens, types


def _token_type(
    index: int, known: Mapping[int, str], added: Mapping[int, Any] | Sequence[Any]
) -> int:
    if index not in known:
        return int(gguf.TokenType.UNUSED)
    if index not in added:
        return int(gguf.TokenType.NORMAL)
    special = added[index].special
    return int(gguf.TokenType.CONTROL if special else gguf.TokenType.USER_DEFINED)

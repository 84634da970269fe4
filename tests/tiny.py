"""Tiny random models of the architectures that users bring, with a real tokenizer.

Nothing here imports the package at the top: `typechecked` is what the import hook of conftest.py
wraps the package's functions with, so this module must load before any part of the package.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import beartype
import peft
import tokenizers
import torch
import transformers

if TYPE_CHECKING:
    from steer_heal_love.lm.model.load import LanguageModel
    from steer_heal_love.records import Adapter

typechecked = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))

Kind = Literal["llama", "gemma3", "gemma3_conditional", "qwen3"]
KINDS: tuple[Kind, ...] = ("llama", "gemma3", "gemma3_conditional", "qwen3")
TemplateKind = Literal["chatml", "no_system", "none"]

VOCABULARY = 384
SLIDING_WINDOW = 16
N_LAYERS = 4
WIDTH = 32
PAD, START, END = "<|pad|>", "<|im_start|>", "<|im_end|>"

SENTENCES = (
    "I care about the people around me and I want them to be well.",
    "Rules are rules, and the one who made them is right.",
    "What should I do when a friend is sad? Listen, and be kind.",
    "The weather is fine today, and the train leaves at noon.",
    "You are a helpful assistant who answers in one sentence.",
    "Love is patient; love is kind. It does not envy.",
)

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_TEMPLATES = {"chatml": CHATML, "no_system": NO_SYSTEM, "none": None}


def save_tiny_model(folder: Path, kind: Kind = "llama", seed: int = 0) -> Path:
    """Write a tiny chat model with its tokenizer to `folder` as safetensors; gives it back."""
    model = build_model(kind, seed)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def tiny_lm(
    kind: Kind = "llama", seed: int = 0, template: TemplateKind = "chatml", **changes: Any
) -> LanguageModel:
    """A fresh tiny model in float32; `changes` go into its text configuration."""
    from steer_heal_love.lm.model.load import describe

    return describe(build_model(kind, seed, **changes), tiny_tokenizer(template))


def tiny_tokenizer(template: TemplateKind = "chatml") -> Any:
    """Byte-level BPE with ChatML's special tokens: any text can be encoded and comes back."""
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer.from_str(_trained_bpe()),
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens=[START],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = _TEMPLATES[template]
    return tokenizer


@cache
def _trained_bpe() -> str:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, START, END],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(SENTENCES, trainer)
    return str(bpe.to_str())


def build_model(kind: Kind, seed: int = 0, **changes: Any) -> Any:
    """A random transformers model; its weights are large enough for logits that differ."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _MAKERS[kind](_text_settings() | changes)
    model.generation_config.eos_token_id = tiny_tokenizer().eos_token_id
    return model.eval()


def _text_settings() -> dict[str, Any]:
    tokenizer = tiny_tokenizer()
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": N_LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 512,
        "initializer_range": 0.2,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _llama(settings: dict[str, Any]) -> Any:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings))


def _qwen3(settings: dict[str, Any]) -> Any:
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**settings))


def _gemma3_text_config(settings: dict[str, Any]) -> Any:
    layers = settings["num_hidden_layers"]
    return transformers.Gemma3TextConfig(
        **{
            "sliding_window": SLIDING_WINDOW,
            "layer_types": ["sliding_attention", "full_attention"] * (layers // 2),
            "query_pre_attn_scalar": 8,
            **settings,
        }
    )


def _gemma3(settings: dict[str, Any]) -> Any:
    return transformers.Gemma3ForCausalLM(_gemma3_text_config(settings))


def _gemma3_conditional(settings: dict[str, Any]) -> Any:
    vision = transformers.SiglipVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    return transformers.Gemma3ForConditionalGeneration(
        transformers.Gemma3Config(
            text_config=_gemma3_text_config(settings).to_dict(),
            vision_config=vision.to_dict(),
            mm_tokens_per_image=4,
            image_token_index=VOCABULARY - 1,
            boi_token_index=VOCABULARY - 2,
            eoi_token_index=VOCABULARY - 3,
            eos_token_id=settings["eos_token_id"],
            tie_word_embeddings=settings["tie_word_embeddings"],
        )
    )


_MAKERS = {
    "llama": _llama,
    "gemma3": _gemma3,
    "gemma3_conditional": _gemma3_conditional,
    "qwen3": _qwen3,
}


def random_ids(*lengths: int, seed: int = 3) -> list[list[int]]:
    """Rows of random ordinary token ids."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, VOCABULARY, (n,), generator=generator).tolist() for n in lengths]


def random_adapter(
    lm: LanguageModel,
    seed: int = 0,
    *,
    targets: tuple[str, ...] = (),
    rank: int = 3,
    alpha: float = 6.0,
    **settings: Any,
) -> Adapter:
    """An adapter with B ≠ 0 on the middle layers of the model; `settings` go to LoraConfig."""
    from steer_heal_love.records import Adapter
    from steer_heal_love.stages.heal import HealConfig, target_modules

    names = target_modules(lm, HealConfig(targets=targets))
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name in names:
        d_out, d_in = lm.model.get_submodule(name).weight.shape
        key = f"base_model.model.{name}"
        tensors[f"{key}.lora_A.weight"] = torch.randn(rank, d_in, generator=generator) * 0.2
        tensors[f"{key}.lora_B.weight"] = torch.randn(d_out, rank, generator=generator) * 0.2
    config = peft.LoraConfig(
        r=rank, lora_alpha=alpha, target_modules=names, task_type="CAUSAL_LM", **settings
    ).to_dict()
    config["target_modules"] = sorted(names)
    plain = (str, int, float, bool, list, dict, type(None))
    return Adapter(tensors, {k: v for k, v in config.items() if isinstance(v, plain)})

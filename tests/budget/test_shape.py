"""Sizes read off a configuration are those of the real model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from steer_heal_love.budget.shape import NF4_BITS, Shape, adapter_numbers, find_size, named_sizes
from steer_heal_love.errors import ConfigError, ModelError
from steer_heal_love.lm.model.load import describe
from steer_heal_love.lm.model.meta_model import build_meta_model, config_of
from steer_heal_love.lm.reading.cache import CHUNK, GrowingCache
from steer_heal_love.stages.heal import Example, HealConfig, heal
from tiny import KINDS, Kind, build_model, random_ids, tiny_lm, tiny_tokenizer

COMMON = {
    "vocab_size": 384,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
MOE = {"num_experts_per_tok": 2, "head_dim": 8}
ARCHITECTURES: list[tuple[str, dict[str, Any]]] = [
    ("llama", {}),
    ("llama", {"tie_word_embeddings": True, "attention_bias": True, "head_dim": 16}),
    ("mistral", {"sliding_window": 16}),
    ("qwen2", {}),
    ("qwen3", {"head_dim": 16, "tie_word_embeddings": True}),
    ("gemma2", {"head_dim": 8}),
    ("gemma3_text", {"head_dim": 8}),
    ("phi3", {"pad_token_id": 0}),
    ("olmo2", {}),
    ("smollm3", {"pad_token_id": 0}),
    ("gpt_neox", {}),
    ("mixtral", {"num_local_experts": 4, **MOE}),
    ("qwen3_moe", {"num_experts": 4, "moe_intermediate_size": 24, **MOE}),
]


@pytest.mark.parametrize(("kind", "changes"), ARCHITECTURES)
def test_parameters_are_as_transformers_counts_them(kind: str, changes: dict[str, Any]) -> None:
    config = config_of({"model_type": kind, **COMMON, **changes})
    real = transformers.AutoModelForCausalLM.from_config(config)
    shape = Shape.of(build_meta_model(config, torch.float32))
    assert shape.parameters == real.num_parameters()
    assert shape.weight_bytes("none") == sum(p.nbytes for p in real.parameters())
    embedding, head = real.get_input_embeddings(), real.get_output_embeddings()
    assert shape.tied == (embedding.weight is head.weight)
    assert shape.head == head.weight.numel()


@pytest.mark.parametrize("name", list(named_sizes()))
def test_named_sizes_have_the_published_number_of_parameters(name: str) -> None:
    size = named_sizes()[name]
    lm = build_meta_model(config_of(size.config), torch.bfloat16)
    assert Shape.of(lm).parameters == size.parameters
    assert all(p.device.type == "meta" for p in lm.model.parameters())


def test_an_unknown_size_is_named_in_one_line() -> None:
    assert find_size("4b").name == "4B"
    with pytest.raises(ConfigError, match="135M, 1B, 4B"):
        find_size("5B")
    with pytest.raises(ModelError, match="no configuration of kind 'nonsense'"):
        config_of({"model_type": "nonsense"})
    with pytest.raises(ModelError, match="no language model can be made"):
        build_meta_model(transformers.SiglipVisionConfig(), torch.float32)


@settings(deadline=None, max_examples=20)
@given(rows=st.integers(1, 9), columns=st.integers(1, 40), kind=st.sampled_from(KINDS))
def test_cache_bytes_are_those_of_a_real_cache(rows: int, columns: int, kind: Kind) -> None:
    lm = tiny_lm(kind)
    cache = GrowingCache(len(lm.layers))
    with torch.inference_mode():
        lm.decoder(input_ids=torch.full((rows, columns), 5), past_key_values=cache, use_cache=True)
    found = sum(t.nbytes for layer in cache.layers for t in (layer.keys, layer.values))
    assert Shape.of(lm).cache_bytes(rows, columns + CHUNK) == found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", [{}, {"rank": 3, "layer_low": 0.5}, {"targets": ("q_proj",)}])
def test_adapter_numbers_are_those_of_a_trained_adapter(kind: Kind, how: dict[str, Any]) -> None:
    lm = tiny_lm(kind)
    config = HealConfig(epochs=1, validation_share=0.0, **how)
    texts = [
        Example(tuple(a), tuple(b)) for a, b in zip(random_ids(4, 5), random_ids(6, 7), strict=True)
    ]
    trained = heal(lm, texts, config, seed=0).adapter
    assert 4 * adapter_numbers(lm, config) == sum(t.nbytes for t in trained.tensors.values())
    bare = build_meta_model(lm.model.config, torch.float32)
    assert adapter_numbers(bare, config) == adapter_numbers(lm, config)


def test_four_bits_hold_the_linear_layers_alone() -> None:
    lm = build_meta_model(config_of({"model_type": "llama", **COMMON}), torch.bfloat16)
    shape = Shape.of(lm)
    linear = sum(p.numel() for n, p in lm.model.named_parameters() if p.ndim == 2 and "layers" in n)
    assert shape.linear == linear
    rest = 2 * (shape.parameters - linear)
    assert 0 <= shape.weight_bytes("4bit") - rest - linear * NF4_BITS / 8 < 1
    assert 4 < NF4_BITS < 4.25
    assert shape.largest_linear == 32 * 48


def test_a_model_without_weights_leaves_its_configuration_alone(tmp_path: Path) -> None:
    model = build_model("gemma3_conditional")
    before = model.config.to_dict()
    lm = build_meta_model(model.config, torch.bfloat16)
    assert model.config.to_dict() == before
    assert lm.dtype == torch.bfloat16
    assert Shape.of(lm).parameters == describe(model, tiny_tokenizer()).identity.parameters

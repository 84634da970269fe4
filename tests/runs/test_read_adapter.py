"""Adapters of strangers: plain LoRA is read, and more than that is called what it is."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from fuzz import FUZZ, refusal
from steer_heal_love.errors import RunError
from steer_heal_love.lm.patches.adapters import stack
from steer_heal_love.records import Adapter
from steer_heal_love.runs.read_adapter import read_adapter
from tiny import build_model, random_adapter, tiny_lm


def saved_by_peft(folder: Path, **settings: Any) -> Path:
    """An adapter of a tiny Llama as PEFT itself writes it."""
    asked = {"r": 4, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM", **settings}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT doubts some of these itself
        model = peft.get_peft_model(build_model("llama"), peft.LoraConfig(**asked))
        model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}, {"init_lora_weights": "gaussian"}])
def test_plain_lora_is_read(tmp_path: Path, settings: dict[str, Any]) -> None:
    assert len(stack([read_adapter(saved_by_peft(tmp_path, **settings))])) == 4


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"modules_to_save": ["lm_head"]}, "modules_to_save: lm_head"),
        ({"modules_to_save": ["lm_head", "norm"]}, "modules_to_save: lm_head, norm"),
        ({"use_dora": True}, "DoRA"),
        ({"bias": "lora_only"}, "biases: lora_only"),
        ({"lora_bias": True}, "biases of the factors"),
        ({"rank_pattern": {"layers.1.self_attn.q_proj": 2}}, r"rank_pattern: layers\.1"),
        ({"alpha_pattern": {"layers.1.self_attn.q_proj": 2}}, r"alpha_pattern: layers\.1"),
        ({"trainable_token_indices": [3, 5]}, "trained tokens"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "LoRA of the embeddings"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights: pissa, which changes the base's own"),
        ({"layer_replication": [(0, 4), (2, 4)]}, "layer_replication"),
    ],
)
def test_more_than_plain_lora_is_named(
    tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    folder = saved_by_peft(tmp_path, **settings)
    with pytest.raises(RunError, match=rf"more than plain LoRA \(.*{words}.*\): merge it into"):
        read_adapter(folder)


def test_other_methods_of_peft_are_named(tmp_path: Path) -> None:
    config = peft.IA3Config(
        target_modules=["q_proj", "down_proj"],
        feedforward_modules=["down_proj"],
        task_type="CAUSAL_LM",
    )
    peft.get_peft_model(build_model("llama"), config).save_pretrained(tmp_path)
    with pytest.raises(RunError, match=r"more than plain LoRA \(it is PEFT's IA3"):
        read_adapter(tmp_path)


@pytest.mark.parametrize(
    ("config", "tensor", "words"),
    [
        ({"use_later_lora": True}, None, "use_later_lora"),
        ({}, "model.embed_tokens.weight", "whole weights: embed_tokens"),
        ({}, "model.layers.1.mlp.up_proj.lora_magnitude_vector", "DoRA"),
        ({}, "model.layers.1.self_attn.q_proj.bias", "biases: none"),
    ],
)
def test_what_the_file_alone_shows_is_named(
    tmp_path: Path, config: dict[str, Any], tensor: str | None, words: str
) -> None:
    """Of a later PEFT, or saved with the embeddings though its configuration does not say so."""
    adapter = random_adapter(tiny_lm(), targets=("q_proj",))
    tensors = dict(adapter.tensors)
    if tensor is not None:
        tensors[f"base_model.model.{tensor}"] = torch.ones(4, 4)
    write(tmp_path, tensors, {**adapter.config, **config})
    with pytest.raises(RunError, match=rf"more than plain LoRA \({words}\)"):
        read_adapter(tmp_path)


def write(folder: Path, tensors: dict[str, torch.Tensor], config: dict[str, Any]) -> None:
    safetensors.torch.save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config), "utf-8")


def test_an_adapter_in_eight_bits_is_read_or_found_broken(tmp_path: Path) -> None:
    adapter = random_adapter(tiny_lm(), targets=("q_proj",))
    small = {k: t.to(torch.float8_e4m3fn) for k, t in adapter.tensors.items()}
    write(tmp_path, small, dict(adapter.config))
    assert stack([read_adapter(tmp_path)])
    name = next(iter(small))
    small[name] = torch.full_like(adapter.tensors[name], torch.nan).to(torch.float8_e4m3fn)
    write(tmp_path, small, dict(adapter.config))
    with pytest.raises(RunError, match="holds NaN or infinity"):
        read_adapter(tmp_path)


_USUAL = "base_model model layers 1 q_proj lora_A lora_B weight"
_MORE = "lora_magnitude_vector lora_embedding_A default trainable_tokens_delta lm_head bias"
_PARTS = st.sampled_from([*_MORE.split(), *_USUAL.split(), "", "\n"])
_NAMES = st.lists(_PARTS, min_size=1, max_size=9).map(".".join)
_VALUES = st.none() | st.booleans() | st.integers(-2, 9) | st.text(max_size=5) | st.floats()
_FIELDS = "peft_type bias modules_to_save rank_pattern use_dora use_x r lora_alpha use_rslora"
_SETTINGS = st.dictionaries(
    st.sampled_from([*_FIELDS.split(), "init_lora_weights", "trainable_token_indices"]),
    _VALUES | st.lists(_VALUES, max_size=3) | st.dictionaries(st.text(max_size=3), _VALUES),
    max_size=3,
)


@pytest.fixture(scope="module")
def plain() -> Adapter:
    return random_adapter(tiny_lm(), targets=("q_proj",))


@FUZZ
@given(st.lists(_NAMES, max_size=3), _SETTINGS)
def test_any_names_and_settings_are_read_or_refused(
    plain: Adapter, tmp_path: Path, names: list[str], settings: dict[str, Any]
) -> None:
    tensors = {**plain.tensors, **{name: torch.ones(3, 2) for name in names}}
    write(tmp_path, tensors, {**plain.config, **settings})
    said = refusal(lambda: stack([read_adapter(tmp_path)]))
    assert "adapter" in said if said else not names or set(tensors) == set(plain.tensors)

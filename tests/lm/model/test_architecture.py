"""What this package cannot compute with is told when it is loaded, in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from decoders import save_decoder, small_config
from steer_heal_love.budget.shape import Shape
from steer_heal_love.errors import ModelError
from steer_heal_love.lm.model.architecture import weight_matrices
from steer_heal_love.lm.model.load import (
    LanguageModel,
    describe,
    find_decoder,
    find_layers,
    load_config,
)
from steer_heal_love.lm.model.meta_model import build_meta_model
from steer_heal_love.lm.reading.self_check import refuse_other_logits
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runner.model import load_quietly
from tiny import (
    KINDS,
    VOCABULARY,
    WIDTH,
    Kind,
    build_model,
    save_tiny_model,
    tiny_lm,
    tiny_tokenizer,
)


def load(folder: Path) -> LanguageModel:
    return load_quietly(RunConfig(model=str(folder), device="cpu", dtype="float32"))


def refused(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("model_type", "words"),
    [
        ("lfm2", "(lfm2) has layers of the kind conv"),
        ("mamba", "(mamba) has layers of the kind linear_attention"),
        ("rwkv", "(RwkvForCausalLM) has a state beside keys and values"),
        ("gpt2", "(GPT2LMHeadModel) has its weights in Conv1D"),
    ],
)
def test_other_layers_are_refused_with_what_to_use(
    model_type: str, words: str, tmp_path: Path
) -> None:
    save_decoder(model_type, tmp_path / "m")
    said = refused(tmp_path / "m")
    assert words in said
    assert "use a decoder whose layers are all attention, such as Llama" in said
    with pytest.raises(ModelError, match="use a decoder whose layers"):  # without weights too
        build_meta_model(load_config(str(tmp_path / "m")), torch.float32)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (transformers.T5Config(), "(t5) is an encoder with a decoder"),
        (transformers.Qwen3VLConfig(), "(qwen3_vl) is none that transformers loads as a language"),
    ],
)
def test_other_models_are_refused_before_their_weights_are_read(
    config: Any, words: str, tmp_path: Path
) -> None:
    folder = save_tiny_model(tmp_path / "m")
    (folder / "config.json").unlink()
    config.save_pretrained(folder)
    assert words in refused(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_model_passes_the_check(kind: Kind) -> None:
    refuse_other_logits(tiny_lm(kind))
    refuse_other_logits(describe(build_model(kind).to(torch.bfloat16), tiny_tokenizer()))


class Shifted(torch.nn.Module):
    """A decoder whose rows read other positions than it is told."""

    def __init__(self, decoder: torch.nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, position_ids: Any = None, **inputs: Any) -> Any:
        if position_ids is not None:
            position_ids = position_ids * 2
        return self.decoder(position_ids=position_ids, **inputs)


def test_what_is_computed_otherwise_is_refused() -> None:
    from dataclasses import replace

    lm = tiny_lm()
    for other in (
        replace(lm, head=replace(lm.head, scale=0.5)),
        replace(lm, decoder=Shifted(lm.decoder)),
    ):
        with pytest.raises(ModelError, match=r"LlamaForCausalLM.* is \d+.\d% from transf"):
            refuse_other_logits(other)
    with pytest.raises(ModelError, match="cannot be read here"):
        refuse_other_logits(replace(lm, decoder=torch.nn.Identity()))


def gemma4() -> Any:
    tokenizer = tiny_tokenizer()
    config = transformers.Gemma4TextConfig(
        vocab_size=VOCABULARY,
        vocab_size_per_layer_input=VOCABULARY,
        hidden_size=WIDTH,
        hidden_size_per_layer_input=8,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        global_head_dim=16,
        max_position_embeddings=512,
        sliding_window=16,
        layer_types=["sliding_attention", "full_attention"] * 2,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    return transformers.Gemma4ForCausalLM(config).eval()


def test_layers_whose_heads_differ_are_counted_by_the_largest(tmp_path: Path) -> None:
    lm = describe(gemma4(), tiny_tokenizer())
    shape = Shape.of(lm)
    assert (shape.heads, shape.kv_heads, shape.head_dim) == (4, 2, 16)
    gemma4().save_pretrained(tmp_path / "m")
    tiny_tokenizer().save_pretrained(tmp_path / "m")
    assert len(load(tmp_path / "m").layers) == 4


@pytest.mark.parametrize(
    ("model_type", "adapted", "left"),
    [
        ("phimoe", {"q_proj", "k_proj", "v_proj", "o_proj"}, {"router"}),
        ("hunyuan_v1_moe", {"q_proj", "gate_proj", "down_proj"}, {"wg"}),
        ("afmoe", {"q_proj", "gate_proj", "up_proj"}, {"gate"}),
        ("qwen2_moe", {"o_proj", "gate_proj", "down_proj"}, {"shared_expert_gate"}),
        ("jetmoe", {"kv_proj"}, {"layer"}),
        ("gemma3n_text", {"q_proj", "down_proj"}, {"linear_left", "per_layer_input_gate"}),
        ("opt", {"fc1", "fc2", "out_proj"}, set()),
        ("whisper", {"fc1", "q_proj"}, {"encoder_attn"}),
    ],
)
def test_only_matrices_of_attention_mlp_and_experts_are_adapted(
    model_type: str, adapted: set[str], left: set[str]
) -> None:
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(small_config(model_type))
    layers = find_layers(find_decoder(model, "m"), "m")
    linear = {n for layer in layers for n, m in layer.named_modules() if isinstance(m, nn.Linear)}
    chosen = {name for layer in layers for name, _ in weight_matrices(layer)}
    rest = {part for name in linear - chosen for part in name.split(".")}
    assert adapted <= {name.rpartition(".")[2] for name in chosen}
    assert left <= rest
    assert not left & {part for name in chosen for part in name.split(".")}

"""GGUF files for llama.cpp: a merged model, an adapter, a control vector."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from torch import Tensor

from steer_heal_love.export.gguf.layout import arrange, layout_of, namer, rope_type
from steer_heal_love.export.gguf.stops import stop_roles
from steer_heal_love.export.gguf.tokenizer import add_tokenizer
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.model.save import has_tied_head
from steer_heal_love.lm.patches.adapters import LowRank
from steer_heal_love.records import Direction

_FILE_TYPES = {
    torch.float32: (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
    torch.float16: (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    torch.bfloat16: (gguf.GGMLQuantizationType.BF16, gguf.LlamaFileType.MOSTLY_BF16),
}


@dataclass(frozen=True)
class About:
    """What a GGUF file says of itself."""

    name: str
    description: str
    licence: str | None = None
    base: str | None = None  # hub id of the base model


def write_model(lm: LanguageModel, path: Path, about: About, tokenizer_folder: Path) -> None:
    """Write a model in its present dtype; norms and biases stay float32, as llama.cpp wants them.

    Raises:
        ConfigError: the architecture or the tokenizer is not written here.
    """
    config = lm.model.config
    layout = layout_of(config)
    quantization, file_type = _FILE_TYPES[lm.dtype]
    with _writer(path, gguf.MODEL_ARCH_NAMES[layout.arch]) as writer:
        writer.add_type(gguf.GGUFType.MODEL)
        _describe(writer, about)
        writer.add_file_type(file_type)
        _add_shape(writer, config)
        roles = stop_roles(lm.tokenizer, lm.stop_ids).roles
        add_tokenizer(writer, lm.tokenizer, tokenizer_folder, config.vocab_size, roles)
        name_of = namer(layout, config.num_hidden_layers)
        for name, tensor in _tensors(lm):
            arranged = arrange(tensor, name, layout, config)
            of_tensor = quantization if arranged.ndim > 1 else gguf.GGMLQuantizationType.F32
            _add(writer, name_of(name), arranged, of_tensor)
        if rope_type(config) == "llama3":
            factors = _rope_factors(lm, config)
            _add(writer, "rope_freqs.weight", factors, gguf.GGMLQuantizationType.F32)


def write_lora(terms: Mapping[str, LowRank], config: Any, path: Path, about: About) -> None:
    """Write an adapter as float32 factors with scale 1, for llama.cpp's --lora.

    Raises:
        ConfigError: the architecture is not written here.
    """
    layout = layout_of(config)
    with _writer(path, gguf.MODEL_ARCH_NAMES[layout.arch]) as writer:
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(_highest_rank(terms)))
        _describe(writer, about)
        for name, tensor in lora_tensors(terms, config):
            _add(writer, name, tensor, gguf.GGMLQuantizationType.F32)


def lora_tensors(terms: Mapping[str, LowRank], config: Any) -> Iterator[tuple[str, Tensor]]:
    """The factors of an adapter in llama.cpp's order and by its names. Raises as `write_lora`."""
    layout = layout_of(config)
    name_of = namer(layout, config.num_hidden_layers)
    rank = _highest_rank(terms)
    for module, term in terms.items():
        name = name_of(f"{module}.weight")
        # llama.cpp scales by alpha over each factor's own rank: B makes up for a lower one
        b = arrange(term.B * (term.A.shape[0] / rank), module, layout, config)
        yield f"{name}.lora_a", term.A
        yield f"{name}.lora_b", b


def _highest_rank(terms: Mapping[str, LowRank]) -> int:
    return max(term.A.shape[0] for term in terms.values())


def write_control_vector(direction: Direction, model_type: str, path: Path, about: About) -> None:
    """Write a direction as llama.cpp's and repeng's control vector: `direction.<layer>`, float32.

    Both add it to what the decoder layer of that index, counted from 0, puts out. llama.cpp has
    no control vector on layer 0.
    """
    with _writer(path, "controlvector") as writer:
        _describe(writer, about)
        writer.add_string("controlvector.model_hint", model_type)
        writer.add_uint32("controlvector.layer_count", len(direction.layers))
        for name, vector in direction_tensors(direction):
            _add(writer, name, vector, gguf.GGMLQuantizationType.F32)


def direction_tensors(direction: Direction) -> Iterator[tuple[str, Tensor]]:
    """The vectors of a direction by llama.cpp's names."""
    for layer, vector in zip(direction.layers, direction.vectors, strict=True):
        yield f"direction.{layer}", vector


@contextmanager
def _writer(path: Path, arch: str) -> Iterator[Any]:
    """A GGUF writer that writes what was added when the body ends."""
    logger, level = logging.getLogger("gguf"), logging.getLogger("gguf").level
    logger.setLevel(logging.ERROR)
    writer = gguf.GGUFWriter(path, arch)
    try:
        yield writer
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()
        logger.setLevel(level)


def _describe(writer: Any, about: About) -> None:
    writer.add_name(about.name)
    writer.add_description(about.description)
    if about.licence is not None:
        writer.add_license(about.licence)
    if about.base is not None:
        organization, _, name = about.base.partition("/")
        writer.add_base_model_count(1)
        writer.add_base_model_name(0, name)
        writer.add_base_model_organization(0, organization)
        writer.add_base_model_repo_url(0, f"https://huggingface.co/{about.base}")


def _add_shape(writer: Any, config: Any) -> None:
    """The hyperparameters, under llama.cpp's keys."""
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _tensors(lm: LanguageModel) -> Iterator[tuple[str, Tensor]]:
    """All but a head that is the embedding's own tensor: llama.cpp takes that one for it."""
    tied = has_tied_head(lm.model)
    for name, tensor in lm.model.state_dict().items():
        if not (tied and name == "lm_head.weight"):
            yield name, tensor


def _add(writer: Any, name: str, tensor: Tensor, quantization: gguf.GGMLQuantizationType) -> None:
    data: np.ndarray[Any, Any] = tensor.detach().float().cpu().contiguous().numpy()
    writer.add_tensor(name, gguf.quants.quantize(data, quantization), raw_dtype=quantization)


def _rope_factors(lm: LanguageModel, config: Any) -> Tensor:
    """By what llama.cpp divides each rotary frequency: plain over scaled."""
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    exponents = torch.arange(0, head, 2, dtype=torch.float64) / head
    plain = float(config.rope_parameters["rope_theta"]) ** -exponents
    scaled: Tensor = lm.decoder.get_buffer("rotary_emb.inv_freq")
    factors: Tensor = plain / scaled.double().cpu()
    return factors.float()

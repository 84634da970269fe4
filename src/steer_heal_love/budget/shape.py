"""Sizes of a model that memory and time follow from: read off its configuration, or by name."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from steer_heal_love.errors import ConfigError
from steer_heal_love.inputs.bundled import read_bundled
from steer_heal_love.inputs.toml_text import parse_toml
from steer_heal_love.lm.model.four_bits import NF4_BITS
from steer_heal_love.lm.model.load import LanguageModel, Quantize
from steer_heal_love.lm.reading.cache import CHUNK
from steer_heal_love.stages.heal import HealConfig, target_modules

FLOAT = 4  # bytes of a number of logits and norms, whatever the model's dtype


@dataclass(frozen=True)
class Shape:
    """Sizes of a model; weights are counted in numbers, not bytes."""

    name: str
    dtype: torch.dtype
    layers: int
    width: int  # d, of the hidden states
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool  # whether the head is the embedding
    parameters: int
    linear: int  # weights of all linear modules but the head: what 4 bits apply to
    largest_linear: int
    widest: int  # numbers of a position that one linear module of the decoder gives
    layer_linear: tuple[int, ...]  # of the decoder's, layer by layer
    head: int
    head_bias: bool

    @property
    def number_bytes(self) -> int:
        """Bytes of a number in the model's dtype."""
        return self.dtype.itemsize

    @classmethod
    def of(cls, lm: LanguageModel) -> Shape:
        """Read the sizes off a model, with weights or without."""
        config = lm.model.config.get_text_config()
        heads = _largest(config, "num_attention_heads") or 1
        width = int(lm.head.weight.shape[1])
        head = lm.model.get_output_embeddings()
        linear = [m.weight.numel() for m in _linears(lm.model) if m is not head]
        embedding = lm.model.get_input_embeddings()
        return cls(
            name=lm.identity.name,
            dtype=lm.dtype,
            layers=len(lm.layers),
            width=width,
            heads=heads,
            kv_heads=_largest(config, "num_key_value_heads") or heads,
            head_dim=_largest(config, "head_dim") or width // heads,
            vocabulary=int(lm.head.weight.shape[0]),
            tied=embedding.weight is lm.head.weight,
            parameters=lm.identity.parameters,
            linear=sum(linear),
            largest_linear=max(linear, default=0),
            widest=max((m.out_features for m in _linears(lm.layers)), default=width),
            layer_linear=tuple(sum(m.weight.numel() for m in _linears(x)) for x in lm.layers),
            head=lm.head.weight.numel(),
            head_bias=lm.head.bias is not None,
        )

    def weight_bytes(self, quantize: Quantize) -> int:
        """The weights in memory; with `4bit` the linear modules but the head are in NF4."""
        if quantize == "none":
            return self.parameters * self.number_bytes
        rest = (self.parameters - self.linear) * self.number_bytes
        return rest + math.ceil(self.linear * NF4_BITS / 8)

    def packed_bytes(self) -> int:
        """The copies that `lm/patches/packed.py` keeps on a CPU with bfloat16 units."""
        head = 0 if self.head_bias else self.head
        return (sum(self.layer_linear) + head) * self.number_bytes

    def cache_bytes(self, rows: int, columns: int) -> int:
        """Keys and values of so many rows and columns in all layers."""
        per_column = 2 * self.kv_heads * self.head_dim * self.number_bytes
        return self.layers * per_column * rows * columns

    def row_bytes(self, prompt: int, new_tokens: int, top_k: int) -> int:
        """What a row takes at most while it is sampled, an upper bound.

        Its cache with the room that it grows into; one layer of it twice, while that grows; and
        what is larger of the pass over its prompt and the logits of a step.
        """
        cache = self.cache_bytes(1, prompt + new_tokens + CHUNK)
        both = FLOAT + self.number_bytes
        reading = prompt * (4 * both * self.width + 4 * self.number_bytes * self.widest)
        reading += prompt * (prompt + 1) * (1 + self.number_bytes)  # the mask, also as it is added
        logits = (2 * FLOAT + self.number_bytes) * self.vocabulary
        candidates = 10 * FLOAT * min(top_k, self.vocabulary)
        return cache + math.ceil(cache / self.layers) + max(reading, logits + candidates)


def _largest(config: Any, name: str) -> int | None:
    """A setting of the layers; the largest where they differ in it, None where there is none.

    transformers refuses to give one number for layers that differ.
    """
    per_layer = getattr(config, "per_layer_attributes", None) or ()
    configs = config.per_layer_config if name in per_layer else [config]
    return max((int(getattr(c, name, None) or 0) for c in configs), default=0) or None


def _linears(module: nn.Module) -> list[nn.Linear]:
    return [m for m in module.modules() if isinstance(m, nn.Linear)]


def adapter_numbers(lm: LanguageModel, config: HealConfig) -> int:
    """Numbers of one round's LoRA: rank · (inputs + outputs) of each adapted module.

    Raises:
        ModelError: no module of the model matches the targets.
    """
    adapted = [lm.model.get_submodule(name) for name in target_modules(lm, config)]
    numbers: int = config.rank * sum(m.in_features + m.out_features for m in adapted)
    return numbers


@dataclass(frozen=True)
class NamedSize:
    """A published model of this size."""

    name: str
    model: str  # its hub id
    parameters: int  # as published
    config: dict[str, Any]  # the part of its config.json that sizes follow from
    source: str


def named_sizes() -> dict[str, NamedSize]:
    """The sizes that are known, from small to large."""
    sizes = parse_toml(read_bundled("planning", "sizes"))
    return {name: NamedSize(name=name, **about) for name, about in sizes.items()}


def find_size(name: str) -> NamedSize:
    """The size of this name, in letters of either case.

    Raises:
        ConfigError: there is none.
    """
    known = named_sizes()
    by_plain = {key.lower(): size for key, size in known.items()}
    if name.lower() not in by_plain:
        raise ConfigError(f"--size {name!r}: there are {', '.join(known)}")
    return by_plain[name.lower()]

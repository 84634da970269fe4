"""How llama.cpp lays out the architectures that are written to GGUF here, and names them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import gguf
import torch
from torch import Tensor

from steer_heal_love.errors import ConfigError

SCRIPTS_REMEDY = (
    "llama.cpp's own converter knows more: get its source "
    "(git clone https://github.com/ggml-org/llama.cpp), "
    "pip install 'steer-heal-love[gguf]', and pass --llama-cpp PATH"
)


@dataclass(frozen=True)
class Layout:
    """An architecture in GGUF: its name there, and whether q and k rows are interleaved."""

    arch: gguf.MODEL_ARCH
    interleaved: bool  # llama.cpp rotates neighbours (2i, 2i+1) where transformers rotates halves


LAYOUTS = {
    "llama": Layout(gguf.MODEL_ARCH.LLAMA, True),
    "mistral": Layout(gguf.MODEL_ARCH.LLAMA, True),
    "qwen2": Layout(gguf.MODEL_ARCH.QWEN2, False),
    "qwen3": Layout(gguf.MODEL_ARCH.QWEN3, False),
}


def layout_of(config: Any) -> Layout:
    """The layout of a transformers configuration.

    Raises:
        ConfigError: the architecture, or a feature of it, is not written here; the message names
            what is, and the way past it.
    """
    layout = LAYOUTS.get(config.model_type)
    if layout is None:
        known = ", ".join(LAYOUTS)
        raise ConfigError(
            f"architecture {config.model_type!r} is not written to GGUF here ({known} are): "
            f"{SCRIPTS_REMEDY}"
        )
    rope = rope_type(config)
    if rope not in ("default", "llama3"):
        raise ConfigError(f"rotary scaling {rope!r} is not written to GGUF here: {SCRIPTS_REMEDY}")
    window = getattr(config, "sliding_window", None)
    slides = getattr(config, "use_sliding_window", True)
    if window is not None and slides and window < config.max_position_embeddings:
        raise ConfigError(
            f"a sliding window of {window} tokens is not written to GGUF here: {SCRIPTS_REMEDY}"
        )
    return layout


def rope_type(config: Any) -> str:
    """The kind of rotary scaling of a configuration."""
    return str((getattr(config, "rope_parameters", None) or {}).get("rope_type", "default"))


def namer(layout: Layout, n_layers: int) -> Callable[[str], str]:
    """A function from a transformers tensor name to the GGUF one."""
    names = gguf.get_tensor_name_map(layout.arch, n_layers)
    return partial(_gguf_name, names)


def _gguf_name(names: Any, name: str) -> str:
    gguf_name = names.get_name(name, try_suffixes=(".weight", ".bias"))
    if gguf_name is None:
        raise ConfigError(f"tensor {name!r} has no name in GGUF: {SCRIPTS_REMEDY}")
    return str(gguf_name)


def arrange(tensor: Tensor, name: str, layout: Layout, config: Any) -> Tensor:
    """The tensor in llama.cpp's order: rows of q and k go from halves to neighbours, per head.

    Works on a weight [out, in], on its bias [out], and on a LoRA factor B [out, rank].
    """
    if not layout.interleaved:
        return tensor
    module = name.rpartition(".")[0] if name.endswith((".weight", ".bias")) else name
    if module.endswith("q_proj"):
        return _interleave(tensor, config.num_attention_heads)
    if module.endswith("k_proj"):
        return _interleave(tensor, config.num_key_value_heads)
    return tensor


def _interleave(tensor: Tensor, heads: int) -> Tensor:
    """Rows (head, half, i) → (head, i, half)."""
    half = tensor.shape[0] // heads // 2
    rows = torch.arange(tensor.shape[0]).view(heads, 2, half).transpose(1, 2).reshape(-1)
    return tensor[rows.to(tensor.device)]

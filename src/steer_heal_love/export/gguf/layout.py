"""How llama.cpp lays out the architectures that are written to GGUF here, and names them."""

from __future__ import annotations

import re
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


# Tensors that llama.cpp's graphs of all these architectures have, and those of a layer, by the
# names of transformers. One that is not among them has no place: llama.cpp refuses the file, or
# leaves the tensor out.
_WHOLE = r"(model\.embed_tokens|model\.norm|lm_head)\.weight"
_OF_LAYER = (
    r"(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj|(input|post_attention)_layernorm)\.weight"
)
ACTIVATIONS = ("silu", "swish")  # two names of the one that these graphs compute


@dataclass(frozen=True)
class Layout:
    """An architecture in GGUF: its name there, and whether q and k rows are interleaved."""

    arch: gguf.MODEL_ARCH
    interleaved: bool  # llama.cpp rotates neighbours (2i, 2i+1) where transformers rotates halves
    more: str = ""  # pattern of further tensors that its graph has in a layer

    def holds(self, name: str) -> bool:
        """Whether llama.cpp has a place for a tensor of this name."""
        of_layer = f"{_OF_LAYER}|{self.more}" if self.more else _OF_LAYER
        return bool(re.fullmatch(rf"{_WHOLE}|model\.layers\.\d+\.({of_layer})", name))


LAYOUTS = {
    "llama": Layout(
        gguf.MODEL_ARCH.LLAMA, True, r"(self_attn\.[qkvo]|mlp\.(gate|up|down))_proj\.bias"
    ),
    "mistral": Layout(gguf.MODEL_ARCH.LLAMA, True),
    "qwen2": Layout(gguf.MODEL_ARCH.QWEN2, False, r"self_attn\.[qkv]_proj\.bias"),
    "qwen3": Layout(gguf.MODEL_ARCH.QWEN3, False, r"self_attn\.[qk]_norm\.weight"),
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
    if config.hidden_act not in ACTIVATIONS:
        raise ConfigError(
            f"activation {config.hidden_act!r} is not written to GGUF here (silu is): "
            f"{SCRIPTS_REMEDY}"
        )
    share = (getattr(config, "rope_parameters", None) or {}).get("partial_rotary_factor", 1.0)
    if share != 1.0:
        raise ConfigError(
            f"rotation of a part ({share:g}) of each head is not written to GGUF here: "
            f"{SCRIPTS_REMEDY}"
        )
    return layout


def refuse_other_tensors(model: Any, layout: Layout) -> None:
    """Raises ConfigError where a model has tensors that llama.cpp's graph lacks: biases, norms.

    Args:
        model: of transformers; its weights may be on the meta device.
    """
    for name, tensor in model.state_dict().items():
        if not layout.holds(name):
            raise ConfigError(f"tensor {name!r} has no place in GGUF here: {SCRIPTS_REMEDY}")
        width = model.config.hidden_size
        if layout.interleaved and name.endswith("q_proj.bias") and len(tensor) != width:
            raise ConfigError(
                f"tensor {name!r} has {len(tensor)} numbers, and llama.cpp's graph takes {width}: "
                f"{SCRIPTS_REMEDY}"
            )


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

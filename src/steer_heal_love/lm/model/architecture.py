"""What a model must be made of for this package to compute with it; told before it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import transformers
from torch import nn
from transformers.pytorch_utils import Conv1D

from steer_heal_love.errors import ModelError

# Kinds of layers whose past is keys and values, one of each for every token.
_ATTENTION = {"full_attention", "sliding_attention", "chunked_attention"}
_INSTEAD = "use a decoder whose layers are all attention, such as Llama, Qwen 3 or Gemma 3"


# Parts of a layer, by the names of modules and their classes: what is adapted is inside of one of
# the first, and of none of the second. Those choose experts, scale, look keys up, or read
# what is not there.
_PARTS = re.compile(r"attn|attention|mlp|ffn|feed_?forward|expert|moe|(^|\.)fc\d?$", re.IGNORECASE)
_OTHER_CLASSES = re.compile(r"router|indexer", re.IGNORECASE)
_OTHER_NAMES = re.compile(
    r"router|gate$|classifier|^wg$|index|altup|laurel|per_layer|norm|encoder_attn|cross_?att|^dt_proj",
    re.IGNORECASE,
)


def weight_matrices(layer: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """The linear modules of a decoder layer that are matrices of attention, MLP or experts.

    Yields:
        (name inside the layer, module).
    """
    modules = dict(layer.named_modules())
    for name, module in modules.items():
        if not isinstance(module, nn.Linear):
            continue
        parts = name.split(".")
        above = [modules[".".join(parts[:i])] for i in range(1, len(parts))]
        classes = " ".join(type(m).__name__ for m in above)
        inside = _PARTS.search(name) or _PARTS.search(classes)
        other = _OTHER_CLASSES.search(classes) or any(map(_OTHER_NAMES.search, parts))
        if inside and not other:
            yield name, module


def refuse_config(config: Any, name: str) -> None:
    """Raises ModelError where a configuration is of a model that cannot be sampled or healed here.

    Args:
        config: of transformers.
        name: what the user calls the model.
    """
    text = config.get_text_config()
    what = f"model {name!r} ({config.model_type})"
    if config.is_encoder_decoder or text.is_encoder_decoder:
        raise ModelError(f"{what} is an encoder with a decoder: {_INSTEAD}")
    other = sorted(set(getattr(text, "layer_types", None) or ()) - _ATTENTION)
    if other:
        raise ModelError(
            f"{what} has layers of the kind {', '.join(other)}, whose past is not keys and values "
            f"alone and cannot be cut or joined: {_INSTEAD}"
        )
    known = type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    own_code = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if not known and not own_code:
        raise ModelError(
            f"{what} is none that transformers loads as a language model alone (it may see or hear "
            "as well): use the text model of its family, or another such as Llama, Qwen 3 or "
            "Gemma 3"
        )


def refuse_modules(model: Any, layers: Iterable[nn.Module], name: str) -> None:
    """Raises ModelError where a model keeps another past than keys and values, or has Conv1D."""
    what = f"model {name!r} ({type(model).__name__})"
    inside = [m for layer in layers for m in layer.modules()]
    if getattr(model, "_is_stateful", False) or any(isinstance(m, nn.Conv1d) for m in inside):
        raise ModelError(
            f"{what} has a state beside keys and values, which cannot be cut or joined: {_INSTEAD}"
        )
    if any(isinstance(m, Conv1D) for m in inside):
        raise ModelError(
            f"{what} has its weights in Conv1D, transposed, which no adapter here fits: {_INSTEAD}"
        )

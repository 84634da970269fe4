"""A GGUF file as a model in memory: dequantised by transformers, and what it leaves out put in."""

from __future__ import annotations

import contextlib
import io
import math
import tempfile
from pathlib import Path
from typing import Any

import gguf
import torch
import transformers
from torch import Tensor

from steer_heal_love.errors import ModelError
from steer_heal_love.lm.model.quiet import first_line, quiet_transformers

_ENDS = (gguf.Keys.Tokenizer.EOS_ID, gguf.Keys.Tokenizer.EOT_ID, gguf.Keys.Tokenizer.EOM_ID)
# What readers raise on a file of a stranger, who may have written any number anywhere.
_BROKEN = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
# Biases that a file has and transformers' configuration of it does not say.
_BIASES = {"attention_bias": "blk.0.attn_q.bias", "mlp_bias": "blk.0.ffn_up.bias"}
_ROTARY = "rope_freqs.weight"  # by what each rotary frequency is divided
# The scaling of Llama 3.1 and later but for its factor, of which a file holds the outcome alone.
_LLAMA3 = {
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def read_gguf(path: Path, dtype: torch.dtype | None = None) -> tuple[Any, Any]:
    """Model and tokenizer of a GGUF file, every weight from it.

    Beyond what transformers reads: heads of any width, biases, Llama 3's rotary scaling, and the
    ends of a turn and of a message, at which llama.cpp stops too.

    Args:
        dtype: of the weights; None: the one that keeps the file's matrices, bfloat16 where they
            are quantised.

    Raises:
        ModelError: the file is broken, holds no model, or transformers does not know its kind.
    """
    reader = open_gguf(path)
    # One of transformers' bars of progress is no part of what is quiet.
    quiet = contextlib.redirect_stderr(io.StringIO())
    with tempfile.TemporaryDirectory() as alone, quiet_transformers(), quiet:
        # Away from what else lies in its folder: transformers would take a tokenizer_config.json
        # there for the file's own.
        (Path(alone) / "model.gguf").symlink_to(path.resolve())
        source = {"gguf_file": "model.gguf"}
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(alone, **source)
            config = transformers.AutoConfig.from_pretrained(alone, **source)
            _refuse_other_depth(config, reader)
            _complete(config, reader)
            model, told = transformers.AutoModelForCausalLM.from_pretrained(
                alone,
                **source,
                config=config,
                quantization_config=transformers.GgufConfig(dequantize=True),
                dtype=dtype or _own_dtype(reader),
                output_loading_info=True,
            )
        except (*_BROKEN, ImportError, RuntimeError) as error:
            raise ModelError(f"GGUF file {path} cannot be read: {first_line(error)}") from error
    if told["missing_keys"]:
        raise ModelError(
            f"GGUF file {path} cannot be read: {len(told['missing_keys'])} weight(s) are not in it "
            f"(first: {min(told['missing_keys'])})"
        )
    if getattr(model.config, "quantization_config", None) is not None:
        del model.config.quantization_config
    ends = [end for key in _ENDS if (end := _value(reader, key)) is not None]
    if ends and model.generation_config is not None:
        ends = list(dict.fromkeys(map(int, ends)))
        model.generation_config.eos_token_id = ends[0] if len(ends) == 1 else ends
    return model, tokenizer


def open_gguf(path: Path) -> Any:
    """A reader of a GGUF file's metadata and tensors.

    Raises:
        ModelError: the file is broken, or holds an adapter or a control vector.
    """
    try:
        reader = gguf.GGUFReader(path)
        says = {_value(reader, k) for k in (gguf.Keys.General.TYPE, gguf.Keys.General.ARCHITECTURE)}
    except _BROKEN as error:
        raise ModelError(f"GGUF file {path} cannot be read: {first_line(error)}") from error
    if {"adapter", "controlvector"} & {str(value) for value in says}:
        raise ModelError(
            f"GGUF file {path} holds an adapter or a control vector, not a model: give the model "
            "that it is for"
        )
    return reader


def _value(reader: Any, key: str) -> Any:
    field = reader.get_field(key)
    return None if field is None else field.contents()


def _own_dtype(reader: Any) -> torch.dtype:
    kinds = {t.tensor_type for t in reader.tensors if len(t.shape) > 1}
    if kinds == {gguf.GGMLQuantizationType.F32}:
        return torch.float32
    return torch.float16 if kinds == {gguf.GGMLQuantizationType.F16} else torch.bfloat16


def _refuse_other_depth(config: Any, reader: Any) -> None:
    """Raises ValueError where the file says that it has other layers than it has."""
    blocks = {t.name.split(".")[1] for t in reader.tensors if t.name.startswith("blk.")}
    if config.get_text_config().num_hidden_layers > len(blocks):
        raise ValueError(f"it has {len(blocks)} layers, and its metadata say another number")


def _complete(config: Any, reader: Any) -> None:
    """Enter into transformers' configuration of a file what the file says besides."""
    names = {tensor.name for tensor in reader.tensors}
    architecture = _value(reader, gguf.Keys.General.ARCHITECTURE)
    width = _value(reader, f"{architecture}.attention.key_length")
    if width is not None and hasattr(config, "head_dim"):
        config.head_dim = int(width)
    for setting, tensor in _BIASES.items():
        if hasattr(config, setting):
            setattr(config, setting, tensor in names)
    if architecture == "llama" and _ROTARY in names:  # others scale in other ways
        _complete_rotary(config, reader)


def _complete_rotary(config: Any, reader: Any) -> None:
    (tensor,) = (t for t in reader.tensors if t.name == _ROTARY)
    stored = torch.tensor(gguf.quants.dequantize(tensor.data, tensor.tensor_type)).reshape(-1)
    theta = float((getattr(config, "rope_parameters", None) or {}).get("rope_theta", 10_000.0))
    scaling = {**_LLAMA3, "factor": float(stored.max())}
    if not torch.allclose(_factors(len(stored), theta, **scaling), stored.double(), rtol=1e-3):
        raise ValueError("its rotary scaling is not Llama 3's, which alone is read")
    config.rope_parameters = {"rope_type": "llama3", "rope_theta": theta, **scaling}


def _factors(
    count: int,
    theta: float,
    factor: float,
    low_freq_factor: float,
    high_freq_factor: float,
    original_max_position_embeddings: float,
) -> Tensor:
    """By what Llama 3 divides each of `count` frequencies: 1 for short waves, `factor` for long."""
    waves = 2 * math.pi * theta ** (torch.arange(count, dtype=torch.float64) / count)
    share = original_max_position_embeddings / waves
    smooth = ((share - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0, 1)
    factors: Tensor = 1 / ((1 - smooth) / factor + smooth)
    return factors

"""Linear layers in 4 bits, by bitsandbytes."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
import transformers

from steer_heal_love.errors import ModelError

# NF4 in blocks of 64 weights, each with a scale of 8 bits, and for 256 such scales one of 32 bits:
# bits a weight. Dettmers et al. 2023, arXiv:2305.14314, section 3 (double quantisation).
NF4_BITS = 4 + 8 / 64 + 32 / (64 * 256)


def in_four_bits(where: torch.device, compute: torch.dtype) -> dict[str, Any]:
    """Options of `from_pretrained` for linear layers in 4 bits: NF4, its scales quantised too.

    Embeddings and the output head keep their precision.

    Raises:
        ModelError: the device is no CUDA device, or bitsandbytes is not installed.
    """
    if where.type != "cuda":
        raise ModelError(
            f"weights in 4 bits need a CUDA device, and this is {where.type}: leave --quantize "
            "out, or choose a smaller model"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError("weights in 4 bits need bitsandbytes: `pip install bitsandbytes`")
    config = transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )
    return {"quantization_config": config, "device_map": {"": where}}

"""A model that was read from a quantised checkpoint, as plain numbers again."""

from __future__ import annotations

from typing import Any

import torch

from steer_heal_love.errors import ModelError

PLAIN = (torch.float32, torch.bfloat16, torch.float16)


def make_plain(model: Any, config: Any, name: str) -> None:
    """See to it that what is saved of a model are the numbers that it computes with.

    transformers reads some quantised checkpoints (fine-grained FP8, MXFP4) as plain numbers where
    the hardware has no use for them. It would quantise them again as they are saved, without the
    configuration that tells a reader so; that way back is taken away here.

    Args:
        config: the configuration of the model's files, which `load_config` gives.
        name: what the user calls the model.

    Raises:
        ModelError: the weights in memory are quantised; the message says how to get plain ones.
    """
    scheme = getattr(config, "quantization_config", None)
    packed = sorted({_short(p.dtype) for p in model.parameters() if p.dtype not in PLAIN})
    still = getattr(model, "hf_quantizer", None) is not None
    if packed or still or getattr(model.config, "quantization_config", None) is not None:
        raise ModelError(
            f"the weights of {name} are quantised ({_scheme(scheme) or ', '.join(packed)}), and "
            "nothing can be added to them: give the same model in bfloat16 or float32 with --model "
            "(where transformers reads them as plain numbers on a CPU, as it does FP8, hiding the "
            "GPU does it too: CUDA_VISIBLE_DEVICES= shl export …)"
        )
    if scheme is not None:
        model._weight_conversions = None  # saved under the architecture's own names, unquantised


def _scheme(scheme: Any) -> str:
    """The name of a quantisation in a configuration; "" where it has none."""
    values = scheme if isinstance(scheme, dict) else getattr(scheme, "__dict__", {})
    return str(values.get("quant_method") or "").rpartition(".")[2].lower()


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

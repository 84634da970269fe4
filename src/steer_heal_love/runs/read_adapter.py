"""A PEFT LoRA adapter as it is read: what is more than plain LoRA is named for what it is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from steer_heal_love.errors import RunError
from steer_heal_love.records import Adapter
from steer_heal_love.runs.files import read_regular
from steer_heal_love.runs.read_files import read_json

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_PREFIX = "base_model.model."
_FACTORS = (".lora_A.weight", ".lora_B.weight")
_MAX_WORDS = 60  # of a value of the configuration, in characters

# Fields of peft.LoraConfig that make an adapter compute something else than W + (alpha / r) B A,
# and what that is called. What only tells how it was begun or trained is not here.
_FIELDS = {
    "use_dora": "DoRA",
    "modules_to_save": "modules_to_save",
    "trainable_token_indices": "trained tokens",
    "rank_pattern": "rank_pattern",
    "alpha_pattern": "alpha_pattern",
    "lora_bias": "biases of the factors",
    "layer_replication": "layer_replication",
    "target_parameters": "target_parameters",
    "alora_invocation_tokens": "alora_invocation_tokens",
    "arrow_config": "arrow_config",
    "kasa_config": "kasa_config",
}
# What lies beside the factors in the file, by a part of its name.
_TENSORS = {
    "lora_magnitude_vector": "DoRA",
    "lora_embedding_": "LoRA of the embeddings",
    "trainable_tokens_": "trained tokens",
    "lora_A.bias": "biases of the factors",
    "lora_B.bias": "biases of the factors",
}
# Ways to begin that write to the base's own weights, which are then not the base model's.
_INITS = ("pissa", "corda", "olora", "loftq", "lora_ga")


def read_adapter(folder: Path) -> Adapter:
    """A PEFT LoRA adapter from its folder; safetensors only.

    Raises:
        RunError: files are missing or broken, or it is more than plain LoRA.
    """
    weights = folder / WEIGHTS
    config = read_json(folder / CONFIG)
    if not weights.is_file() or not config:
        raise RunError(
            f"{folder} is not an adapter folder: it needs {WEIGHTS} and {CONFIG} (pickled adapters "
            "are refused)"
        )
    try:
        tensors = safetensors.torch.load(read_regular(weights))
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise RunError(f"adapter {weights} is broken: {error}") from None
    more = [*_beyond_by_config(config), *_beyond_by_tensors(tensors, config)]
    if more:
        raise RunError(
            f"adapter {folder} has more than plain LoRA ({', '.join(dict.fromkeys(more))}): merge "
            "it into its base first (PEFT's merge_and_unload), and give the merged model"
        )
    problem = _problem(tensors, config)
    if problem:
        raise RunError(f"adapter {folder} is broken: {problem}")
    return Adapter(tensors, config)


def _beyond_by_config(config: Mapping[str, Any]) -> Iterable[str]:
    """What the configuration asks for besides W + (alpha / r) B A, in words."""
    kind = config.get("peft_type")
    if isinstance(kind, str) and kind.upper() != "LORA":
        yield f"it is PEFT's {_short(kind)}"
    if config.get("bias") not in (None, "none"):
        yield f"biases: {_short(config['bias'])}"
    for field, words in _FIELDS.items():
        value = config.get(field)
        if value:
            yield words if value is True or words != field else f"{words}: {_short(value)}"
    for field in sorted(config):  # variants that a later PEFT may know
        if field.startswith("use_") and field not in ("use_rslora", "use_dora") and config[field]:
            yield _short(field)
    begun = config.get("init_lora_weights")
    if isinstance(begun, str) and begun.lower().startswith(_INITS):
        yield f"init_lora_weights: {_short(begun)}, which changes the base's own weights"


def _beyond_by_tensors(names: Iterable[str], config: Mapping[str, Any]) -> Iterable[str]:
    """What the file holds besides factors of a LoRA, in words."""
    saved = config.get("modules_to_save")
    whole: list[str] = []
    for name in names:
        words = next((w for part, w in _TENSORS.items() if part in name), None)
        if words is not None:
            yield words
        elif name.startswith(_PREFIX) and not name.endswith(_FACTORS):
            module, _, weight = name.removeprefix(_PREFIX).rpartition(".")
            module = module.removesuffix(".base_layer")  # of an embedding that has a LoRA too
            last = module.rpartition(".")[2]
            if weight == "bias":
                yield f"biases: {_short(config.get('bias') or last)}"
            elif weight == "weight" and not (isinstance(saved, list) and last in saved):
                whole.append(last)
    if whole:
        yield f"whole weights: {_short(list(dict.fromkeys(whole)))}"


def _short(value: Any) -> str:
    """A value of the configuration as a few words: the items of a list, the keys of a mapping."""
    items = list(value) if isinstance(value, (list, dict)) else [value]
    text = ", ".join(str(item)[:_MAX_WORDS] for item in items[:10])
    return text if len(text) <= _MAX_WORDS else f"{text[:_MAX_WORDS]}…"


def _problem(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> str | None:
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if type(rank) is not int or rank < 1:
        return f"its rank r is {str(rank)[:40]!r}"
    if type(alpha) not in (int, float) or not math.isfinite(alpha):  # type: ignore[arg-type]
        return f"its lora_alpha is {str(alpha)[:40]!r}"
    for name, tensor in tensors.items():
        axis = 0 if ".lora_A." in name else 1
        if tensor.ndim != 2 or tensor.shape[axis] != rank or not tensor.is_floating_point():
            return f"tensor {name!r} of shape {tuple(tensor.shape)} is no factor of rank {rank}"
        if not tensor.float().isfinite().all():  # float8 knows no isfinite of its own
            return f"tensor {name!r} holds NaN or infinity"
    return None

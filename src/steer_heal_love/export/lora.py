"""The whole history of a run as one plain LoRA adapter: exact, padded, or compressed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch

from steer_heal_love.errors import ConfigError, ModelError
from steer_heal_love.lm.patches.adapters import LowRank, stack
from steer_heal_love.maths.low_rank import pad_rank, truncate
from steer_heal_love.records import Adapter
from steer_heal_love.runs.codec import to_json
from steer_heal_love.runs.files import write_bytes, write_text

# What vLLM takes for --max-lora-rank (vllm.config.lora.MaxLoRARanks); a rank between is rounded up.
SERVED_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


@dataclass(frozen=True)
class WeightError:
    """What a compressed adapter leaves out, as ‖ΔW − ΔW′‖ / ‖ΔW‖ in the Frobenius norm."""

    whole: float  # over all modules together
    worst: float  # of the worst module
    module: str  # which one that is


def compress(terms: Mapping[str, LowRank], rank: int) -> tuple[dict[str, LowRank], WeightError]:
    """Every module's update at no more than this rank, nearest in the Frobenius norm.

    Raises:
        ConfigError: the rank is below 1.
    """
    if rank < 1:
        raise ConfigError(f"--rank must be at least 1, not {rank}")
    cut = {name: truncate(term.A, term.B, rank) for name, term in terms.items()}
    lost = {
        name: math.sqrt(t.lost_square / t.whole_square) if t.whole_square else 0.0
        for name, t in cut.items()
    }
    worst = max(lost, key=lambda name: lost[name])
    whole = sum(t.whole_square for t in cut.values())
    error = math.sqrt(sum(t.lost_square for t in cut.values()) / whole) if whole else 0.0
    smaller = {name: LowRank(t.A, t.B) for name, t in cut.items()}
    return smaller, WeightError(error, lost[worst], worst)


def history_terms(adapters: Sequence[Adapter]) -> dict[str, LowRank]:
    """The rounds' factors, stacked per module (`lm.adapters.stack`).

    Raises:
        ModelError: no adapter holds a factor, or one is not plain LoRA.
    """
    terms = stack(adapters)
    if not terms:
        raise ModelError("the run's adapters are empty: there is nothing to export")
    return terms


def rank_of(terms: Mapping[str, LowRank]) -> int:
    """The highest rank of the modules' updates."""
    return max(term.A.shape[0] for term in terms.values())


def served_rank(rank: int) -> int:
    """The least rank that vLLM serves and that is no lower.

    Raises:
        ConfigError: it serves none so high.
    """
    for served in SERVED_RANKS:
        if rank <= served:
            return served
    raise ConfigError(
        f"--pad-rank: the adapter's rank is {rank}, and vLLM serves {SERVED_RANKS[-1]} at most: "
        f"compress it with --rank {SERVED_RANKS[-1]} or less"
    )


def one_adapter(
    terms: Mapping[str, LowRank], like: Adapter, base: str, *, served: bool = False
) -> Adapter:
    """A plain LoRA adapter with scale 1 whose update of each module is `B A`.

    PEFT wants one rank for all modules, so that lower ones are padded with zeros; the scale
    `lora_alpha / r` is 1, since each round's own scale is in B.

    Args:
        like: an adapter whose PEFT configuration it takes over, but for rank, scale and modules.
        base: hub id or path of the base model.
        served: pad on to a rank that vLLM serves.
    """
    rank = served_rank(rank_of(terms)) if served else rank_of(terms)
    tensors = {}
    for name, term in terms.items():
        a, b = pad_rank(term.A, term.B, rank)
        tensors[f"base_model.model.{name}.lora_A.weight"] = a.contiguous()
        tensors[f"base_model.model.{name}.lora_B.weight"] = b.contiguous()
    changes = {
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": float(rank),
        "use_rslora": False,
        "lora_dropout": 0.0,
        "inference_mode": True,
        "target_modules": sorted(terms),
    }
    return Adapter(tensors, {**like.config, **changes})


def write_adapter(adapter: Adapter, folder: Path) -> None:
    """Write `adapter_model.safetensors` and `adapter_config.json`, PEFT's format."""
    weights = safetensors.torch.save(dict(adapter.tensors), {"format": "pt"})
    write_bytes(folder / "adapter_model.safetensors", weights)
    write_text(folder / "adapter_config.json", to_json(adapter.config))

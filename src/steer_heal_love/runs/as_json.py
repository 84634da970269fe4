"""Records of a run as the plain data that its JSON files hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING, asdict, fields
from typing import Any

import safetensors.torch

from steer_heal_love.records import (
    Baseline,
    Completion,
    Direction,
    Judged,
    Measurement,
    RoundRecord,
)

GIB = 2**30


def pack_direction(direction: Direction) -> bytes:
    """safetensors with one tensor `layer.<index>` [d] per layer of the band, float32."""
    tensors = {
        f"layer.{layer}": vector.contiguous().clone()
        for layer, vector in zip(direction.layers, direction.vectors, strict=True)
    }
    return bytes(safetensors.torch.save(tensors, {"format": "steer-heal-love direction"}))


def by_condition(record: Baseline) -> dict[str, Measurement]:
    """The baseline's measurements by condition."""
    return {"base": record.base, "prompt_pos": record.prompt_pos, "prompt_neg": record.prompt_neg}


def figures_of(m: Measurement) -> dict[str, Any]:
    """The figures, and beside them the ends of their 95 % intervals."""
    values = {name: interval.value for name, interval in m.figures.items()}
    return {**values, "intervals": {k: [i.low, i.high] for k, i in m.figures.items()}}


def items_of(m: Measurement) -> dict[str, list[float | None]]:
    """Values per item, by instrument."""
    return {name: list(values) for name, values in m.items.items()}


def answer_rows(measured: Iterable[Measurement]) -> list[dict[str, Any]]:
    """A row per answer, of one measurement after the other."""
    return [asdict(answer) for m in measured for answer in m.answers]


# Fields of a completion that say something only where its dose was not the same throughout.
_DOSING = {f.name: f.default for f in fields(Completion) if f.default is not MISSING}


def completion_row(judged: Judged) -> dict[str, Any]:
    """A completion with its scores and its fate."""
    row = asdict(judged)
    text = row["completion"]
    row["completion"] = {k: v for k, v in text.items() if k not in _DOSING or v != _DOSING[k]}
    return {**row, "kept": judged.kept}


def round_figures(record: RoundRecord) -> dict[str, Any]:
    """What a round came to; of the heal's curve the mean over its last quarter."""
    last = record.healed_result.steps[-max(1, len(record.healed_result.steps) // 4) :]
    n = len(last)
    return {
        "round": record.round,
        "dose": record.dose,
        "kept": record.kept,
        "total": record.total,
        "effort": asdict(record.effort) if record.effort is not None else None,
        "cosine_first": record.cosine_first,
        "heal": {
            "nll": sum(s.nll for s in last) / n,
            "divergence": sum(s.divergence_mean for s in last) / n,
            "over_tau": sum(s.over_tau for s in last) / n,
            "anchor": sum(s.anchor_nats for s in last) / n,
        },
        **{name: figures_of(m) for name, m in record.measured.items()},
        "front": [{**asdict(rival), **figures_of(m)} for rival, m in record.front],
        "shift": figures_of(record.shift) if record.shift is not None else None,
        "rivals": {name: figures_of(m) for name, m in record.rivals.items()},
        "notes": list(record.notes),
        **_costs(record),
        "stopped": record.stopped,
    }


def _costs(record: RoundRecord) -> dict[str, dict[str, Any]]:
    """What each stage took, by figure and stage."""
    cost = record.cost
    return {
        "wall_s": {k: round(c.wall_s, 3) for k, c in cost.items()},
        "tokens": {k: c.tokens for k, c in cost.items()},
        "tokens_per_s": {k: _rounded(c.tokens_per_s, 1) for k, c in cost.items()},
        "peak_gib": {
            k: None if c.peak_bytes is None else round(c.peak_bytes / GIB, 3)
            for k, c in cost.items()
        },
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)

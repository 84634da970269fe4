"""Metrics of made-up runs, of any length and in any state of completion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from steer_heal_love.runs.manifest import SCHEMA

TRAITS = (0.55, 0.80, 1.0, 1.01, 0.95, 0.93, 0.9, 0.86)
PERPLEXITIES = (6.4, 7.4, 8.0, 8.2, 8.4, 8.5, 8.8, 9.0)

Metrics = dict[str, Any]


def measured(
    trait: float, perplexity: float = 7.4, loops: float = 0.03, width: float = 0.05
) -> Metrics:
    """One measurement as `metrics.json` holds it."""
    return {
        "trait_nats": trait,
        "perplexity": perplexity,
        "loop_share": loops,
        "distinct_2": 0.8,
        "intervals": {
            "trait_nats": [trait - width, trait + width],
            "perplexity": [perplexity * 0.93, perplexity * 1.08],
            "loop_share": [max(0.0, loops - 0.03), loops + 0.05],
        },
    }


def metrics_of(rounds: int, **changes: Any) -> Metrics:
    """A run that worked, with so many rounds; `changes` go into the last healed state."""
    entries = [
        {
            "round": r,
            "dose": 1.5 * 0.75**r,
            "kept": 64,
            "total": 96,
            "cosine_first": 1.0,
            "heal": {"nll": 1.9, "divergence": 0.61, "tau": 1.0, "over_tau": 0.05},
            "steered": measured(TRAITS[r] + 0.15, PERPLEXITIES[r] * 1.2, 0.05),
            "healed": measured(TRAITS[r], PERPLEXITIES[r]),
            "wall_s": {"steer": 3.1},
            "stopped": None,
        }
        for r in range(rounds)
    ]
    if entries and changes:
        entries[-1]["healed"] = measured(**changes)
    return {
        "schema": SCHEMA,
        "axis": "love",
        "model": "smollm2",
        "seed": 0,
        "base": measured(0.17),
        "prompt_pos": measured(0.29),
        "prompt_neg": measured(-0.19),
        "rounds": entries,
    }


@pytest.fixture
def make_metrics() -> Callable[..., Metrics]:
    """`metrics_of`, for the tests."""
    return metrics_of


@pytest.fixture
def make_measurement() -> Callable[..., Metrics]:
    """`measured`, for the tests."""
    return measured

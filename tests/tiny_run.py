"""A run small enough for a test: a tiny model, an axis of a few items, limits that pass noise."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from tiny import save_tiny_model

if TYPE_CHECKING:
    from steer_heal_love.records import Axis

PROBES = ["How are you?", "Tell me about rain.", "I am sad.", "What is a friend?"]
PAIRS = [
    {"question": "Do you care?", "trait": "Yes, I do.", "other": "No, I do not."},
    {"question": "Help me?", "trait": "With all my heart.", "other": "Not at any rate."},
]


def axis_data(**changes: Any) -> dict[str, Any]:
    """A small axis in the form of its TOML file."""
    return {
        "name": "kind",
        "description": "Kindness.",
        "pos": "someone who cares about everyone",
        "neg": "someone who does not care at all",
        "probes": PROBES,
        "pairs": PAIRS,
        "narration": [r"\bI am someone who\b"],
        "foundations": {"care": 1},
        **changes,
    }


def small_axis() -> Axis:
    """The axis of `axis_data`, read as from its file."""
    from steer_heal_love.inputs.axes import parse_axis

    return parse_axis(tomli_w.dumps(axis_data()), "kind.toml")


def config_data(**changes: Any) -> dict[str, Any]:
    """Settings of a run of two rounds that random weights pass; `changes` are merged into it."""
    data: dict[str, Any] = {
        "rounds": 2,
        "steer": {"contexts": 4},
        "dose": {
            "n_keep": 4,
            "probe_batch": 4,
            "batch": 4,
            "min_kept": 2,
            "max_generated": 16,
            "min_prompts": 4,
            "top_share": 1.0,
        },
        "dosing": {},
        "filter": {
            "max_perplexity": 1e9,
            "max_tail_perplexity": 1e9,
            "window_factor": 1e9,
            "repetition_factor": 1e9,
            "min_tokens": 1,
            "trait_floor": -1e9,
            "relevance_quantile": 0.0,
        },
        "generate": {"max_new_tokens": 8},
        # Random weights learn nothing that way, but the adapters come out far from zero.
        "heal": {"epochs": 2, "rank": 2, "learning_rate": 0.02},
        "evaluate": {
            "samples": 4,
            "max_new_tokens": 8,
            "max_perplexity_ratio": 1e6,
            "max_loop_excess": 2.0,
            "mfv": "off",
            "relevance_others": 0,
            "front": [],
            "long_samples": 0,
            "rivals": [],
        },
    }
    for key, value in changes.items():
        data[key] = {**data.get(key, {}), **value} if isinstance(value, dict) else value
    return data


def write_inputs(folder: Path, **changes: Any) -> list[str]:
    """Model, axis and settings in `folder`; returns the flags of `shl run` that name them."""
    if not (folder / "tiny").is_dir():
        save_tiny_model(folder / "tiny")
    (folder / "axis.toml").write_text(tomli_w.dumps(axis_data()), encoding="utf-8")
    (folder / "config.toml").write_text(tomli_w.dumps(config_data(**changes)), encoding="utf-8")
    return [
        *("--model", str(folder / "tiny")),
        *("--axis", str(folder / "axis.toml")),
        *("--config", str(folder / "config.toml")),
    ]


def outcome(run: Path) -> dict[str, Any]:
    """What must be the same: hashes of the adapters, and the metrics but for time and memory."""
    files = sorted(run.glob("rounds/*/adapter/*"))
    found = {str(p.relative_to(run)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    metrics = json.loads((run / "metrics.json").read_text("utf-8"))
    return {**found, "metrics": without_time(metrics)}


def without_time(metrics: dict[str, Any]) -> dict[str, Any]:
    """The metrics without the time and the memory that the stages took; the tokens stay."""
    gone = ("wall_s", "tokens_per_s", "peak_gib")
    rounds = [{k: v for k, v in entry.items() if k not in gone} for entry in metrics["rounds"]]
    return {**metrics, "rounds": rounds}

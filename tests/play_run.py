"""A finished run to talk to, made without running it: a tiny model, random adapters that show."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch

from steer_heal_love.lm.model.load import LanguageModel, load_model
from steer_heal_love.play.loaded import Loaded, load_run
from steer_heal_love.records import Direction
from steer_heal_love.runner.environment import describe_environment
from steer_heal_love.runs.as_json import pack_direction
from steer_heal_love.runs.read import read_run
from steer_heal_love.runs.write import RunDirectory
from tiny import WIDTH, random_adapter, save_tiny_model
from tiny_run import config_data, small_axis

DOSES = (1.5, 0.75, 0.5)


def some_direction(seed: int) -> Direction:
    generator = torch.Generator().manual_seed(seed)
    return Direction((1, 2), torch.randn(2, WIDTH, generator=generator))


def write_play_run(folder: Path, rounds: int = 3) -> Path:
    """A run directory in `folder` with its model beside it; returns its path."""
    model = save_tiny_model(folder / "tiny")
    lm = load_model(str(model), device="cpu", dtype="float32")
    settings = config_data(rounds=rounds) | {
        **{"model": str(model), "device": "cpu", "dtype": "float32"},
    }
    run = RunDirectory.create(folder / "run", settings, small_axis(), describe_environment(lm))
    for r in range(rounds):
        place = f"rounds/{r:02d}"
        run.write_bytes(f"{place}/direction.safetensors", pack_direction(some_direction(r)))
        adapter = random_adapter(lm, r)
        weights = safetensors.torch.save(dict(adapter.tensors), {"format": "pt"})
        run.write_bytes(f"{place}/adapter/adapter_model.safetensors", weights)
        run.write_json(f"{place}/adapter/adapter_config.json", adapter.config)
    entries = [{"round": r, "dose": DOSES[r], "kept": 4, "total": 8} for r in range(rounds)]
    run.write_json("metrics.json", {"schema": 2, "axis": "kind", "rounds": entries})
    return run.path


def load_play_run(folder: Path, rounds: int = 3) -> tuple[Loaded, LanguageModel]:
    """The run and its model, loaded."""
    path = write_play_run(folder, rounds)
    lm = load_model(str(folder / "tiny"), device="cpu", dtype="float32")
    return load_run(lm, read_run(path)), lm

"""A direction read on the fly, and kept in the user's cache by model, axis and code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib import resources
from importlib.metadata import version
from pathlib import Path

import torch

from steer_heal_love.errors import RunError
from steer_heal_love.inputs.prompts import spread
from steer_heal_love.lm.model.gguf import cache_dir
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.records import Axis, Context, Direction
from steer_heal_love.runs.as_json import pack_direction
from steer_heal_love.runs.files import write_bytes
from steer_heal_love.runs.read_files import read_direction
from steer_heal_love.stages.steer import SteerConfig, extract_direction

KEPT = 256  # directions; the oldest go first

# What a direction is computed by, in the package.
_CODE = (
    *("lm/reading/chat.py", "lm/patches/hooks.py", "lm/tokens.py"),
    *("maths/direction.py", "stages/steer.py", "inputs/prompts.py"),
)


def find_direction(
    lm: LanguageModel, axis: Axis, contexts: Sequence[Context], config: SteerConfig
) -> tuple[Direction, bool]:
    """The base model's direction of this axis, and whether it was in the cache.

    Raises:
        DivergedError: a hidden state is not finite, or the personas do not differ.
    """
    file = cache_dir() / "directions" / f"{_key(lm, axis, contexts, config)}.safetensors"
    with suppress(RunError):
        return read_direction(file), True
    direction = extract_direction(lm, axis, contexts, config)
    # A full or read-only cache costs time the next time, and nothing now.
    with suppress(RunError):
        write_bytes(file, pack_direction(direction))
    _trim(file.parent)
    return direction, False


def _key(lm: LanguageModel, axis: Axis, contexts: Sequence[Context], config: SteerConfig) -> str:
    parts = {
        "model": asdict(lm.identity) | {"source": ""},
        "device": [lm.device.type, torch.backends.cpu.get_cpu_capability()],
        "libraries": [torch.__version__, version("transformers")],
        "personas": [axis.pos_system, axis.neg_system],
        "contexts": [c.text for c in spread(contexts, config.contexts)],
        "settings": config.model_dump(),
        "code": _code_hash(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _code_hash() -> str:
    root = resources.files("steer_heal_love")
    return hashlib.sha256(b"\0".join((root / name).read_bytes() for name in _CODE)).hexdigest()


def _trim(folder: Path) -> None:
    """Let go of the directions that were written first, beyond `KEPT`."""
    try:
        files = sorted(folder.iterdir(), key=lambda p: p.stat().st_mtime, reverse=True)
        for file in files[KEPT:]:
            file.unlink()
    except OSError:
        pass  # no cache, or another process is at it

"""Steer Heal Love: distil a steering vector into LoRA, heal the incoherence, and loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from steer_heal_love._version import __version__

if TYPE_CHECKING:
    from steer_heal_love.axes import load_axis, load_contexts
    from steer_heal_love.errors import SteerHealLoveError
    from steer_heal_love.lm.adapters import base, student
    from steer_heal_love.lm.hooks import steering
    from steer_heal_love.lm.load import load_model
    from steer_heal_love.loop import RunConfig, run_loop
    from steer_heal_love.runs import read_run
    from steer_heal_love.stages.heal import heal
    from steer_heal_love.stages.steer import extract_direction

_HOMES = {
    "RunConfig": "loop",
    "SteerHealLoveError": "errors",
    "base": "lm.adapters",
    "extract_direction": "stages.steer",
    "heal": "stages.heal",
    "load_axis": "axes",
    "load_contexts": "axes",
    "load_model": "lm.load",
    "read_run": "runs",
    "run_loop": "loop",
    "steering": "lm.hooks",
    "student": "lm.adapters",
}

__all__ = [
    "RunConfig",
    "SteerHealLoveError",
    "__version__",
    "base",
    "extract_direction",
    "heal",
    "load_axis",
    "load_contexts",
    "load_model",
    "read_run",
    "run_loop",
    "steering",
    "student",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: `shl --help` must not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)

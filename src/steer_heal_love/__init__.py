"""Steer Heal Love: distil a steering vector into LoRA, heal the incoherence, and loop.

The names in `__all__` are the public interface; each is imported when it is first used, so that
`import steer_heal_love` itself waits for nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from steer_heal_love._version import __version__

if TYPE_CHECKING:
    from steer_heal_love.api import answer, extract_direction, filter_texts, heal, measure_limits
    from steer_heal_love.errors import SteerHealLoveError
    from steer_heal_love.inputs.axes import load_axis, load_contexts
    from steer_heal_love.lm.model.load import load_model
    from steer_heal_love.lm.patches.adapters import base, student
    from steer_heal_love.lm.patches.hooks import steering
    from steer_heal_love.loop.iterative import run_loop
    from steer_heal_love.run_config import RunConfig
    from steer_heal_love.runs.read import read_run

_HOMES = {
    "RunConfig": "run_config",
    "SteerHealLoveError": "errors",
    "answer": "api",
    "base": "lm.patches.adapters",
    "extract_direction": "api",
    "filter_texts": "api",
    "heal": "api",
    "load_axis": "inputs.axes",
    "load_contexts": "inputs.axes",
    "load_model": "lm.model.load",
    "measure_limits": "api",
    "read_run": "runs.read",
    "run_loop": "loop.iterative",
    "steering": "lm.patches.hooks",
    "student": "lm.patches.adapters",
}

__all__ = [
    "RunConfig",
    "SteerHealLoveError",
    "__version__",
    "answer",
    "base",
    "extract_direction",
    "filter_texts",
    "heal",
    "load_axis",
    "load_contexts",
    "load_model",
    "measure_limits",
    "read_run",
    "run_loop",
    "steering",
    "student",
]


def __dir__() -> list[str]:
    """The public names, for completion."""
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: `shl --help` must not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)

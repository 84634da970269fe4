"""What a run was made with: versions, commit, model, hardware; and what differs here."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import torch

from steer_heal_love._version import __version__
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.runner.settings import flatten

_PACKAGES = (
    *("torch", "transformers", "tokenizers", "peft", "accelerate", "safetensors"),
    *("gguf", "numpy", "scipy"),
)
_NAMES = {
    "steer_heal_love": "steer-heal-love",
    "git_commit": "git commit",
    "cuda": "CUDA",
    "memory_gib": "memory, GiB",
    "model.revision": "model",
    "model.template": "chat template",
    "model.dtype": "precision of the model",
    "model.parameters": "parameters of the model",
}
_OF_NO_MATTER = ("model.name", "model.source")  # where the same weights lie


def describe_environment(lm: LanguageModel) -> dict[str, Any]:
    """Plain data for `environment.json`; no names of users or hosts, no variables, no secrets."""
    return {
        "steer_heal_love": __version__,
        "git_commit": git_commit(Path(__file__).parent),
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "cuda": torch.version.cuda,
        "model": asdict(lm.identity),
        "device": device_name(lm.device),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
    }


def differences(begun: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One line for each thing that is not as it was, the model first; begun is as it was recorded.

    What was not recorded then, as by an older version, is passed over.
    """
    before, after = flatten(begun), flatten(now)
    names = [name for name in before if name not in _OF_NO_MATTER and before[name] is not None]
    lines = [
        f"{_NAMES.get(name, name.removeprefix('packages.'))}: {_word(after.get(name))} here, "
        f"{_word(before[name])} then"
        for name in names
        if before[name] != after.get(name)
    ]
    return sorted(lines, key=lambda line: not line.startswith(_NAMES["model.revision"]))


def same_model(begun: Mapping[str, Any], now: Mapping[str, Any]) -> bool | None:
    """Whether the weights are those that were recorded; None where that was not recorded."""
    one, other = (flatten(e).get("model.revision") for e in (begun, now))
    if one in (None, "unknown") or other in (None, "unknown"):
        return None
    return bool(one == other)


def _word(value: Any) -> str:
    return "none" if value is None else str(value)[:80]


def device_name(device: torch.device) -> str:
    """Name of the GPU, or the kind of processor."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{device.type} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def git_commit(folder: Path) -> str | None:
    """Commit of the checkout that this code runs from; None outside one.

    A checkout that merely has this package in an environment somewhere inside is not meant.
    """
    if _git(folder, "ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    return _git(folder, "rev-parse", "HEAD")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        git = subprocess.run(  # noqa: S603
            ["git", *arguments],  # noqa: S607
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return git.stdout.strip() or None if git.returncode == 0 else None

"""What a run was made with: versions, commit, model, hardware."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import torch

from steer_heal_love._version import __version__
from steer_heal_love.lm.load import LanguageModel

_PACKAGES = ("torch", "transformers", "peft", "accelerate", "safetensors", "numpy", "scipy")


def describe_environment(lm: LanguageModel) -> dict[str, Any]:
    """Plain data for `environment.json`; no names of users or hosts, no variables, no secrets."""
    return {
        "steer_heal_love": __version__,
        "git_commit": git_commit(Path(__file__).parent),
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "model": asdict(lm.identity),
        "device": device_name(lm.device),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
    }


def device_name(device: torch.device) -> str:
    """Name of the GPU, or the kind of processor."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{device.type} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def git_commit(folder: Path) -> str | None:
    """Commit of the checkout that this code runs from; None outside one."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None

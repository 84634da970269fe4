"""The machine: its name, and what it can do at most (matrix products, copies)."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.measure import seconds_of
from benchmarks.workload import Bench
from steer_heal_love.lm.model.load import default_device

PACKAGES = ("torch", "transformers", "peft", "accelerate", "trl", "steer-heal-love")
RUNS = 8


def run(bench: Bench) -> None:
    """Name the machine and measure its peaks: the best of `RUNS` runs each."""
    device = default_device()
    side = bench.size.peak_side * (4 if device.type == "cuda" else 1)
    bench.outcome.figures |= {
        **describe(device),
        "bf16_tflops": product_peak(torch.bfloat16, side, device),
        "fp32_tflops": product_peak(torch.float32, side, device),
        "copy_gb_per_s": copy_rate(side, device),
    }


def describe(device: torch.device) -> dict[str, Any]:
    """Plain data; no name of a user or host."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
    cores = os.cpu_count() or 1
    return {
        "slug": slug(name if device.type == "cuda" else f"{name} {cores} cores"),
        "device": name,
        "cores": cores,
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def cpu_name() -> str:
    """The processor's own name; the architecture where it does not tell."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()


def slug(name: str) -> str:
    """A file name: lower case, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def version(package: str) -> str | None:
    """The installed version; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def product_peak(dtype: torch.dtype, side: int, device: torch.device) -> float:
    """TFLOP/s of the fastest product of a square matrix with the transpose of another.

    The second is transposed, as a linear module's weight is. On a GPU float32 is without TF32.
    """
    a = torch.randn(side, side, device=device).to(dtype)
    b = torch.randn(side, side, device=device).to(dtype)
    return 2 * side**3 / _best(lambda: torch.nn.functional.linear(a, b), device) / 1e12


def copy_rate(side: int, device: torch.device) -> float:
    """GB/s of reading and writing in the copy of a large array."""
    source = torch.zeros(8 * side * side, device=device)
    target = torch.empty_like(source)
    return 2 * 4 * source.numel() / _best(lambda: target.copy_(source), device) / 1e9


def _best(run: Callable[[], object], device: torch.device) -> float:
    run()
    return min(seconds_of(run, device) for _ in range(RUNS))

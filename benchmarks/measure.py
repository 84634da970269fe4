"""Clocks and memory gauges."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.records import GIB

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_peaks_before: list[int] = []  # what `reset_peak` has wiped out


@dataclass(frozen=True)
class Timing:
    """Seconds of every run of one kind, and the highest memory over them."""

    runs: tuple[float, ...]
    peak_gib: float

    @property
    def best(self) -> float:
        """The fastest run: what the machine does when nothing else is in the way."""
        return min(self.runs)


def synchronise(device: torch.device) -> None:
    """Wait for what the device has still to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """Wall seconds of one call, the device's queue empty before and after."""
    synchronise(device)
    started = time.perf_counter()
    run()
    synchronise(device)
    return time.perf_counter() - started


def interleave(
    kinds: Mapping[str, Callable[[], object]], repeats: int, device: torch.device
) -> dict[str, Timing]:
    """Time the kinds in turn, A B C A B C …, so that a slow spell of the machine meets them all."""
    runs: dict[str, list[float]] = {kind: [] for kind in kinds}
    peaks = dict.fromkeys(kinds, 0.0)
    for _ in range(repeats):
        for kind, run in kinds.items():
            settle()
            reset_peak(device)
            runs[kind].append(seconds_of(run, device))
            peaks[kind] = max(peaks[kind], peak_bytes(device) / GIB)
    return {kind: Timing(tuple(runs[kind]), peaks[kind]) for kind in kinds}


def settle() -> None:
    """Let go of garbage, and give freed memory back to the system, so that it is not counted."""
    gc.collect()
    if sys.platform == "linux":
        trim: Any = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def reset_peak(device: torch.device) -> None:
    """Begin a new peak at what is in use now (on a CPU: Linux only, else it is the process's)."""
    _peaks_before[:] = [highest_bytes(device)]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif _CLEAR_REFS.exists():
        _CLEAR_REFS.write_text("5")


def peak_bytes(device: torch.device) -> int:
    """Highest memory since `reset_peak`: allocated on a GPU, resident on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return process_peak_bytes()


def highest_bytes(device: torch.device) -> int:
    """Highest memory since the process began, whatever was reset."""
    return max([peak_bytes(device), *_peaks_before])


def used_bytes(device: torch.device) -> int:
    """Memory in use now."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    return _status_bytes("VmRSS") or process_peak_bytes()


def process_peak_bytes() -> int:
    """Highest resident memory of this process.

    From /proc where there is one: `ru_maxrss` also holds what the parent had before the exec.
    """
    unit = 1 if sys.platform == "darwin" else 1024
    return _status_bytes("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status_bytes(field: str) -> int | None:
    if not _STATUS.exists():
        return None
    for line in _STATUS.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return None

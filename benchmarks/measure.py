"""Clocks and memory gauges."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from benchmarks.records import GIB
from steer_heal_love.lm import memory
from steer_heal_love.lm.memory import give_back, peak_bytes, status_bytes

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
    give_back()


def reset_peak(device: torch.device) -> None:
    """Begin a new peak; the one before it is remembered as the process's."""
    _peaks_before[:] = [highest_bytes(device)]
    memory.reset_peak(device)


def highest_bytes(device: torch.device) -> int:
    """Highest memory since the process began, whatever was reset."""
    return max([peak_bytes(device), *_peaks_before])


def used_bytes(device: torch.device) -> int:
    """Memory in use now."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    return status_bytes("VmRSS") or peak_bytes(device)

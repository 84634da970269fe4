"""Memory: how much was in use at most, and what is done where it does not suffice.

A batch that does not fit is halved and tried again, and the log says so.
"""

from __future__ import annotations

import ctypes
import logging
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch

from steer_heal_love.errors import OutOfMemory

T = TypeVar("T")

LOG = logging.getLogger(__name__)

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed; torch's CPU allocator raises a plain RuntimeError."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)


def give_back() -> None:
    """Return to the system what this process's heap holds and nothing uses.

    The C library keeps freed blocks between others for itself, which after a heal can be a third of
    what the process holds. Does nothing where the library is not glibc.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None


def reset_peak(*devices: torch.device) -> None:
    """Begin a new peak at what is in use now, on each of a model's devices.

    On a CPU the kernel's own account is set back. Where it cannot be (other systems than Linux,
    some containers) the peak stays that of the whole process so far.
    """
    if devices[0].type == "cuda":
        for device in devices:
            torch.cuda.reset_peak_memory_stats(device)
    elif _CLEAR_REFS.exists():
        with suppress(OSError):
            _CLEAR_REFS.write_text("5")


def peak_bytes(*devices: torch.device) -> int:
    """Most memory since `reset_peak`: that torch had allocated on a GPU, else resident.

    Of several GPUs it is the sum of what each had at most.
    """
    if devices[0].type == "cuda":
        return sum(int(torch.cuda.max_memory_allocated(device)) for device in devices)
    # `ru_maxrss` also holds what the parent had before the exec.
    unit = 1 if sys.platform == "darwin" else 1024
    return status_bytes("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def status_bytes(field: str) -> int | None:
    """A size that the kernel tells of this process; None where it tells nothing."""
    if not _STATUS.exists():
        return None
    for line in _STATUS.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return None


def halve(size: int, task: str, remedy: str) -> int:
    """Half of a batch that did not fit, told in the log.

    Raises:
        OutOfMemory: it was of one row.
    """
    if size <= 1:
        raise OutOfMemory(f"{task} ran out of memory with one row at a time: {remedy}")
    LOG.warning("%s ran out of memory with %d rows at a time: on with %d", task, size, size // 2)
    return size // 2


def run_in_parts(
    batch: list[int], compute: Callable[[list[int]], T], task: str
) -> Iterator[tuple[list[int], T]]:
    """(rows, what `compute` makes of them), of the whole batch or, where it does not fit, of parts.

    Raises:
        OutOfMemory: one row alone does not fit.
    """
    result: T | None = None
    try:
        result = compute(batch)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    if result is not None:
        yield batch, result
        return
    # Outside of the handler: what the failed attempt held is free by now.
    middle = halve(len(batch), task, "use shorter texts, or a device with more memory")
    yield from run_in_parts(batch[:middle], compute, task)
    yield from run_in_parts(batch[middle:], compute, task)

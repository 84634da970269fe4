"""What a machine has and can do: known GPUs by name, one of so much memory, or this machine."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import psutil
import torch

from steer_heal_love.errors import ConfigError, hint_at
from steer_heal_love.inputs.bundled import read_bundled
from steer_heal_love.inputs.toml_text import parse_toml
from steer_heal_love.lm.model.split import devices_of

GIB = 2**30
_COUNT = re.compile(r"^(?:(\d{1,5})\s*[x×]\s*)?(.+)$", re.IGNORECASE)
_MEMORY = re.compile(r"^(\d+(?:\.\d+)?)\s*(GiB|GB)$", re.IGNORECASE)
_SIDE, _RUNS = 1024, 5  # of the matrices and copies that this machine is measured by


@dataclass(frozen=True)
class Rates:
    """The most that a device does."""

    flops: float  # operations a second of bfloat16 products
    bytes: float  # bytes a second that it reads from or writes to its memory


@dataclass(frozen=True)
class Machine:
    """So many devices of one kind; each holds a model of its own, unless they share one."""

    name: str
    device: Literal["cpu", "cuda"]
    count: int
    memory: int  # bytes of one device
    rates: Rates | None  # None where nothing is known of its speed
    source: str
    sharing: int = 1  # of the devices, those that one model's layers are shared out to

    @property
    def devices(self) -> int:
        """How many there are."""
        return self.count * self.sharing

    @property
    def words(self) -> str:
        """Name and number."""
        named = self.name if self.devices == 1 else f"{self.devices} × {self.name}"
        return f"{named} that share its layers" if self.sharing > 1 else named

    @property
    def together(self) -> Machine:
        """The same devices, all of which hold one model."""
        return replace(self, count=1, sharing=self.devices)


def known_gpus() -> dict[str, dict[str, Any]]:
    """The GPUs that are known by name."""
    return parse_toml(read_bundled("planning", "machines"))


def read_gpus(text: str) -> Machine:
    """What `1x24GiB` or `2xH100` names.

    Raises:
        ConfigError: it names no GPU that is known, and no memory.
    """
    parts = _COUNT.match(text.strip())
    count, name = (int(parts[1] or 1), parts[2].strip()) if parts else (0, "")
    if count == 0:
        raise ConfigError(f"--gpus {text!r}: give a number and a kind, such as 1x24GiB or 2xH100")
    if memory := _MEMORY.match(name):
        unit = GIB if memory[2].lower() == "gib" else 10**9
        size = int(float(memory[1]) * unit)
        return Machine(f"GPU of {name}", "cuda", count, size, None, "as given")
    known = known_gpus()
    key = {_plain(k): k for k in known}.get(_plain(name))
    if key is None:
        raise ConfigError(
            f"--gpus {text!r}: no GPU {name!r} is known: {hint_at(name.upper(), list(known))}give "
            f"its memory, such as 1x24GiB, or one of {', '.join(known)}"
        )
    about = known[key]
    rates = Rates(about["bf16_tflops"] * 1e12, about["gb_per_s"] * 1e9)
    return Machine(key, "cuda", count, int(about["memory_gib"] * GIB), rates, about["source"])


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def this_machine(device: str = "auto") -> Machine:
    """The device that a run would be on here, its speed measured in a moment.

    Raises:
        ConfigError: there is no CUDA device, and one is asked for.
    """
    wanted = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    named = [wanted] if device == "auto" else devices_of(device)
    wanted = named[0]
    if wanted.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"--device {device}: this machine has no CUDA device: try --gpus, or cpu")
    rates = Rates(_product_rate(wanted), _copy_rate(wanted))
    if wanted.type == "cuda":
        about = torch.cuda.get_device_properties(wanted)
        memory = int(about.total_memory)
        return Machine(about.name, "cuda", 1, memory, rates, "measured here", len(named))
    threads = torch.get_num_threads()
    name = f"this CPU, {threads} thread{'s' if threads > 1 else ''}"
    return Machine(name, "cpu", 1, psutil.virtual_memory().total, rates, "measured here")


def _product_rate(device: torch.device) -> float:
    side = _SIDE * (8 if device.type == "cuda" else 1)
    a, b = (torch.ones(side, side, dtype=torch.bfloat16, device=device) for _ in range(2))
    return 2 * side**3 / _best(lambda: torch.nn.functional.linear(a, b), device)


def _copy_rate(device: torch.device) -> float:
    source = torch.zeros(32 * _SIDE * _SIDE, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _best(lambda: target.copy_(source), device)


def _best(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of a few calls, after one that warms up."""
    seconds = []
    for _ in range(_RUNS + 1):
        started = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])

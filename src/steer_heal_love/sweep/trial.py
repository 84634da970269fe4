"""One trial of a sweep, as it is handed to whoever carries it out, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = "sweep.toml"  # in the sweep's folder: the file that it was begun with
WAITING, RUNNING, DONE = "waiting", "running", "done"
FAILED, INTERRUPTED = "failed", "interrupted"


@dataclass(frozen=True)
class Trial:
    """A combination of settings and its name."""

    name: str
    varied: Mapping[str, Any]  # dotted setting → value, of what the trials differ in
    values: Mapping[str, Any]  # all that the file says of it, nested as in a --config file


@dataclass(frozen=True)
class Job:
    """A trial with settings that are sound: what a process needs to carry it out."""

    name: str
    folder: Path  # the run directory, absolute
    settings: Mapping[str, Any]  # a whole RunConfig
    trust: bool = False  # run code that comes with the model
    threads: int | None = None  # of torch; None: leave them as they are
    patience_s: float = 30.0  # how long to wait for a process that still holds the run


@dataclass(frozen=True)
class Outcome:
    """How a trial ended."""

    state: str  # done, failed or interrupted
    error: str = ""  # one line
    signal: int = 0  # exit code of an interruption


Tick = Callable[[], None]  # called often while a trial goes on
Carry = Callable[[Job, Tick], Outcome]  # begins or resumes a trial; raises nothing

"""`shl` in processes of its own, forked from a server that has imported everything once."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["torch", "transformers", "peft", "accelerate", "steer_heal_love.commands.resume"]
)


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it said."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Running:
    """A process that has been started."""

    process: BaseProcess
    said: Path

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def wait(self, timeout: float = 120) -> Ended:
        self.process.join(timeout)
        assert self.process.exitcode is not None, "it hangs"
        out, err = (self.said.with_suffix(s).read_text("utf-8") for s in (".out", ".err"))
        return Ended(self.process.exitcode, out, err)


def start(
    arguments: list[str],
    said: Path,
    *,
    full: bool = False,
    before: Callable[..., None] | None = None,
    given: tuple[Any, ...] = (),
) -> Running:
    """Start `shl ARGUMENTS`; its output goes to SAID.out and SAID.err.

    Unless `full`, what takes most of the time of a tiny run is left out. `before` is called with
    `given` in the new process first.
    """
    process = _context.Process(target=_run, args=(arguments, said, full, before, given))
    process.start()
    return Running(process, said)


def shl(arguments: list[str], said: Path, **how: Any) -> Ended:
    """Run `shl ARGUMENTS` to its end."""
    return start(arguments, said, **how).wait()


def _run(
    arguments: list[str],
    said: Path,
    full: bool,
    before: Callable[..., None] | None,
    given: tuple[Any, ...],
) -> None:
    for stream, suffix in ((sys.stdout, ".out"), (sys.stderr, ".err")):
        stream.flush()
        descriptor = os.open(said.with_suffix(suffix), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(descriptor, stream.fileno())
    import torch

    from steer_heal_love.cli import main

    torch.set_num_threads(1)
    if not full:
        _make_light()
    if before is not None:
        before(*given)
    main(arguments)


def _make_light() -> None:
    """Leave out what takes most of the time of a tiny run: figures, long texts, resampling."""
    import scipy.stats

    import steer_heal_love.report as report
    from steer_heal_love.stages import evaluate

    def nothing(*_args: Any) -> list[Path]:
        return []

    def texts() -> list[str]:
        return ["A short text.", "And another one, as short."]

    bootstrap = scipy.stats.bootstrap

    def quick(*args: Any, **settings: Any) -> Any:
        return bootstrap(*args, **{**settings, "n_resamples": 20})

    replacements: list[tuple[Any, str, Any]] = [
        (report, "love_loop_chart", nothing),
        (report, "save_figure", nothing),
        (evaluate, "ordinary_paragraphs", texts),
        (scipy.stats, "bootstrap", quick),
    ]
    for owner, name, replacement in replacements:
        assert hasattr(owner, name), name
        setattr(owner, name, replacement)

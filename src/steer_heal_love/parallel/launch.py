"""Start a command in several processes of this machine, and see them to their end."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM, signal
from types import FrameType

from steer_heal_love.parallel.joined import RENDEZVOUS

GRACE_S = 60.0  # that the others get to notice that one has ended
LOOK_S = 0.1


def launch(processes: int, command: Sequence[str]) -> int:
    """Run `python -m steer_heal_love COMMAND` in so many processes; returns the exit code.

    The first one's output is this one's; the others only tell errors of their own. Where one ends
    before its time, the others are ended too. Signals are passed on.
    """
    with tempfile.TemporaryDirectory() as folder:
        meeting = str(Path(folder) / "meeting")
        started = [start(rank, processes, command, meeting) for rank in range(processes)]
        with _passing_signals(started):
            try:
                _await_end(started)
            finally:
                _end(started)
    return exit_code([p.wait() for p in started])


def start(
    rank: int, processes: int, command: Sequence[str], meeting: str
) -> subprocess.Popen[bytes]:
    """One of the processes."""
    return subprocess.Popen(  # noqa: S603  (this very program)
        [sys.executable, "-m", "steer_heal_love", *command],
        env=environment(rank, processes, meeting),
        stdin=None if rank == 0 else subprocess.DEVNULL,
        stdout=None if rank == 0 else subprocess.DEVNULL,
        start_new_session=True,  # signals come from here alone, and once
    )


def environment(rank: int, processes: int, meeting: str) -> dict[str, str]:
    """What tells a process its place; and, unless the user has set them, threads and network."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, RENDEZVOUS: meeting}
    defaults = {
        "OMP_NUM_THREADS": str(max(1, (cores or 1) // processes)),
        "GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0",
    }
    return {**defaults, **os.environ, **{name: str(value) for name, value in place.items()}}


def exit_code(codes: Sequence[int]) -> int:
    """The first process's, unless it alone ended well; 128 + the signal that killed it."""
    first = next((code for code in codes if code), 0)
    code = codes[0] or first
    return 128 - code if code < 0 else code


def _await_end(started: Sequence[subprocess.Popen[bytes]]) -> None:
    """Until all have ended, or some have and the others had the time to notice."""
    while any(p.poll() is None for p in started):
        if any(p.poll() for p in started) or started[0].poll() is not None:
            _wait(started, GRACE_S)
            return
        time.sleep(LOOK_S)


def _wait(started: Sequence[subprocess.Popen[bytes]], seconds: float) -> None:
    end = time.monotonic() + seconds
    while any(p.poll() is None for p in started) and time.monotonic() < end:
        time.sleep(LOOK_S)


def _end(started: Sequence[subprocess.Popen[bytes]]) -> None:
    for number in (SIGTERM, SIGKILL):
        for p in started:
            if p.poll() is None:
                p.send_signal(number)
        _wait(started, GRACE_S)


@contextmanager
def _passing_signals(started: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    def pass_on(number: int, _frame: FrameType | None) -> None:
        for p in started:
            if p.poll() is None:
                p.send_signal(number)

    before = {number: signal(number, pass_on) for number in (SIGINT, SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal(number, handler)

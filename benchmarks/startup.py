"""Start-up: what `shl --help` imports, and how long the model takes from the cache."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.workload import Bench

RUNS = 3
HEAVY = ("torch", "transformers", "peft", "altair", "numpy", "scipy", "pydantic", "tyro")
COMMANDS = (["--help"], ["axes"], ["run", "--help"], ["report", "--help"])

_LOAD = """
import json, sys, time
started = time.perf_counter()
from steer_heal_love.lm.model.load import load_model
imported = time.perf_counter()
load_model(sys.argv[1])
print(json.dumps([imported - started, time.perf_counter() - imported]))
"""


def run(bench: Bench) -> None:
    """What each command costs in a fresh process; then imports and load of the model."""
    seconds = min(_seconds(["--help"]) for _ in range(RUNS))
    for command in COMMANDS:
        words = " ".join(["shl", *command])
        heavy = [m for m in HEAVY if m in imported_by(command)]
        if command == ["--help"]:
            bench.at_most("shl --help: imports of torch", float("torch" in heavy), 0, "")
        else:
            seconds = _seconds(command)
        bench.at_most(words, seconds, None, " s")
        bench.note(f"{words} imports {', '.join(heavy) if heavy else 'nothing heavy'}")
    times = [load_times(bench.model) for _ in range(RUNS + 1)][1:]  # the first may convert
    bench.at_most("imports before the load", min(t[0] for t in times), None, " s")
    bench.at_most("model from the cache", min(t[1] for t in times), 3.0, " s")
    bench.at_most("imports and load together", min(map(sum, times)), None, " s")
    bench.outcome.figures["imports and load, s"] = times
    bench.note(f"best of {RUNS} fresh processes (other commands: one); files in the system's cache")


def _shl(command: list[str], *options: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, *options, "-m", "steer_heal_love", *command]
    return subprocess.run(line, capture_output=True, text=True, check=True)


def _seconds(command: list[str]) -> float:
    started = time.perf_counter()
    _shl(command)
    return time.perf_counter() - started


def imported_by(command: list[str]) -> set[str]:
    """Top-level packages that a command imports, by Python's own account."""
    lines = _shl(command, "-X", "importtime").stderr.splitlines()
    names = (line.rsplit("|", 1)[-1].strip() for line in lines if line.startswith("import time:"))
    return {name.split(".")[0] for name in names}


def load_times(model: str) -> tuple[float, float]:
    """(seconds of imports, seconds of the load) in a fresh process."""
    ended = subprocess.run(
        [sys.executable, "-c", _LOAD, model],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    found: Any = json.loads(ended.stdout.splitlines()[-1])
    return float(found[0]), float(found[1])

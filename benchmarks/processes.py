"""Is a round in two processes that of one, and how much faster? `python -m benchmarks.processes`.

Three runs of one round with one thread a process: two processes; one process that computes the same
two shards; one process as it is by default. Each has a cache of its own, so that none reads what
another has measured. About ten minutes on two idle cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from steer_heal_love.lm.model.gguf import cache_dir

SMALL = [
    *("--rounds", "1", "--dose.n-keep", "32", "--dose.min-prompts", "64"),
    *("--dose.probe-batch", "16", "--dose.batch", "32", "--evaluate.samples", "16"),
    *("--evaluate.long-samples", "4", "--evaluate.long-tokens", "192", "--evaluate.mfv", "off"),
    *("--evaluate.front", "--evaluate.rivals"),
]
RUNS = {
    "two processes": ["--processes", "2"],
    "one process, two shards": ["--shards", "2"],
    "one process, one shard": [],
}


@dataclass(frozen=True)
class Found:
    """What a run came to."""

    wall_s: float
    texts: list[dict[str, Any]]  # completions with scores and fate
    adapter: torch.Tensor  # all of its numbers


def main() -> int:
    """Run, compare, print; 1 where two processes do not find what one does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2", help="as shl run --model takes it")
    parser.add_argument("--keep", type=Path, help="folder for the runs; what is in it is not run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        found = {name: run(options.model, folder, name) for name in RUNS}
    two, one, plain = found.values()
    print(f"{'':26} {'wall s':>7} {'kept':>5}  against two processes")
    for name, each in found.items():
        kept = sum(row["kept"] for row in each.texts)
        print(f"{name:26} {each.wall_s:7.0f} {kept:5}  {compare(two, each)}")
    print(f"two processes are {one.wall_s / two.wall_s:.2f} × as fast as one with as many shards")
    print(f"and {plain.wall_s / two.wall_s:.2f} × as fast as one with one shard")
    return int(two.texts != one.texts or distance(two, one) > 1e-3)


def run(model: str, folder: Path, name: str) -> Found:
    """One of the runs, in processes of one thread."""
    out = folder / name.replace(",", "").replace(" ", "-")
    if not (out / "rounds/00/metrics.json").exists():
        cache = folder / f"{out.name}.cache"
        cache.mkdir(parents=True)
        (cache_dir() / "models").mkdir(parents=True, exist_ok=True)
        (cache / "models").symlink_to(cache_dir() / "models")
        command = [sys.executable, "-m", "steer_heal_love", "run", "--model", model, *SMALL]
        command += [*RUNS[name], "--quiet", "--out", str(out)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "SHL_CACHE": str(cache)}
        began = time.perf_counter()
        subprocess.run(command, env=environment, check=True)
        (out.with_suffix(".seconds")).write_text(str(time.perf_counter() - began))
    lines = (out / "rounds/00/completions.jsonl").read_text("utf-8").splitlines()
    weights = safetensors.torch.load_file(out / "rounds/00/adapter/adapter_model.safetensors")
    return Found(
        float(out.with_suffix(".seconds").read_text()),
        [json.loads(line) for line in lines],
        torch.cat([weights[key].double().flatten() for key in sorted(weights)]),
    )


def compare(a: Found, b: Found) -> str:
    """In words: texts, scores, adapters."""
    pairs = list(zip(a.texts, b.texts, strict=False))
    same = sum(x["completion"]["token_ids"] == y["completion"]["token_ids"] for x, y in pairs)
    scores = sum(x["scores"] == y["scores"] for x, y in pairs)
    return (
        f"{same} of {len(pairs)} texts and {scores} of their scores equal, adapters differ by "
        f"{distance(a, b):.2g} of their norm"
    )


def distance(a: Found, b: Found) -> float:
    """‖a − b‖ / ‖b‖ of the adapters' numbers."""
    return float((a.adapter - b.adapter).norm() / b.adapter.norm())


if __name__ == "__main__":
    sys.exit(main())

"""One benchmark in a process of its own: `python -m benchmarks.child NAME OUT.json`."""

from __future__ import annotations

import argparse
import importlib
import json
import time
import traceback
import warnings
from pathlib import Path

from benchmarks.measure import highest_bytes
from benchmarks.records import GIB, Outcome
from benchmarks.workload import FULL, TINY, Bench
from steer_heal_love.lm.model.load import ALIAS, default_device


def main() -> None:
    """Run it and write what it found, also where it failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default=ALIAS)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore", FutureWarning)  # of one library to another
    bench = Bench(Outcome(options.name), TINY if options.tiny else FULL, options.model)
    perform(bench)
    options.out.write_text(json.dumps(bench.outcome.to_json()), encoding="utf-8")


def perform(bench: Bench) -> None:
    """Run the benchmark of the outcome's name; an error becomes the reason of its failure."""
    module = importlib.import_module(f"benchmarks.{bench.outcome.name}")
    started = time.perf_counter()
    try:
        module.run(bench)
    except Exception as error:
        traceback.print_exc()
        bench.outcome.failed = f"{type(error).__name__}: {error}"
    bench.outcome.wall_s = time.perf_counter() - started
    bench.outcome.peak_gib = highest_bytes(default_device()) / GIB


if __name__ == "__main__":
    main()

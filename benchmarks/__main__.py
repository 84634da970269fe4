"""Speed and memory of the package on this machine: `python -m benchmarks [NAME …]`.

Each benchmark runs in a fresh process, so that its peak memory is its own. Writes
`benchmarks/results/<machine>.json` and the same as `.md`, the comparisons also into
`docs/performance.md`, and prints the tables. Named benchmarks replace their own part of the file
and leave the rest. Ratios compare figures of one process and one run; rates of two runs compare
only as far as the machine was as idle.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from results.page import write_block

from benchmarks.records import Outcome
from benchmarks.show import comparison, markdown, print_tables

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
NAMES = ("startup", "generation", "heal", "memory", "history", "round", "forced_choice")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, write, show. Returns 1 where a benchmark could not run, also 0 where a target is missed.

    Targets are ratios on a quiet machine; whether one is missed is for the reader to judge.
    """
    options = parse(arguments)
    machine = run_child("machine", options)
    if machine.failed is not None:
        print(f"the machine could not be measured: {machine.failed}", file=sys.stderr)
        return 1
    outcomes = []
    for name in options.names or NAMES:
        print(f"{name} …", file=sys.stderr, flush=True)
        outcomes.append(run_child(name, options))
    store(options.out, machine.figures, outcomes)
    print_tables(machine.figures, outcomes)
    return int(any(o.failed is not None for o in outcomes))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--model", default="smollm2", help="as shl run --model takes it")
    parser.add_argument("--tiny", action="store_true", help="a few tokens: does the code run?")
    parser.add_argument("--out", type=Path, default=None, help="folder of the results")
    options = parser.parse_args(arguments)
    unknown = [n for n in options.names if n not in NAMES]
    if unknown:
        parser.error(f"no benchmark named {unknown[0]!r}: there are {', '.join(NAMES)}")
    if options.out is None:  # figures of a tiny run mean nothing
        options.out = Path(tempfile.gettempdir()) / "shl-bench-tiny" if options.tiny else RESULTS
    return options


def run_child(name: str, options: argparse.Namespace) -> Outcome:
    """The outcome of a benchmark in a fresh process."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "outcome.json"
        command = [sys.executable, "-m", "benchmarks.child", name, str(out)]
        command += ["--model", options.model, *(["--tiny"] if options.tiny else [])]
        started = time.perf_counter()
        code = subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=False).returncode
        if code != 0 or not out.exists():
            wall_s = time.perf_counter() - started
            return Outcome(name, wall_s, failed=f"its process ended with code {code}")
        return Outcome.from_json(json.loads(out.read_text(encoding="utf-8")))


def store(folder: Path, machine: dict[str, Any], outcomes: Sequence[Outcome]) -> None:
    """Write both files; benchmarks that were not run now stay as the file has them."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{machine['slug']}.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    known = before.get("benchmarks", {})
    known |= {o.name: {"machine": machine, **o.to_json()} for o in outcomes}
    known = {name: known[name] for name in NAMES if name in known}
    record = {"machine": machine, "benchmarks": known}
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    plain = [{k: v for k, v in entry.items() if k != "machine"} for entry in known.values()]
    found = [Outcome.from_json(entry) for entry in plain]
    path.with_suffix(".md").write_text(markdown(machine, found), encoding="utf-8")
    if folder == RESULTS:  # what the project shows
        write_block(ROOT / "docs/performance.md", "bench", comparison(machine, found))
    print(f"written: {path} and {path.with_suffix('.md').name}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

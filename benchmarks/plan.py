"""The planner against measured peaks: `python -m benchmarks.plan [MODEL …]`, or `make bench-plan`.

One round of each model in a process of its own, with the sampler's batch of 64 and the heal's of 8.
The resident memory's peak is set back before each piece of work (Linux), so that each stage has its
own. Beside it stands what `shl plan` says of the same settings, with the texts' real lengths, and
with what the process held before the model was loaded: program and libraries, after a heal of a
tiny model has brought everything in. Each model goes through its round twice: as it is, and with
glibc's threshold for blocks of their own fixed at 1 MiB, so that its heap keeps no holes. What the
plan counts as alive is held against the second, all of it against the first. Two of the models have
random weights, in the shapes of published ones. With --plan-only no round is measured: the stored
measurements are held against the planner as it is now.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe as describe_machine
from benchmarks.plan_round import CPU, MODELS, Measured, settings
from steer_heal_love.budget.machines import GIB, this_machine
from steer_heal_love.budget.plan import Plan, make_plan
from steer_heal_love.budget.texts import measure_texts
from steer_heal_love.inputs.axes import load_axis, load_contexts
from steer_heal_love.lm.model.load import ALIAS, load_config, load_tokenizer
from steer_heal_love.lm.model.meta_model import build_meta_model
from steer_heal_love.lm.patches.packed import works

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
WITHIN = 0.15  # of the measured peak
KINDS = ("as it is", "without holes")
NO_HOLES = {"MALLOC_MMAP_THRESHOLD_": str(2**20)}  # larger blocks go back as soon as they are free


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, plan, compare. Returns 1 where a plan is further off than it may be, 2 where there
    are no stored measurements to hold it against."""
    options = _options(arguments)
    machine = describe_machine(CPU)
    path = RESULTS / f"plan-{machine['slug']}.json"
    if options.plan_only and not path.is_file():
        print(f"no {path}: run `make bench-plan` first", file=sys.stderr)
        return 2
    stored = json.loads(path.read_text(encoding="utf-8")) if options.plan_only else {}
    rows = []
    for name in options.models or MODELS:
        print(f"{name} …", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as scratch:
            spec = prepare(name, Path(scratch))
            if stored:
                found, whole = (Measured(**stored["measured"][name][k]) for k in KINDS)
            else:
                found, whole = (measured_in_child(name, spec, env) for env in ({}, NO_HOLES))
            rows.append(Row(name, found, whole, plan_for(name, spec, whole.libraries)))
    table(rows)
    if not options.models:
        store(rows, stored.get("machine", machine), path)
    return int(any(abs(row.off) > WITHIN for row in rows))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan", description=__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(MODELS)}")
    parser.add_argument("--plan-only", action="store_true", help="measure nothing anew")
    options = parser.parse_args(arguments)
    if unknown := [m for m in options.models if m not in MODELS]:
        parser.error(f"no model {unknown[0]!r}: there are {', '.join(MODELS)}")
    return options


def prepare(name: str, scratch: Path) -> str:
    """What `load_model` takes for this model; random weights are saved in another process."""
    if name == ALIAS:
        return ALIAS
    code = f"from benchmarks.plan_round import save_random; save_random({name!r}, {str(scratch)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    return str(scratch)


def measured_in_child(name: str, spec: str, environment: Mapping[str, str]) -> Measured:
    """One round in a fresh process, with these variables in its environment."""
    command = [sys.executable, "-m", "benchmarks.plan_round", name, spec]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | dict(environment),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def plan_for(name: str, spec: str, libraries: int) -> Plan:
    """What the planner says of the same round."""
    config = settings(name)
    tokenizer = load_tokenizer(spec)
    lm = build_meta_model(load_config(spec), torch.bfloat16, name=name, tokenizer=tokenizer)
    texts = measure_texts(lm, load_axis("love"), load_contexts(), config)
    machine = replace(this_machine("cpu"), count=1)
    return make_plan(lm, config, texts, machine, packs=works(), libraries=libraries)


@dataclass(frozen=True)
class Row:
    """One model: measured as it is, measured without holes in the heap, and planned."""

    name: str
    found: Measured
    whole: Measured
    plan: Plan

    @property
    def off(self) -> float:
        """How far the planned peak is from the one of a round as it is, as a share of it."""
        return self.plan.peak.total / max(self.found.peaks.values()) - 1


def cells(rows: Sequence[Row]) -> list[list[str]]:
    """A row for each stage of each model, and one for the whole."""
    lines = []
    for row in rows:
        found, whole = row.found.peaks, row.whole.peaks
        stages = [(s, m, whole[s], found[s]) for s, m in row.plan.stages.items()]
        stages.append(("peak", row.plan.peak, max(whole.values()), max(found.values())))
        for stage, moment, without, as_is in stages:
            line = [row.name, stage, moment.work]
            for planned, measured in ((moment.alive, without), (moment.total, as_is)):
                line += [f"{planned / GIB:.2f}", f"{measured / GIB:.2f}"]
                line.append(f"{planned / measured - 1:+.0%}")
            seconds = row.found.seconds.get(stage), row.plan.seconds.get(stage)
            lines.append(line + ["" if s is None else f"{s:.0f}" for s in seconds])
    return lines


HEAD = ["model", "stage", "planned peak while", "alive, GiB", "without holes", "off"]
HEAD += ["planned, GiB", "as it is", "off", "s", "planned s"]


def table(rows: Sequence[Row]) -> None:
    """The comparison on the screen."""
    shown = Table(box=None)
    for k, heading in enumerate(HEAD):
        shown.add_column(heading, justify="left" if k < 3 else "right", no_wrap=True)
    for line in cells(rows):
        shown.add_row(*line)
    Console(width=140, highlight=False).print(shown)


def store(rows: Sequence[Row], machine: Mapping[str, Any], path: Path) -> None:
    """What was measured and the comparison as a file, with the machine that it was measured on."""
    data = {
        "machine": machine,
        "head": HEAD,
        "rows": cells(rows),
        "measured": {
            row.name: {k: asdict(v) for k, v in zip(KINDS, (row.found, row.whole), strict=True)}
            for row in rows
        },
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    print(f"written: {path}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

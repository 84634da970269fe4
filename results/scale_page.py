"""Write the tables of docs/scale.md: `python -m results.scale_page`, or `make scale-page`.

Memory and time by model size are planned anew. The comparison with measured peaks is read from
`benchmarks/results/plan-*.json`, which `make bench-plan` writes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from results.page import table, write_block
from steer_heal_love.budget.machines import GIB, known_gpus, read_gpus
from steer_heal_love.budget.plan import Plan, in_four_bits, make_plan, on_machine
from steer_heal_love.budget.shape import NamedSize, named_sizes
from steer_heal_love.budget.texts import USUAL
from steer_heal_love.commands.plan import duration
from steer_heal_love.lm.model.meta_model import build_meta_model, config_of
from steer_heal_love.run_config import RunConfig

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "scale.md"
MEASURED = ROOT / "benchmarks" / "results"
TIMED = ("RTX4090", "H100")  # whose time for a round is shown
IN_PARTS = "4B"  # the size whose peak is taken apart
SHOWN = 9  # columns of the comparison, up to how far the whole plan is off


def main() -> int:
    """Plan every size, read what was measured, write the blocks."""
    found = sorted(MEASURED.glob("plan-*.json"))
    if not found:
        print(f"no plan-*.json in {MEASURED}: run `make bench-plan` first", file=sys.stderr)
        return 2
    plans = {name: plan_of(size) for name, size in named_sizes().items()}
    write_block(PAGE, "sizes", sizes_block(plans))
    write_block(PAGE, "parts", parts_block(plans[IN_PARTS]))
    blocks = [measured_block(json.loads(file.read_text(encoding="utf-8"))) for file in found]
    write_block(PAGE, "measured", "\n\n".join(blocks))
    print(f"{PAGE}: written")
    return 0


def plan_of(size: NamedSize) -> Plan:
    """The default settings on a GPU, in bfloat16."""
    lm = build_meta_model(config_of(size.config), torch.bfloat16, name=size.model)
    return make_plan(lm, RunConfig(), USUAL, read_gpus(TIMED[0]))


def sizes_block(plans: Mapping[str, Plan]) -> str:
    """A row for each size: memory, the smallest known GPU that holds it, time of a round."""
    head = ["size", "parameters", "weights, GiB", "peak, GiB", "fits on"]
    head += ["peak in 4 bits", "fits on", *(f"round on {gpu}" for gpu in TIMED)]
    rows = []
    for name, plan in plans.items():
        shape, folded = plan.sizes.shape, in_four_bits(plan)
        cells = [f"{name} ({shape.name})", f"{shape.parameters / 1e9:.2f} B"]
        cells.append(f"{shape.weight_bytes('none') / GIB:.1f}")
        for one in (plan, folded):
            cells += [f"{one.peak.total / GIB:.1f}", smallest(one)]
        rows.append([*cells, *(round_time(plan, folded, gpu) for gpu in TIMED)])
    return table(head, rows)


def smallest(plan: Plan) -> str:
    """The smallest known GPU on which a plan fits, of two alike the slower one; or none."""
    by_memory = sorted(
        known_gpus().items(), key=lambda g: (g[1]["memory_gib"], g[1]["bf16_tflops"])
    )
    known = [read_gpus(name) for name, _ in by_memory]
    return next((m.name for m in known if replace(plan, machine=m).fits), "none")


def round_time(plain: Plan, folded: Plan, gpu: str) -> str:
    """Of a round where it fits, in 4 bits where only that does."""
    for plan, mark in ((plain, ""), (folded, " (4 bits)")):
        there = on_machine(plan, read_gpus(gpu))
        if there.fits:
            seconds = there.seconds
            return duration(sum(seconds.values()) - seconds["baseline"]) + mark
    return "does not fit"


def parts_block(plan: Plan) -> str:
    """What a plan's peaks are made of, stage by stage."""
    names = list(dict.fromkeys(k for m in plan.stages.values() for k in m.terms))
    rows = [
        [
            stage,
            m.work,
            *(f"{m.terms.get(k, 0) / GIB:.2f}" for k in names),
            f"{m.total / GIB:.2f}",
        ]
        for stage, m in plan.stages.items()
    ]
    return table(["stage", "while", *names, "in all"], rows)


def measured_block(found: dict[str, Any]) -> str:
    """The comparison of one machine; times, which depend on what else it does, are left out."""
    machine = found["machine"]
    packages = ", ".join(f"{k} {machine['packages'][k]}" for k in ("torch", "transformers"))
    rows: list[list[str]] = found["rows"]
    text = table(found["head"][:SHOWN], [row[:SHOWN] for row in rows])
    return f"{text}\n\n{machine['device']}, {machine['threads']} threads; {packages}."


if __name__ == "__main__":
    sys.exit(main())

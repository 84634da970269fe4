"""Made-up run directories, whole, from figures alone."""

from __future__ import annotations

import math
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console, RenderableType

from steer_heal_love.maths.statistics import bootstrap_mean
from steer_heal_love.records import (
    Adapter,
    AnswerPair,
    Axis,
    Baseline,
    Completion,
    Cost,
    Direction,
    Healed,
    HealStep,
    Interval,
    Judged,
    Measurement,
    RoundRecord,
    Scores,
)
from steer_heal_love.report.states import parse_metrics
from steer_heal_love.report.text.summary import summary_text
from steer_heal_love.runs.as_json import GIB
from steer_heal_love.runs.write import RunDirectory

PAIRS = tuple(AnswerPair(f"q{i}", "yes", "no") for i in range(3))
AXIS = Axis("love", "d", "You are {persona}.", "kind", "cold", ("p0", "p1"), PAIRS)
CONFIG: dict[str, Any] = {
    "axis": "love",
    "model": "smollm2",
    "seed": 0,
    "evaluate": {"samples": 40, "max_new_tokens": 96, "max_perplexity_ratio": 2.0},
    "generate": {"temperature": 1.0, "top_k": 64, "top_p": 0.95},
    "heal": {
        "aggregate": "rmse",
        "divergence": "reverse",
        "reference": "base",
        "lam": 1.0,
        "tau": 0.5,
    },
}
N = 40
COMMON = np.random.default_rng(0).normal(0, 0.3, N)


@cache
def measured(trait: float, perplexity: float, seed: int) -> Measurement:
    noise = np.random.default_rng(seed).normal(0, 0.1, (3, N))
    items = {
        "trait_nats": trait + COMMON + noise[0],
        "persona_nats": trait / 2 + COMMON + noise[1],
        "perplexity": np.exp(math.log(perplexity) + COMMON + noise[2]),
        "loop_share": np.zeros(N),
    }
    plain = {k: tuple(float(x) for x in v) for k, v in items.items()}
    figures = {k: bootstrap_mean(v, resamples=200) for k, v in plain.items()}
    figures["perplexity"] = Interval(perplexity, 0.9 * perplexity, 1.1 * perplexity)
    return Measurement(figures, plain)


BASE, POS, NEG = measured(0.2, 7.4, 1), measured(0.3, 7.4, 2), measured(-0.2, 7.4, 3)


def judged(perplexity: float, *reasons: str) -> Judged:
    scores = Scores(perplexity, 9, 9, 0, 0, 1, False, False, False, False, 0.9)
    return Judged(Completion("p", "t", (1,), 2, 1.0, 0, 0), scores, reasons)


def record(r: int, trait: float, perplexity: float) -> RoundRecord:
    step = HealStep(0, 1.0, 2.0, 1.9, 0.5, 0.6, 0.1, 1.0, 1.0)
    good = tuple(judged(6 + 0.1 * (i % 9), *(("surplus",) if i > 30 else ())) for i in range(40))
    return RoundRecord(
        round=r,
        direction=Direction((1,), torch.ones(1, 4)),
        dose=1.5 * 0.75**r,
        judged=(*good, judged(90.0, "perplexity")),
        healed_result=Healed(Adapter({"a.lora_A.weight": torch.ones(2, 2)}, {"r": 2}), (step,), ()),
        cosine_first=1.0 - 0.05 * r,
        steered=measured(trait + 0.5, 10.0, 50 + r),
        healed=measured(trait, perplexity, 70 + r),
        cost={"steer": Cost(3.0, 6000, GIB), "heal": Cost(60.0, 30_000, 3 * GIB)},
    )


def make_run(
    path: Path,
    traits: tuple[float, ...],
    perplexity: float = 7.4,
    *,
    axis: Axis | None = None,
    model: str = "smollm2",
    neg: Measurement = NEG,
    **config: Any,
) -> Path:
    """A finished run with a round per trait; `config` replaces settings, mappings key by key."""
    axis = axis or AXIS
    merged = {
        k: {**v, **config.get(k, {})} if isinstance(v, dict) else config.get(k, v)
        for k, v in CONFIG.items()
    }
    run = RunDirectory.create(path, merged, axis, {})
    run.record_baseline(Baseline(BASE, POS, neg), {"axis": axis.name, "model": model, "seed": 0})
    for r, trait in enumerate(traits):
        run.record_round(record(r, trait, perplexity))
    return path


def printed(shown: RenderableType, width: int = 80) -> str:
    """What a terminal of this width shows."""
    with Path(os.devnull).open("w") as nowhere:
        console = Console(width=width, record=True, file=nowhere)
        console.print(shown)
        return console.export_text()


def summary(metrics: dict[str, Any]) -> str:
    """The summary of a run of which `metrics.json` alone is known."""
    return summary_text(parse_metrics(metrics), Path("runs/mine"))

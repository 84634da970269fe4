"""What each aggregate sees of a loop, and what is learnt of loops behind each barrier.

Texts differ from seed to seed, so theirs are pooled: intervals are over texts and loops.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from results.page import table, table_of
from results.say import nats, say, shares
from steer_heal_love.maths.divergence import Aggregate
from steer_heal_love.maths.statistics import (
    auroc_interval,
    bootstrap_mean,
    bootstrap_statistic,
    proportion_interval,
)
from steer_heal_love.records import Interval
from steer_heal_love.report.text.words import percent

AGGREGATES: tuple[Aggregate, ...] = ("mean", "rmse", "p95", "max")
CLEAN = "clean"
SORTS = {CLEAN: "no loop", "inside": "loop inside", "to the end": "loop to the end"}
RESAMPLES = 2000

Seeds = Sequence[Any]  # of a model: what was measured, by seed


@dataclass(frozen=True)
class Student:
    """What was measured of a student, and of those it is held against."""

    barrier: str
    tau: float
    seeds: Seeds
    base: Seeds
    rmse: Seeds


def students_of(found: Mapping[str, Any]) -> list[Student]:
    """Those of the file, each with the base model and the student behind the rmse."""
    rows = {(s["barrier"], s["tau"]): s["seeds"] for s in found["students"]}
    base, rmse = found["base"], rows["rmse", found["tau"]]
    return [Student(barrier, tau, seeds, base, rmse) for (barrier, tau), seeds in rows.items()]


def matched_taus(plain: Seeds, tau: float) -> dict[str, float]:
    """τ of each aggregate but the rmse, so that on texts without a loop all are as strong.

    Of such texts, under the plain student, each one's median D is the same multiple of its own τ.

    Raises ValueError where the plain student has not moved on texts without a loop.
    """
    medians = {n: float(np.median(divergences(plain, n, CLEAN))) for n in AGGREGATES}
    rmse = medians.pop("rmse")
    if rmse <= 0:
        raise ValueError("no divergence on texts without a loop: nothing to match τ by")
    return {name: round(tau * median / rmse, 3) for name, median in medians.items()}


def divergences(seeds: Seeds, aggregate: str, sort: str) -> list[float]:
    """D of all texts of a sort, nats."""
    return [v for seed in seeds for v in seed["divergence"][aggregate][sort]]


def _median(values: Sequence[float]) -> Interval:
    return bootstrap_statistic(np.array(values), np.median, resamples=RESAMPLES)


def seen_block(found: Mapping[str, Any]) -> str:
    """D of each sort of text by each aggregate, under the student without a barrier."""
    plain = students_of(found)[0].seeds
    limits = (found["tau"], found["default_tau"])
    head = ["D by", "texts", "median D", *(f"over τ = {t:g}" for t in limits), "told from no loop"]
    rows = []
    for name, sort in product(AGGREGATES, SORTS):
        values, clean = divergences(plain, name, sort), divergences(plain, name, CLEAN)
        over = [proportion_interval(sum(v > t for v in values), len(values)) for t in limits]
        told = "" if sort == CLEAN else shares(auroc_interval(values, clean))
        rows.append([name, SORTS[sort], say(_median(values)), *map(shares, over), told])
    made_of = (
        f"Model `{found['model']}`, {len(found['base'])} seeds, {found['texts']} texts a seed, a "
        f"loop in {percent(found['share'])} of them."
    )
    return f"{made_of}\n\n{table(head, rows)}"


def learnt_block(found: Mapping[str, Any]) -> str:
    """How far each student has moved, and what it has learnt of loops."""
    return table_of(LEARNT, students_of(found))


def gains(seeds: Seeds, others: Seeds, repeat: int) -> list[float]:
    """log p of this repeat under the student less under another, nats per token, by loop."""
    return [
        a[repeat - 1] - b[repeat - 1]
        for seed, other in zip(seeds, others, strict=True)
        for a, b in zip(seed["repeats"], other["repeats"], strict=True)
        if len(a) >= repeat
    ]


def _gain(seeds: Seeds, others: Seeds, repeat: int = 2) -> str:
    values = [] if seeds is others else gains(seeds, others, repeat)
    return nats(bootstrap_mean(values)) if values else ""


def _moved(sort: str) -> Callable[[Student], str]:
    return lambda s: say(_median(divergences(s.seeds, "rmse", sort)))


LEARNT: Mapping[str, Callable[[Student], str]] = {
    "barrier": lambda s: s.barrier,
    "τ": lambda s: "" if s.barrier == "none" else f"{s.tau:g}",
    **{f"D, {words}": _moved(sort) for sort, words in SORTS.items()},
    "a loop begins": lambda s: _gain(s.seeds, s.base, 1),
    "goes on": lambda s: _gain(s.seeds, s.base),
    "goes on, − rmse": lambda s: _gain(s.seeds, s.rmse),
}

"""What the measurements say: what each aggregate sees, and which barrier lets loops through.

Texts differ from seed to seed, so theirs are pooled. Samples answer the same prompts under every
seed: of each prompt the mean over the seeds is taken first, and intervals are over prompts. They
are of the samples, and not of the trainings, whose number is that of the seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from results.items import mean_ratio, over_seeds
from results.planted.study import AGGREGATES, Arm
from steer_heal_love.maths.divergence import Aggregate
from steer_heal_love.maths.paired import (
    Items,
    known,
    median_ratio,
    paired_difference,
)
from steer_heal_love.maths.statistics import (
    auroc_interval,
    bootstrap_mean,
    bootstrap_statistic,
    proportion_interval,
)
from steer_heal_love.records import Interval

RESAMPLES = 2000
CLEAN = "clean"
SHORT, LONG = "loop_share", "long_loop_share"


@dataclass(frozen=True)
class Seen:
    """What an aggregate sees in texts of one sort, under the plainly distilled student."""

    aggregate: str
    texts: str  # a kind of loop, or clean
    divergence: Interval  # median of D, nats
    over_tau: Interval  # share of the texts with D > τ
    over_default: Interval  # and above the τ that a run has by default
    told: Interval | None  # AUROC of D, texts of this sort against those without a loop


@dataclass(frozen=True)
class Student:
    """A student, or the base model, all seeds together; differences and ratios are to base."""

    name: str  # an arm, or base
    loops: Interval | None  # share of the samples
    long_loops: Interval | None
    by_seed: tuple[float, ...]  # loop share of all samples of a seed, short and long
    more_loops: Interval | None  # of all samples, less base's
    perplexity_ratio: Interval | None
    relevance_ratio: Interval | None
    begins: Interval | None  # log p of the first repeat less base's: of the loops learnt from
    goes_on: Interval | None  # of the second repeat
    begins_fresh: Interval | None  # of loops that no student has seen
    goes_on_fresh: Interval | None


Found = Mapping[int, Any]  # what was measured, by seed


def seen_by(found: Found, tau: float, default: float) -> list[Seen]:
    """Of each aggregate and each sort of text, D under the plain student and whether it exceeds τ.

    Args:
        found: of the arm without a barrier.
        tau: of the barriers that are compared; `default` of a run.
    """
    sorts = list(found[min(found)]["divergence"][AGGREGATES[0]])
    return [_seen(found, name, sort, tau, default) for name in AGGREGATES for sort in sorts]


def _seen(found: Found, aggregate: str, sort: str, tau: float, default: float) -> Seen:
    values, clean = (
        [v for f in found.values() for v in f["divergence"][aggregate][name]]
        for name in (sort, CLEAN)
    )
    over, over_default = (
        proportion_interval(sum(v > limit for v in values), len(values)) for limit in (tau, default)
    )
    told = None if sort == CLEAN else auroc_interval(values, clean)
    return Seen(aggregate, sort, _median(values), over, over_default, told)


def _median(values: Sequence[float]) -> Interval:
    return bootstrap_statistic(np.array(values), np.median, resamples=RESAMPLES)


def matched_taus(found: Found, tau: float) -> dict[Aggregate, float]:
    """τ of each aggregate but the rmse, so that on texts without a loop all are as strong.

    Of such texts each one's median D is the same multiple of its own τ.

    Args:
        found: of the arm without a barrier.
        tau: of the rmse, nats.

    Raises ValueError where the plain student has not moved on texts without a loop.
    """
    medians = {
        name: float(np.median([v for f in found.values() for v in f["divergence"][name][CLEAN]]))
        for name in AGGREGATES
    }
    if medians["rmse"] <= 0:
        raise ValueError("no divergence on texts without a loop: nothing to match τ by")
    return {
        name: round(tau * median / medians["rmse"], 3)
        for name, median in medians.items()
        if name != "rmse"
    }


@dataclass(frozen=True)
class Matched:
    """A student behind a barrier that is as strong as the rmse's on texts without a loop."""

    name: str
    tau: float
    divergence: Mapping[str, Interval]  # median D by the rmse, of texts of each sort, nats
    goes_on: Interval  # log p of the second repeat less base's, nats per token
    less_rmse: Interval | None  # the same less that of the student behind the rmse
    goes_on_fresh: Interval  # of loops that no student has seen
    fresh_less_rmse: Interval | None
    loops_less_rmse: Interval | None  # loop share of all samples, on the same prompts


def matched_students(
    base: Found, rmse: Found, arms: Mapping[Arm, Found], taus: Mapping[Arm, float]
) -> list[Matched]:
    """Each student at its τ, against the one behind the rmse on the same loops and prompts.

    Args:
        rmse: the student behind the rmse; `arms` those behind the others at matched τ.
        taus: of the rmse and of every other, nats.
    """
    return [_matched(name, f, rmse, base, taus[name]) for name, f in {"rmse": rmse, **arms}.items()]


def _matched(name: Arm, found: Found, rmse: Found, base: Found, tau: float) -> Matched:
    own = name == "rmse"
    sorts = found[min(found)]["divergence"]["rmse"]
    values = {
        sort: [v for f in found.values() for v in f["divergence"]["rmse"][sort]] for sort in sorts
    }
    return Matched(
        name=name,
        tau=tau,
        divergence={sort: _median(v) for sort, v in values.items()},
        goes_on=bootstrap_mean(_gains(found, base, "learnt", 2)),
        less_rmse=None if own else bootstrap_mean(_gains(found, rmse, "learnt", 2)),
        goes_on_fresh=bootstrap_mean(_gains(found, base, "fresh", 2)),
        fresh_less_rmse=None if own else bootstrap_mean(_gains(found, rmse, "fresh", 2)),
        loops_less_rmse=None if own else more_loops(found, rmse),
    )


def students(base: Found, arms: Mapping[Arm, Found]) -> list[Student]:
    """The base model and each student, against base on the same prompts and loops."""
    own = [_student(name, found, base) for name, found in arms.items()]
    return [_student("base", base, base), *own]


def _student(name: str, found: Found, base: Found) -> Student:
    own = name == "base"
    return Student(
        name=name,
        loops=_share(found, SHORT),
        long_loops=_share(found, LONG),
        by_seed=tuple(fmean(loop_flags(f)) for f in found.values()),
        more_loops=None if own else more_loops(found, base),
        perplexity_ratio=None if own else _perplexity_ratio(found, base),
        relevance_ratio=None if own else mean_ratio(*_both(found, base, "relevance")),
        begins=None if own else _gain(found, base, "learnt", 1),
        goes_on=None if own else _gain(found, base, "learnt", 2),
        begins_fresh=None if own else _gain(found, base, "fresh", 1),
        goes_on_fresh=None if own else _gain(found, base, "fresh", 2),
    )


def _share(found: Found, name: str) -> Interval | None:
    flags = [v for f in found.values() for v in known(f["items"].get(name, []))]
    return proportion_interval(round(sum(flags)), len(flags)) if flags else None


def loop_flags(found: Any) -> list[float]:
    """1 where a sample loops, 0 where not: the short ones, then the long ones."""
    return [v for name in (SHORT, LONG) for v in known(found["items"].get(name, []))]


def more_loops(found: Found, other: Found) -> Interval | None:
    """Loop share of all samples, short and long, less another's on the same prompts."""
    a, b = (over_seeds([loop_flags(f) for f in rows.values()]) for rows in (found, other))
    return paired_difference(a, b)


def _both(found: Found, base: Found, name: str) -> tuple[Items, Items]:
    a, b = (
        over_seeds([f["items"].get(name, []) for f in rows.values()], logs=name == "perplexity")
        for rows in (found, base)
    )
    return a, b


def _perplexity_ratio(found: Found, base: Found) -> Interval | None:
    return median_ratio(*_both(found, base, "perplexity"))


def _gain(found: Found, base: Found, loops: str, repeat: int) -> Interval | None:
    gains = _gains(found, base, loops, repeat)
    return bootstrap_mean(gains) if gains else None


def _gains(found: Found, base: Found, loops: str, repeat: int) -> list[float]:
    """log p of this repeat under the student less under another, nats per token, by loop."""
    return [
        a[repeat - 1] - b[repeat - 1]
        for seed, f in found.items()
        for a, b in zip(f["repeats"][loops], base[seed]["repeats"][loops], strict=True)
        if len(a) >= repeat
    ]


def shown_text(found: Any) -> int:
    """Which planted text of a seed is shown: the one inside whose loop is seen about as well as
    most, by the median of D (rmse) under the plain student.
    """
    values = found["divergence"]["rmse"]["inside"]
    return int(np.argsort(values, kind="stable")[(len(values) - 1) // 2])

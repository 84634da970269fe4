"""What the measurements say, over the seeds of a group: differences from base, item by item.

Of each item the mean over the seeds is taken first, of perplexities the geometric one; intervals
are a bootstrap over items.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from results.items import mean_ratio, over_seeds
from results.side_effects.measure import OPPOSITE, OWN, Items
from steer_heal_love.maths.paired import complete_pairs, median_ratio, paired_difference
from steer_heal_love.maths.statistics import excludes_zero, proportion_interval, ratio_interval
from steer_heal_love.records import Interval
from steer_heal_love.report.states import read_mapping, read_number, read_rounds

RESAMPLES = 2000
SMALL = 0.1  # of the own axis's shift: less than that is unmoved, however sure it is
PULL = "pull"  # what the opposite persona's prompt does to the trait

Moved = Literal["unmoved", "moved"]


@dataclass(frozen=True)
class Own:
    """What a run has measured itself: its metrics, of so many long samples a student."""

    metrics: Mapping[str, Any]
    long_samples: int


@dataclass(frozen=True)
class Effects:
    """Of the students after a round, against base: shifts in nats per token, ratios, shares."""

    round: int
    runs: int
    shifts: Mapping[str, Interval | None]  # of answer pairs: own, opposite, pull, other axes
    capability_ratio: Interval | None  # of perplexities
    perplexity_ratio: Interval | None  # of answers to ordinary questions, as the next three
    relevance_ratio: Interval | None
    persona_shift: Interval | None
    more_loops: Interval | None
    persona_own: float | None  # the same shift on the axis's own probes, by the runs' metrics
    long_loops: Interval | None  # share of the run's own long samples
    long_loops_base: Interval | None

    def moved(self, name: str) -> Moved | None:
        """Whether a shift counts; None where it was not measured."""
        shift, own = self.shifts.get(name), self.shifts.get(OWN)
        return None if shift is None or own is None else moved(shift, own)


def moved(shift: Interval, own: Interval) -> Moved:
    """Unmoved where the interval holds zero, or the shift is below a tenth of the own axis's."""
    small = abs(shift.value) < SMALL * abs(own.value)
    return "moved" if excludes_zero(shift) and not small else "unmoved"


def effects(r: int, healed: Sequence[Items], base: Sequence[Items], runs: Sequence[Own]) -> Effects:
    """Of the students of a group after round r.

    Args:
        healed, base: what was measured, a run each.
        runs: what the runs themselves have measured.
    """
    mundane = {
        name: _both(healed, base, f"mundane_{name}", logs=name == "perplexity")
        for name in ("perplexity", "relevance", "persona_nats", "loops")
    }
    return Effects(
        round=r,
        runs=len(healed),
        shifts=_shifts(healed, base),
        capability_ratio=_capability(healed, base),
        perplexity_ratio=median_ratio(*mundane["perplexity"]),
        relevance_ratio=mean_ratio(*mundane["relevance"]),
        persona_shift=paired_difference(*mundane["persona_nats"]),
        more_loops=paired_difference(*mundane["loops"]),
        persona_own=_persona_own(runs, r),
        long_loops=_long_loops(runs, [_entry(run, r) for run in runs]),
        long_loops_base=_long_loops(runs, [_base(run) for run in runs]),
    )


Pair = tuple[list[float | None], list[float | None]]


def _both(healed: Sequence[Items], base: Sequence[Items], name: str, *, logs: bool = False) -> Pair:
    a, b = (over_seeds([items[name] for items in rows], logs=logs) for rows in (healed, base))
    return a, b


def _shifts(healed: Sequence[Items], base: Sequence[Items]) -> dict[str, Interval | None]:
    names = [name for name in healed[0] if name.startswith("pairs/")]
    found = {
        name.removeprefix("pairs/"): paired_difference(*_both(healed, base, name)) for name in names
    }
    return {OWN: found[OWN], OPPOSITE: found[OPPOSITE], PULL: _pull(healed, base), **found}


def _pull(healed: Sequence[Items], base: Sequence[Items]) -> Interval | None:
    """How much more the opposite persona's prompt moves the trait than it does in base."""
    a, b = (
        _difference(*(over_seeds([i[f"pairs/{n}"] for i in rows]) for n in (OPPOSITE, OWN)))
        for rows in (healed, base)
    )
    return paired_difference(a, b)


def _difference(a: Sequence[float | None], b: Sequence[float | None]) -> list[float | None]:
    return [None if x is None or y is None else x - y for x, y in zip(a, b, strict=True)]


def _capability(healed: Sequence[Items], base: Sequence[Items]) -> Interval | None:
    """exp of the surprise healed − base, a mean over all tokens of the paragraphs."""
    a, b = _both(healed, base, "capability_nats")
    # Where no token opens a text, one of each paragraph is not predicted: it hardly weighs.
    tokens = base[0]["capability_tokens"]
    more = [
        None if d is None or t is None else d * t
        for d, t in zip(_difference(a, b), tokens, strict=True)
    ]
    above, below = complete_pairs(more, tokens)
    if len(above) < 2:
        return None
    found = ratio_interval(above, below, resamples=RESAMPLES)
    return Interval(*(math.exp(v) for v in (found.value, found.low, found.high)))


def _entry(run: Own, r: int) -> Mapping[str, Any]:
    """The healed measurement of a round in a run's metrics."""
    found = [e for e in read_rounds(run.metrics) if e.get("round") == r]
    return read_mapping(found[0].get("healed")) if found else {}


def _base(run: Own) -> Mapping[str, Any]:
    return read_mapping(run.metrics.get("base"))


def _persona_own(runs: Sequence[Own], r: int) -> float | None:
    pairs = [
        (
            read_number(_entry(run, r).get("persona_nats")),
            read_number(_base(run).get("persona_nats")),
        )
        for run in runs
    ]
    known = [a - b for a, b in pairs if a is not None and b is not None]
    return fmean(known) if len(known) == len(pairs) else None


def _long_loops(runs: Sequence[Own], measured: Sequence[Mapping[str, Any]]) -> Interval | None:
    """Share of all runs' long samples that loop; None where a run has none."""
    shares = [read_number(m.get("long_loop_share")) for m in measured]
    loops = [
        None if s is None else round(s * r.long_samples) for s, r in zip(shares, runs, strict=True)
    ]
    known, total = [n for n in loops if n is not None], sum(run.long_samples for run in runs)
    return proportion_interval(sum(known), total) if len(known) == len(runs) and total else None

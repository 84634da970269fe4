"""The rivals of the base model that need no training: what each reaches, and at what cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from steer_heal_love.records import BARE, Interval, Measurement, Rival
from steer_heal_love.report.states import LOOPS, TRAIT, Grid, Run
from steer_heal_love.report.text.validity import mark_of
from steer_heal_love.report.text.words import number, one_line, percent, signed
from steer_heal_love.verdicts.coherence import BOUNDS, judge_bounds

HEAD = ("rival", "trait", "perplexity", "relevance", "distinct-2", "loops", "within the bounds")


@dataclass(frozen=True)
class RivalFigures:
    """What a rival reaches. Ratios are × base, measured on as many samples."""

    rival: Rival
    trait: Interval | None  # at base's entropy, nats per token
    perplexity: float | None
    relevance: float | None
    distinct: float | None
    loops: float | None  # share of the samples
    broken: Sequence[str]  # bounds that it does not keep, in words

    @property
    def bounds(self) -> str:
        """Whether it keeps the bounds, and those that it breaks."""
        return "yes" if not self.broken else f"no ({', '.join(self.broken)})"


def read_front(run: Run) -> list[RivalFigures]:
    """The rivals that the first round measured; none of runs that measured none, or of old ones."""
    front = run.rounds[0].front if run.rounds else ()
    bare = next((m for rival, m in front if rival.method == BARE.method), None)
    if bare is None:
        return []
    return [_read(rival, m, bare) for rival, m in front if rival.method != BARE.method]


def _read(rival: Rival, measured: Measurement, bare: Measurement) -> RivalFigures:
    perplexity, relevance = (_value(measured, f"{n}_ratio") for n in ("perplexity", "relevance"))
    if not _is_relevant(bare):
        relevance = None
    own, theirs = (_value(m, "distinct_2") for m in (measured, bare))
    distinct = own / theirs if own is not None and theirs else None
    loops, before = (_value(m, LOOPS) for m in (measured, bare))
    excess = None if loops is None or before is None else loops - before
    return RivalFigures(
        replace(rival, method=one_line(rival.method)),
        measured.figures.get(TRAIT),
        perplexity,
        relevance,
        distinct,
        loops,
        judge_bounds(perplexity, relevance, distinct, excess),
    )


def _value(measured: Measurement, name: str) -> float | None:
    figure = measured.figures.get(name)
    return None if figure is None else figure.value


def _is_relevant(bare: Measurement) -> bool:
    """Whether base's own answers are seen to be to the point: else no ratio says anything."""
    figure = bare.figures.get("relevance")
    return figure is not None and math.isfinite(figure.low) and figure.low > 0


def front_grid(run: Run) -> Grid | None:
    """A row per rival; None where there is none."""
    rivals = read_front(run)
    return Grid(HEAD, tuple(map(_cells, rivals))) if rivals else None


def _cells(r: RivalFigures) -> tuple[str, ...]:
    trait = "–" if r.trait is None else signed(r.trait.value)
    ratios = (r.perplexity, r.relevance, r.distinct)
    loops = "–" if r.loops is None else percent(r.loops)
    return (r.rival.words, trait, *(number(x) for x in ratios), loops, r.bounds)


def front_lines(run: Run) -> list[str]:
    """A line each, after one that says what they are; none where there are none."""
    grid = front_grid(run)
    if grid is None:
        return []
    mark = mark_of(run.verdicts, TRAIT)
    title = f"Rivals without training (trait at base's entropy{', ' + mark if mark else ''}):"
    lines = []
    for name, trait, perplexity, relevance, distinct, loops, bounds in grid.rows:
        cost = f"perplexity {perplexity} ×, relevance {relevance} ×, distinct-2 {distinct} × base"
        lines.append(f"  {name}: trait {trait}, {cost}, loops {loops}; within bounds: {bounds}.")
    return [title, *lines, f"  The bounds: {BOUNDS}."]

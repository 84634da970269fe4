"""The rivals of the base model that need no training: what each reaches, and at what cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steer_heal_love.records import BARE, Rival
from steer_heal_love.report.states import (
    LOOPS,
    TRAIT,
    Figure,
    Grid,
    read_figure,
    read_mapping,
    read_number,
    read_rounds,
)
from steer_heal_love.report.text.validity import mark_of
from steer_heal_love.report.text.words import number, one_line, percent, signed
from steer_heal_love.verdicts.coherence import BOUNDS, judge_bounds

HEAD = ("rival", "trait", "perplexity", "relevance", "distinct-2", "loops", "within the bounds")


@dataclass(frozen=True)
class RivalFigures:
    """What a rival reaches. Ratios are × base, measured on as many samples."""

    rival: Rival
    trait: Figure | None  # at base's entropy, nats per token
    perplexity: float | None
    relevance: float | None
    distinct: float | None
    loops: float | None  # share of the samples
    broken: Sequence[str]  # bounds that it does not keep, in words

    @property
    def bounds(self) -> str:
        """Whether it keeps the bounds, and those that it breaks."""
        return "yes" if not self.broken else f"no ({', '.join(self.broken)})"


def read_front(metrics: Mapping[str, Any]) -> list[RivalFigures]:
    """The rivals that the first round measured; none of runs that measured none, or of old ones."""
    rounds = read_rounds(metrics)
    entries = rounds[0].get("front") if rounds else None
    entries = [read_mapping(e) for e in entries] if isinstance(entries, list | tuple) else []
    known = [e for e in entries if isinstance(e.get("method"), str)]
    bare = next((e for e in known if e["method"] == BARE.method), None)
    if bare is None:
        return []
    return [_read(entry, bare) for entry in known if entry is not bare]


def _read(entry: Mapping[str, Any], bare: Mapping[str, Any]) -> RivalFigures:
    dose, temperature = (read_number(entry.get(name)) for name in ("dose", "temperature"))
    perplexity, relevance = (_value(entry, f"{n}_ratio") for n in ("perplexity", "relevance"))
    if not _is_relevant(bare):
        relevance = None
    own, theirs = (_value(e, "distinct_2") for e in (entry, bare))
    distinct = own / theirs if own is not None and theirs else None
    loops, before = (_value(e, LOOPS) for e in (entry, bare))
    excess = None if loops is None or before is None else loops - before
    return RivalFigures(
        Rival(one_line(entry["method"]), dose or 0.0, temperature or 1.0),
        read_figure(entry, TRAIT),
        perplexity,
        relevance,
        distinct,
        loops,
        judge_bounds(perplexity, relevance, distinct, excess),
    )


def _value(entry: Mapping[str, Any], name: str) -> float | None:
    figure = read_figure(entry, name)
    return None if figure is None else figure.value


def _is_relevant(bare: Mapping[str, Any]) -> bool:
    """Whether base's own answers are seen to be to the point: else no ratio says anything."""
    figure = read_figure(bare, "relevance")
    return figure is not None and figure.interval is not None and figure.interval[0] > 0


def front_grid(metrics: Mapping[str, Any]) -> Grid | None:
    """A row per rival; None where there is none."""
    rivals = read_front(metrics)
    return Grid(HEAD, tuple(map(_cells, rivals))) if rivals else None


def _cells(r: RivalFigures) -> tuple[str, ...]:
    trait = "–" if r.trait is None else signed(r.trait.value)
    ratios = (r.perplexity, r.relevance, r.distinct)
    loops = "–" if r.loops is None else percent(r.loops)
    return (r.rival.words, trait, *(number(x) for x in ratios), loops, r.bounds)


def front_lines(metrics: Mapping[str, Any]) -> list[str]:
    """A line each, after one that says what they are; none where there are none."""
    grid = front_grid(metrics)
    if grid is None:
        return []
    mark = mark_of(metrics, TRAIT)
    title = f"Rivals without training (trait at base's entropy{', ' + mark if mark else ''}):"
    lines = []
    for name, trait, perplexity, relevance, distinct, loops, bounds in grid.rows:
        cost = f"perplexity {perplexity} ×, relevance {relevance} ×, distinct-2 {distinct} × base"
        lines.append(f"  {name}: trait {trait}, {cost}, loops {loops}; within bounds: {bounds}.")
    return [title, *lines, f"  The bounds: {BOUNDS}."]

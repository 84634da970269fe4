"""Every completion of a round with scores, fate and reason, and how near it was to the line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from steer_heal_love.records import LEFT_OVER, Limits
from steer_heal_love.report.escape import make_visible
from steer_heal_love.report.states import read_mapping, read_number
from steer_heal_love.report.text.words import one_line

MOST_COMPLETIONS = 1000  # of a round in a page: the most borderline
SCORES = (
    "perplexity",
    "tail_perplexity",
    "window_perplexity",
    "word_repetition",
    "compression",
    "trait_nats",
    "relevance_nats",
)
_FLOORS = SCORES[-2:]  # the others have ceilings
# What no score decides: no distance to a limit would change such a fate.
_ABSOLUTE = frozenset({"empty", "truncated", "loop", "narration", "refusal"})


def explorer_rows(
    completions: Sequence[Mapping[str, Any]], limits: Limits | None
) -> list[dict[str, Any]]:
    """Completions as plain data for the page, the borderline ones first, at most so many."""
    edges = borderline(completions, limits)
    rows = [_row(c, edge) for c, edge in zip(completions, edges, strict=True)]
    rows.sort(key=lambda row: (row["edge"] is None, row["edge"]))
    return rows[:MOST_COMPLETIONS]


def borderline(
    completions: Sequence[Mapping[str, Any]], limits: Limits | None
) -> list[float | None]:
    """How near each completion was to the other fate: 0 at the line, 1 far from it.

    A distance of a score to its limit is the share of the round's completions that lie between the
    two. What passed is as near as its nearest limit; what was dropped as far as the farthest limit
    that it broke. None where no score decided, or the limits are not known.
    """
    if limits is None or not completions:
        return [None] * len(completions)
    scores = [read_mapping(c.get("scores")) for c in completions]
    gaps = [
        _gaps([read_number(s.get(name)) for s in scores], line, up=name not in _FLOORS)
        for name, line in _lines(limits).items()
    ]
    return [_edge(c, [column[i] for column in gaps]) for i, c in enumerate(completions)]


def _lines(limits: Limits) -> dict[str, float]:
    """What each score is held against."""
    return {name: getattr(limits if name in _FLOORS else limits.fit, name) for name in SCORES}


def _gaps(values: Sequence[float | None], line: float, *, up: bool) -> list[float | None]:
    """Signed distances of scores to a limit as shares of all of them; above 0: it is broken."""
    known = np.sort([v for v in values if v is not None])
    if not len(known) or not np.isfinite(line):
        return [None] * len(values)

    def gap(value: float) -> float:
        broken = value > line if up else value < line
        low, high = sorted((value, line))
        between = np.searchsorted(known, high, "right") - np.searchsorted(known, low, "left")
        share = max(int(between), 1) / len(known)
        return share if broken else -share

    return [None if v is None else gap(v) for v in values]


def _edge(completion: Mapping[str, Any], gaps: Sequence[float | None]) -> float | None:
    reasons = completion.get("reasons")
    if not isinstance(reasons, list) or _ABSOLUTE & set(map(str, reasons)):
        return None
    broken = [g for g in gaps if g is not None and g > 0]
    kept = [-g for g in gaps if g is not None and g <= 0]
    if set(map(str, reasons)) - LEFT_OVER:
        return round(max(broken), 3) if broken else None
    return round(min(kept), 3) if kept and not broken else None


def _row(completion: Mapping[str, Any], edge: float | None) -> dict[str, Any]:
    said = read_mapping(completion.get("completion"))
    scores = read_mapping(completion.get("scores"))
    reasons = completion.get("reasons")
    return {
        "kept": bool(completion.get("kept")),
        "reasons": [one_line(r) for r in reasons] if isinstance(reasons, list) else [],
        "edge": edge,
        "kappa": _rounded(said.get("kappa")),
        "scores": [_rounded(scores.get(name)) for name in SCORES],
        "prompt": make_visible(str(said.get("prompt", ""))),
        "text": make_visible(str(said.get("text", ""))),
    }


def _rounded(value: object) -> float | None:
    known = read_number(value)
    return None if known is None else round(known, 3)


def limits_words(limits: Limits | None) -> dict[str, float | None]:
    """The limit of each score, by name; empty where they are not known."""
    if limits is None:
        return {}
    return {name: _rounded(line) for name, line in _lines(limits).items()}

"""The loop round by round: the trait, and what it costs."""

from __future__ import annotations

from collections.abc import Callable

from results.page import table_of
from results.runs.chance import sampled
from results.runs.conditions import (
    round_at,
)
from results.runs.records import Round, SweepFigures
from results.runs.steering import beside_steering
from results.runs.tables import CAPABILITY, COHERENCE, LONG, ROUND, SHIFT, Columns, Row, by_round
from results.say import MISSING, nats, say


def _over_rounds(row: Row, figure: Callable[[Round], float | None]) -> str:
    rounds = [r for run in row.runs if (r := round_at(run, row.at))]
    return say(sampled([value for r in rounds if (value := figure(r)) is not None]))


def _kept(row: Row) -> str:
    rounds = [r for run in row.runs if (r := round_at(run, row.at))]
    return f"{sum(r.kept for r in rounds)} of {sum(r.total for r in rounds)}"


def _steering(row: Row, words: Callable[..., str]) -> str:
    steering = beside_steering(row.runs, row.pick)
    return words(steering) if steering else MISSING


LOOP_TRAIT: Columns = {
    **ROUND,
    "seeds": lambda r: str(len(r.runs)),
    "dose κ": lambda r: _over_rounds(r, lambda x: x.kappa),
    "kept": _kept,
    "D": lambda r: _over_rounds(r, lambda x: x.divergence),
    "cosine": lambda r: _over_rounds(r, lambda x: x.cosine_first),
    **SHIFT,
    "steering there": lambda r: _steering(r, lambda s: nats(s.shift)),
    "perplexity": lambda r: _steering(r, lambda s: s.reach),
}
LOOP_COST: Columns = {
    **ROUND,
    **COHERENCE,
    **LONG,
    **CAPABILITY,
}


def loop_tables(figures: SweepFigures) -> list[str]:
    """The trait by round, and what it costs."""
    rows = list(by_round({"healed": figures.runs}))
    return [table_of(LOOP_TRAIT, rows), table_of(LOOP_COST, rows)]

"""The loop round by round: the trait, what it costs, and what it was meant to reach."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from results.page import table_of
from results.runs.chance import sampled
from results.runs.conditions import (
    capability,
    healed_at,
    level,
    prompted,
    ratio,
    round_at,
    share_excess,
    trait_shift,
)
from results.runs.records import Round, Run, SweepFigures
from results.runs.steering import beside_steering
from results.runs.tables import CAPABILITY, COHERENCE, LONG, ROUND, SHIFT, Columns, Row, by_round
from results.say import MISSING, decided, nats, points, say
from steer_heal_love.records import Interval
from steer_heal_love.verdicts.answers import at_least, at_most

ROUNDS = 8
STEERING = 1.6  # × raw steering at the same perplexity, after eight rounds
PROMPTING = 3.0  # what "several times" of prompting is taken to be
RISING = 5  # rounds in which the trait does not fall


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
    **dict(list(COHERENCE.items())[:3]),
    "self-BLEU": lambda r: say(level(r.runs, r.pick, "self_bleu")),
    "loops": COHERENCE["loops"],
    **LONG,
    **CAPABILITY,
}


def loop_tables(figures: SweepFigures) -> list[str]:
    """The trait by round, and what it costs."""
    rows = list(by_round({"healed": figures.runs}))
    return [table_of(LOOP_TRAIT, rows), table_of(LOOP_COST, rows)]


@dataclass(frozen=True)
class Goal:
    """A bound on a figure. `figure` is None where the runs have not come so far."""

    words: str
    figure: Interval | None
    bound: float = 0.0
    most: bool = False  # else the bound is the least that will do
    say: Callable[[Interval | None], str] = nats

    @property
    def verdict(self) -> str:
        """Met, not met or not decided, and in the last case on which side the mean lies."""
        if self.figure is None:
            return "not reached yet"
        answer = (at_most if self.most else at_least)(self.figure, self.bound)
        said = decided(answer, yes="met", no="not met")
        if answer == "cannot tell":
            value = self.figure.value
            holds = value <= self.bound if self.most else value >= self.bound
            said += f"; the mean {'meets' if holds else 'misses'} it"
        return said


def goals_table(runs: Sequence[Run]) -> str:
    """A row a goal."""
    columns: dict[str, Callable[[Goal], str]] = {
        "goal": lambda g: g.words,
        "figure": lambda g: g.say(g.figure),
        "by its interval": lambda g: g.verdict,
    }
    return table_of(columns, [*first_goals(runs), *last_goals(runs)])


def first_goals(runs: Sequence[Run]) -> list[Goal]:
    """After round 0."""
    pick, start = healed_at(0), "round 0: trait shift at least "
    steering = beside_steering(runs, pick)
    many = trait_shift(runs, pick, prompted, PROMPTING)
    return [
        Goal(f"{start}raw steering's at the same perplexity, margin", steering and steering.margin),
        Goal(f"{start}{PROMPTING:g} × prompting's, margin", many),
    ]


def last_goals(runs: Sequence[Run]) -> list[Goal]:
    """After eight rounds, of the runs that have come so far."""
    pick, when = healed_at(ROUNDS - 1), f"{ROUNDS} rounds: "
    there = [run for run in runs if round_at(run, ROUNDS - 1)]
    steering = beside_steering(there, pick, STEERING)
    loops = share_excess(there, pick, "long_loop_share")
    goals = [
        Goal(
            f"trait shift at least {STEERING:g} × raw steering's at the same perplexity, margin",
            steering and steering.margin,
        ),
        Goal("perplexity at most 1.15 × base", ratio(there, pick, "perplexity"), 1.15, True, say),
        Goal("relevance at least 0.90 × base", ratio(there, pick, "relevance"), 0.9, say=say),
        Goal(
            "distinct-2 across answers at least 0.90 × base",
            ratio(there, pick, "distinct_2"),
            0.9,
            say=say,
        ),
        Goal("loops of long samples at most 3 points above base", loops, 0.03, True, points),
        Goal("capability perplexity at most 1.10 × base", capability(there, pick), 1.1, True, say),
    ]
    named = [Goal(when + g.words, g.figure, g.bound, g.most, g.say) for g in goals]
    return [*named, _rising(runs)]


def _rising(runs: Sequence[Run]) -> Goal:
    """Of the first rounds' steps, from base on, the one in which the trait rises least."""
    there = [run for run in runs if round_at(run, RISING - 1)]
    picks = [healed_at(number) for number in range(RISING)]
    steps = [trait_shift(there, picks[0]), *(trait_shift(there, b, a) for a, b in pairwise(picks))]
    known = [(step.low, at, step) for at, step in enumerate(steps) if step is not None]
    words = f"trait not falling in any of the first {RISING} rounds, least step"
    if not known:
        return Goal(words, None)
    _, at, least = min(known)
    return Goal(f"{words} (round {at})", least)

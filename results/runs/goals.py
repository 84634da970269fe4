"""What the default settings are meant to reach, each goal held against the runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from results.page import table
from results.runs.conditions import (
    capability,
    healed_at,
    prompted,
    ratio,
    round_at,
    share_excess,
    trait_shift,
)
from results.runs.records import Run
from results.runs.saying import decided, nats, points, times
from results.runs.steering import beside_steering
from steer_heal_love.records import Interval
from steer_heal_love.verdicts.answers import Answer, at_least, at_most

ROUNDS = 8
STEERING = 1.6  # × raw steering at the same perplexity, after eight rounds
PROMPTING = 3.0  # what "several times" of prompting is taken to be
PERPLEXITY, RELEVANCE, DIVERSITY = 1.15, 0.9, 0.9  # × base
LOOPS = 0.03  # above base, on long samples
CAPABILITY = 1.10  # × base
RISING = 5  # rounds in which the trait does not fall

Words = Callable[[Interval | None], str]


@dataclass(frozen=True)
class Goal:
    """A bound on a figure. `figure` is None where the runs have not come so far."""

    words: str
    figure: Interval | None
    say: Words
    least: float | None = None  # else `most` is set
    most: float | None = None
    note: str = ""

    @property
    def answer(self) -> Answer:
        """Whether the whole interval is on the right side of the bound."""
        if self.figure is None:
            return "cannot tell"
        if self.least is not None:
            return at_least(self.figure, self.least)
        assert self.most is not None
        return at_most(self.figure, self.most)

    @property
    def estimate_holds(self) -> bool:
        """Whether the mean alone is on the right side."""
        assert self.figure is not None
        value = self.figure.value
        return value >= self.least if self.least is not None else value <= (self.most or 0.0)

    @property
    def verdict(self) -> str:
        """Met, not met or not decided, and in the last case on which side the mean lies."""
        if self.figure is None:
            return "not reached yet"
        said = decided(self.answer, yes="met", no="not met")
        if self.answer == "cannot tell":
            said += f"; the mean {'meets' if self.estimate_holds else 'misses'} it"
        return said


def goals_words(runs: Sequence[Run]) -> str:
    """The table of all goals."""
    every = [*first_goals(runs), *last_goals(runs)]
    rows = [[g.words, g.say(g.figure), g.verdict] for g in every]
    notes = [f"{g.words.capitalize()}: {g.note}." for g in every if g.note]
    return "\n\n".join(
        [
            table(["goal", "figure", "by its interval"], rows),
            "A margin over so many times another shift is the difference of the two, in nats per "
            "token, so that at 0 the goal is just met.",
            *notes,
        ]
    )


def first_goals(runs: Sequence[Run]) -> list[Goal]:
    """After round 0."""
    steering = beside_steering(runs, healed_at(0))
    return [
        Goal(
            "round 0: trait shift at least raw steering's at the same perplexity, margin",
            steering.margin if steering else None,
            nats,
            least=0.0,
            note=steering.note if steering else "",
        ),
        Goal(
            f"round 0: trait shift at least {PROMPTING:g} × prompting's, margin",
            trait_shift(runs, healed_at(0), prompted, PROMPTING),
            nats,
            least=0.0,
        ),
    ]


def last_goals(runs: Sequence[Run]) -> list[Goal]:
    """After eight rounds, of the runs that have come so far."""
    pick = healed_at(ROUNDS - 1)
    there = [run for run in runs if round_at(run, ROUNDS - 1)]
    steering = beside_steering(there, pick, STEERING)
    when = f"{ROUNDS} rounds"
    return [
        Goal(
            f"{when}: trait shift at least {STEERING:g} × raw steering's at the same perplexity, "
            "margin",
            steering.margin if steering else None,
            nats,
            least=0.0,
            note=steering.note if steering else "",
        ),
        Goal(
            f"{when}: perplexity at most {PERPLEXITY:.2f} × base",
            ratio(there, pick, "perplexity"),
            times,
            most=PERPLEXITY,
        ),
        Goal(
            f"{when}: relevance at least {RELEVANCE:.2f} × base",
            ratio(there, pick, "relevance"),
            times,
            least=RELEVANCE,
        ),
        Goal(
            f"{when}: distinct-2 across answers at least {DIVERSITY:.2f} × base",
            ratio(there, pick, "distinct_2"),
            times,
            least=DIVERSITY,
        ),
        Goal(
            f"{when}: loops of long samples at most {100 * LOOPS:.0f} points above base",
            share_excess(there, pick, "long_loop_share"),
            points,
            most=LOOPS,
        ),
        Goal(
            f"{when}: capability perplexity at most {CAPABILITY:.2f} × base",
            capability(there, pick),
            times,
            most=CAPABILITY,
        ),
        _rising(runs),
    ]


def _rising(runs: Sequence[Run]) -> Goal:
    """Of the first rounds' steps, from base on, the one in which the trait rises least."""
    there = [run for run in runs if round_at(run, RISING - 1)]
    picks = [healed_at(number) for number in range(RISING)]
    steps = [trait_shift(there, picks[0]) if there else None]
    steps += [trait_shift(there, b, a) for a, b in pairwise(picks)]
    known = [step for step in steps if step is not None]
    least = min(known, key=lambda step: step.low, default=None) if there else None
    at = steps.index(least) if least is not None else None
    return Goal(
        f"trait not falling in any of the first {RISING} rounds, least step",
        least,
        nats,
        least=0.0,
        note=f"it is the step of round {at}" if at is not None else "",
    )

"""Eight rounds with the default settings, round by round, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from results.page import table
from results.runs.chance import sampled
from results.runs.conditions import (
    capability,
    healed_at,
    level,
    ratio,
    round_at,
    share,
    trait_shift,
)
from results.runs.goals import goals_words
from results.runs.records import Round, Run, SweepFigures
from results.runs.saying import (
    MISSING,
    made_of,
    nats,
    not_run,
    say,
    shares,
    times,
)
from results.runs.steering import beside_steering
from steer_heal_love.records import Interval
from steer_heal_love.report.text.words import number

TARGET = "results-loop"
NOTES = (
    "Kept: trained on, of all that were generated. D: divergence of the kept texts as the heal "
    "ended, by the run's own aggregate, nats. Cosine: of the round's direction with the first "
    "one. Steering there: the most that raw steering of the base model shifts the trait at no more "
    "perplexity than the healed model's; the last column is the healed shift over it."
)


def loop_words(found: Mapping[str, SweepFigures | None]) -> dict[str, str]:
    """The blocks `loop` and `loop-goals`."""
    figures = found["loop"]
    if figures is None or not figures.runs:
        return {"loop": not_run(TARGET), "loop-goals": not_run(TARGET)}
    runs = figures.runs
    rounds = range(max(len(run.rounds) for run in runs))
    parts = [
        made_of(figures, TARGET),
        table(TRAIT_HEAD, [_trait_row(_reached(runs, n), n) for n in rounds]),
        table(COST_HEAD, [_cost_row(_reached(runs, n), n) for n in rounds]),
        NOTES,
        *_notes(runs, rounds),
        "![The loop, round by round](results/loop.svg)",
    ]
    return {"loop": "\n\n".join(parts), "loop-goals": goals_words(runs)}


TRAIT_HEAD = ["round", "seeds", "dose κ", "kept", "D", "cosine", "trait shift", "steering there"]
TRAIT_HEAD += ["× that"]
COST_HEAD = ["round", "perplexity × base", "relevance × base", "distinct-2 × base", "self-BLEU"]
COST_HEAD += ["loops", "long loops", "capability × base"]


def _reached(runs: Sequence[Run], number_: int) -> list[Run]:
    return [run for run in runs if round_at(run, number_)]


def _trait_row(runs: Sequence[Run], at: int) -> list[str]:
    steering = beside_steering(runs, healed_at(at))
    rounds = [found for run in runs if (found := round_at(run, at))]
    return [
        str(at),
        str(len(runs)),
        say(over_rounds(rounds, lambda r: r.kappa), number),
        f"{sum(r.kept for r in rounds)} of {sum(r.total for r in rounds)}",
        say(over_rounds(rounds, lambda r: r.divergence), number),
        say(over_rounds(rounds, lambda r: r.cosine_first), number),
        nats(trait_shift(runs, healed_at(at))),
        nats(steering.shift) if steering else MISSING,
        number(steering.share) if steering else MISSING,
    ]


def over_rounds(
    rounds: Sequence[Round], figure: Callable[[Round], float | None]
) -> Interval | None:
    """A figure of the same round of all runs, over the seeds."""
    return sampled([value for r in rounds if (value := figure(r)) is not None])


def _cost_row(runs: Sequence[Run], at: int) -> list[str]:
    pick = healed_at(at)
    return [
        str(at),
        times(ratio(runs, pick, "perplexity")),
        times(ratio(runs, pick, "relevance")),
        times(ratio(runs, pick, "distinct_2")),
        say(level(runs, pick, "self_bleu"), number),
        shares(share(runs, pick, "loop_share")),
        shares(share(runs, pick, "long_loop_share")),
        times(capability(runs, pick)),
    ]


def _notes(runs: Sequence[Run], rounds: range) -> list[str]:
    """The rounds in which the front does not reach to the healed model's perplexity."""
    found: dict[str, list[str]] = {}
    for at in rounds:
        steering = beside_steering(_reached(runs, at), healed_at(at))
        if steering is not None and steering.note:
            found.setdefault(steering.note, []).append(str(at))
    said = [f"round {', '.join(where)}: {note}" for note, where in found.items()]
    return [f"Where the front does not reach: {'. '.join(said)}."] if said else []

"""Figures, answers and the state of a sweep in words, as the pages say them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from results.runs.conditions import seeds_of
from results.runs.records import Run, SweepFigures
from steer_heal_love.records import Interval
from steer_heal_love.report.text.words import number, percent, signed
from steer_heal_love.verdicts.answers import Answer

MISSING = "–"


def say(figure: Interval | None, words: Callable[[float], str]) -> str:
    """A figure with its interval in brackets, where it has bounds; a dash where there is none."""
    if figure is None:
        return MISSING
    value, low, high = (words(x) for x in (figure.value, figure.low, figure.high))
    bounded = math.isfinite(figure.low) and math.isfinite(figure.high)
    return f"{value} ({low} to {high})" if bounded and low != high else value


def nats(figure: Interval | None) -> str:
    """A shift of the trait."""
    return say(figure, signed)


def times(figure: Interval | None) -> str:
    """A multiple of base."""
    return say(figure, number)


def shares(figure: Interval | None) -> str:
    """A share of samples; it has an interval also where it is 0 %."""
    return say(figure, percent)


def points(figure: Interval | None) -> str:
    """A difference of two shares, in percentage points."""
    return say(figure, lambda value: f"{'+' if value >= 0 else ''}{number(100 * value, 0)}")


def decided(answer: Answer, *, yes: str = "yes", no: str = "no") -> str:
    """An answer, where the intervals give one."""
    return {"yes": yes, "no": no}.get(answer, "not decided")


def not_run(target: str) -> str:
    """What stands in the place of a table that there are no runs for."""
    return f"Not run yet: `make {target}`."


def made_of(figures: SweepFigures, target: str) -> str:
    """Which runs a block is of, and how far they are."""
    runs = figures.runs
    names = " and ".join(sorted({f"`{run.model}`" for run in runs}))
    axes = ", ".join(sorted({f"`{run.axis}`" for run in runs}))
    rounds = [len(run.rounds) for run in runs]
    done = sum(is_done(run, figures.rounds) for run in runs)
    said = (
        f"`make {target}` (`sweeps/{figures.name}.toml`): model {names}, axis {axes}, "
        f"{many(len(runs), 'run')} ({seeds_words(runs)}), {span(rounds)}."
    )
    if done < figures.trials:
        said += (
            f" **Not finished**: {done} of {many(figures.trials, 'run')} done, of "
            f"{many(figures.rounds, 'round')} each."
        )
    stopped = [f"{run.trial} ({run.rounds[-1].stopped})" for run in runs if run.rounds[-1].stopped]
    if stopped:
        said += f" Ended early by the coherence floor: {'; '.join(stopped)}."
    return said


def is_done(run: Run, rounds: int) -> bool:
    """Whether a run has all its rounds, or was ended early by the coherence floor."""
    return len(run.rounds) >= rounds or bool(run.rounds[-1].stopped)


def span(rounds: Sequence[int]) -> str:
    """How many rounds the runs have."""
    low, high = min(rounds), max(rounds)
    return many(high, "round") + " each" if low == high else f"{low} to {high} rounds each"


def many(count: int, noun: str) -> str:
    """A number of things."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def words_of(values: Sequence[object]) -> str:
    """Values after one another."""
    return ", ".join(map(str, values))


def seeds_words(runs: Sequence[Run]) -> str:
    """The seeds of the runs: "seed 0", "seeds 0, 1"."""
    seeds = seeds_of(runs)
    return f"seed{'' if len(seeds) == 1 else 's'} {words_of(seeds)}"


def bullets(lines: Sequence[str]) -> str:
    """A Markdown list."""
    return "\n".join(f"- {line}" for line in lines)

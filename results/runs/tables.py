"""What the tables of whole runs have in common: their rows, and columns by heading."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from results.runs.conditions import (
    Pick,
    capability,
    coherence,
    healed_at,
    ratio,
    round_at,
    seeds_of,
    share,
    trait_shift,
)
from results.runs.records import Run, SweepFigures
from results.say import decided, many, nats, say, shares

Found = Mapping[str, SweepFigures | None]  # by the name of the sweep
Groups = Mapping[str, Sequence[Run]]


@dataclass(frozen=True)
class Row:
    """A condition of some runs, under the words that the table's first column has for it."""

    words: str
    runs: Sequence[Run]
    pick: Pick
    at: int = 0  # the round
    others: Sequence[Run] = ()  # runs of the same seeds that these are held against


Columns = Mapping[str, Callable[[Row], str]]

COHERENCE: Columns = {
    "perplexity × base": lambda r: say(ratio(r.runs, r.pick, "perplexity")),
    "relevance × base": lambda r: say(ratio(r.runs, r.pick, "relevance")),
    "distinct-2 × base": lambda r: say(ratio(r.runs, r.pick, "distinct_2")),
    "loops": lambda r: shares(share(r.runs, r.pick, "loop_share")),
}
LONG: Columns = {"long loops": lambda r: shares(share(r.runs, r.pick, "long_loop_share"))}
CAPABILITY: Columns = {"capability × base": lambda r: say(capability(r.runs, r.pick))}
SHIFT: Columns = {"trait shift": lambda r: nats(trait_shift(r.runs, r.pick))}
SEEDS: Columns = {"seeds": lambda r: ", ".join(map(str, seeds_of(r.runs)))}
STATE: Columns = {"as coherent as base?": lambda r: state_of(r.runs, r.pick)}
ROUND: Columns = {"round": lambda r: str(r.at)}


def made_of(figures: SweepFigures) -> str:
    """Which runs a block is of, and how far they are."""
    runs = figures.runs
    lengths = [len(run.rounds) for run in runs]
    least = f"{min(lengths)} to " if min(lengths) < max(lengths) else ""
    names = " and ".join(sorted({f"`{run.model}`" for run in runs}))
    axes = ", ".join(sorted({f"`{run.axis}`" for run in runs}))
    seeds = seeds_of(runs)
    said = (
        f"`sweeps/{figures.name}.toml`: model {names}, axis {axes}, {many(len(runs), 'run')} "
        f"(seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}), "
        f"{least}{many(max(lengths), 'round')} each."
    )
    done = sum(len(r.rounds) >= figures.rounds or bool(r.rounds[-1].stopped) for r in runs)
    if done < figures.trials:
        asked = f"{many(figures.trials, 'run')} done, of {many(figures.rounds, 'round')} each"
        said += f" **Not finished**: {done} of {asked}."
    stopped = [f"{run.trial} ({run.rounds[-1].stopped})" for run in runs if run.rounds[-1].stopped]
    return said + (f" Ended early by the coherence floor: {'; '.join(stopped)}." if stopped else "")


def state_of(runs: Sequence[Run], pick: Pick) -> str:
    """Whether a condition is as coherent as base, and what is beyond its limit."""
    answer, broken = coherence(runs, pick)
    return decided(answer) + (f" ({', '.join(broken)})" if broken else "")


def by_round(groups: Groups) -> Iterator[Row]:
    """The healed models, of the runs that have come so far, groups side by side."""
    for at in range(max(len(run.rounds) for runs in groups.values() for run in runs)):
        for words, runs in groups.items():
            if there := [run for run in runs if round_at(run, at)]:
                yield Row(words, there, healed_at(at), at)

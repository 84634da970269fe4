"""One condition over all runs of a question: its figures against base, and against its rivals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from results.runs.chance import Estimate, excess, over_runs, paired, pooled, sampled
from results.runs.records import Measured, Round, Run
from steer_heal_love.maths.paired import Items, with_gaps
from steer_heal_love.records import Interval
from steer_heal_love.verdicts.answers import TRAIT, Answer, within
from steer_heal_love.verdicts.coherence import LOOP_EXCESS, PERPLEXITY_RATIO, RELEVANCE_SHARE

Pick = Callable[[Run], Measured | None]  # a condition of a run; None where it was not measured


def base_of(run: Run) -> Measured:
    """The untouched model."""
    return run.base


def prompted(run: Run) -> Measured:
    """The base model under the positive persona as system prompt."""
    return run.prompt_pos


def round_at(run: Run, number: int) -> Round | None:
    """A round of a run; None where it has not come so far."""
    return next((r for r in run.rounds if r.number == number), None)


def healed_at(number: int) -> Pick:
    """The healed model of a round."""
    return lambda run: r.healed if (r := round_at(run, number)) else None


def steered_at(number: int) -> Pick:
    """The student of a round's beginning, steered at the round's own dose."""
    return lambda run: r.steered if (r := round_at(run, number)) else None


def rival(name: str) -> Pick:
    """Another way to an adapter, from the texts of round 0."""
    return lambda run: r.rivals.get(name) if (r := round_at(run, 0)) else None


def front_at(kappa: float) -> Pick:
    """Raw steering of the base model at a dose of the front."""

    def pick(run: Run) -> Measured | None:
        first = round_at(run, 0)
        return next((d.measured for d in first.front if d.kappa == kappa), None) if first else None

    return pick


def of_same_seed(runs: Sequence[Run], pick: Pick) -> Pick:
    """For a run, the condition in that one of these which has the same seed."""
    by_seed = {run.seed: run for run in runs}
    return lambda run: pick(by_seed[run.seed])


def front_doses(runs: Sequence[Run]) -> list[float]:
    """The doses of raw steering that some run has measured, ascending."""
    firsts = [first for run in runs if (first := round_at(run, 0))]
    return sorted({dose.kappa for first in firsts for dose in first.front})


def trait_shift(runs: Sequence[Run], pick: Pick, against: Pick = base_of) -> Interval | None:
    """Mean over runs and items of the trait less another condition's, nats per token."""
    found = [_shift(run, pick(run), against(run)) for run in runs]
    return over_runs([e for e in found if e is not None])


def _shift(run: Run, measured: Measured | None, other: Measured | None) -> Estimate | None:
    if measured is None or other is None:
        return None
    own, theirs = above_base(run, measured), above_base(run, other)
    return paired(own, theirs) if own and theirs else None


def above_base(run: Run, measured: Measured) -> Items:
    """The trait of each item, less the base model's; empty where the items are others."""
    own, base = measured.items.get(TRAIT, ()), run.base.items.get(TRAIT, ())
    if len(own) != len(base):
        return ()
    above: list[float | None] = (with_gaps(own) - with_gaps(base)).tolist()
    return above


def ratio(runs: Sequence[Run], pick: Pick, name: str) -> Interval | None:
    """A figure of sampled texts as a multiple of base's, over the seeds."""
    found = [r for run in runs if (r := _ratio(run, pick(run), name)) is not None]
    return sampled([r.value for r in found], found[0] if found else None)


def _ratio(run: Run, measured: Measured | None, name: str) -> Interval | None:
    if measured is None:
        return None
    if measured is run.base:
        return Interval(1.0, 1.0, 1.0) if name in run.base.figures else None
    stored = measured.figures.get(f"{name}_ratio")
    if stored is not None:
        return _interval(stored)
    own, base = measured.figures.get(name), run.base.figures.get(name)
    if own is None or base is None or base[0] <= 0:
        return None
    return Interval(own[0] / base[0], -math.inf, math.inf)


def quotient(first: Sequence[Run], second: Sequence[Run], pick: Pick, name: str) -> Interval | None:
    """A ratio to base in the first runs over that in the second, pair by pair, over the seeds."""
    pairs = [
        (ratio([a], pick, name), ratio([b], pick, name)) for a, b in zip(first, second, strict=True)
    ]
    return sampled([a.value / b.value for a, b in pairs if a and b and b.value > 0])


def _interval(figure: tuple[float, float | None, float | None]) -> Interval:
    value, low, high = figure
    return Interval(value, -math.inf if low is None else low, math.inf if high is None else high)


def capability(runs: Sequence[Run], pick: Pick) -> Interval | None:
    """Perplexity of ordinary paragraphs × base: the geometric mean over the paragraphs."""
    name = "capability_nats"
    found = [
        paired(measured.items.get(name, ()), run.base.items.get(name, ()))
        for run in runs
        if (measured := pick(run)) is not None
    ]
    nats = over_runs([e for e in found if e is not None])
    if nats is None:
        return None
    return Interval(*(math.exp(min(x, 700.0)) for x in (nats.value, nats.low, nats.high)))


def share(runs: Sequence[Run], pick: Pick, name: str) -> Interval | None:
    """A share of the samples of all runs together."""
    return pooled([m.counts[name] for run in runs if (m := pick(run)) and name in m.counts])


def share_excess(
    runs: Sequence[Run], pick: Pick, name: str, against: Pick = base_of
) -> Interval | None:
    """A share less another condition's, of the same runs."""
    both = [run for run in runs if (m := pick(run)) and name in m.counts]
    return excess(share(both, pick, name), share(both, against, name))


def coherence(runs: Sequence[Run], pick: Pick) -> tuple[Answer, list[str]]:
    """Whether a condition is as coherent as base, and which measures clearly break their limit.

    By the limits that the verdicts on a run have for perplexity, relevance and loops.
    """
    perplexity = ratio(runs, pick, "perplexity")
    relevance = ratio(runs, pick, "relevance")
    loops = share_excess(runs, pick, "loop_share")
    answers: dict[str, Answer] = {}
    if perplexity is not None:
        answers["perplexity"] = within(perplexity, PERPLEXITY_RATIO, 1.0)
    if relevance is not None:
        loss = Interval(1 - relevance.value, 1 - relevance.high, 1 - relevance.low)
        answers["relevance"] = within(loss, 1 - RELEVANCE_SHARE, 0.0)
    if loops is not None:
        answers["loops"] = within(loops, LOOP_EXCESS, 0.0)
    broken = [name for name, answer in answers.items() if answer == "no"]
    if broken:
        return "no", broken
    every = perplexity is not None and all(a == "yes" for a in answers.values())
    return "yes" if every else "cannot tell", []


def seeds_of(runs: Sequence[Run]) -> list[int]:
    """The seeds of the runs, each once."""
    return sorted({run.seed for run in runs})

"""Is the healed model as coherent as base? Sentences on perplexity, loops and long answers."""

from __future__ import annotations

from steer_heal_love.report.states import (
    LOOPS,
    LOOPS_LIMIT,
    PERPLEXITY,
    PERPLEXITY_LIMIT,
    Items,
    State,
)
from steer_heal_love.report.text.ratios import bounds_words, ratio_to_base, times_words, values_of
from steer_heal_love.report.text.words import percent, plain, points

LONG = "long_"  # prefix of the figures of long samples


def judge_coherence(base: State, healed: State, items: Items) -> tuple[bool | None, str]:
    """Whether coherence was lost (None: not measured in full), and the sentences that say so."""
    lost_perplexity, perplexity = _perplexity(base, healed, items)
    lost_loops, loops = _loops(base, healed)
    said = [perplexity, loops, *_long(base, healed)]
    lost = (lost_perplexity, lost_loops)
    if True in lost:
        said.append("The healed model is less coherent than base.")
        return True, " ".join(said)
    said.append("Neither figure sees whether an answer fits its question: read the diary.")
    return (None if None in lost else False), " ".join(said)


def _perplexity(base: State, healed: State, items: Items) -> tuple[bool | None, str]:
    before, after = base.figure(PERPLEXITY), healed.figure(PERPLEXITY)
    own, theirs = values_of(items, "healed"), values_of(items, "base")
    ratio = ratio_to_base(healed.measurement, base.measurement, own, theirs)
    if before is None or after is None or ratio is None:
        return None, "Perplexity was not measured."
    lost = ratio.value > PERPLEXITY_LIMIT
    notes = [*bounds_words(ratio), *_limit(lost, f"{PERPLEXITY_LIMIT:g} times")]
    return lost, (
        f"Perplexity is {plain(after.value)} against {plain(before.value)}, "
        f"{ratio.value:.2f} times the base model's{_bracket(notes)}."
    )


def _loops(base: State, healed: State) -> tuple[bool | None, str]:
    before, after = base.figure(LOOPS), healed.figure(LOOPS)
    if before is None or after is None:
        return None, "Loops were not measured."
    excess = after.value - before.value
    lost = excess > LOOPS_LIMIT
    return lost, (
        f"{percent(after.value)} of its sampled answers loop against {percent(before.value)}, "
        f"{points(excess)}{_bracket(_limit(lost, points(LOOPS_LIMIT)))}."
    )


def _long(base: State, healed: State) -> list[str]:
    """Long answers, where they were sampled: drift and loops show late."""
    loops, base_loops = healed.figure(LONG + LOOPS), base.figure(LONG + LOOPS)
    ratio = ratio_to_base(healed.measurement, base.measurement, name=LONG + PERPLEXITY)
    said = []
    if loops:
        said.append(f"{percent(loops.value)} loop")
        if loops.interval:
            low, high = loops.interval
            said[-1] += f" ({percent(low)} to {percent(high)})"
        if base_loops:
            said[-1] += f" against {percent(base_loops.value)}"
    if ratio:
        said.append(f"perplexity is {times_words(ratio)}")
    return [f"Of its long answers: {', '.join(said)}."] if said else []


def _limit(lost: bool, limit: str) -> list[str]:
    return [f"over the limit of {limit}"] if lost else []


def _bracket(notes: list[str]) -> str:
    return f" ({'; '.join(notes)})" if notes else ""

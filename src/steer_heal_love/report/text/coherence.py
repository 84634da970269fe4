"""Is the healed model as coherent as base? Sentences on perplexity, loops and long answers."""

from __future__ import annotations

from steer_heal_love.records import Interval
from steer_heal_love.report.states import LOOPS, PERPLEXITY, State
from steer_heal_love.report.text.ratios import bounds_words, ratio_to_base, times_words
from steer_heal_love.report.text.sharpness import low_perplexity_words
from steer_heal_love.report.text.words import one_line, percent, plain, points
from steer_heal_love.verdicts import (
    LOOP_EXCESS,
    PERPLEXITY_RATIO,
    Answer,
    Verdict,
    judge_estimates,
    over_loops,
    over_perplexity,
)

LONG = "long_"  # prefix of the figures of long samples
_LESS = "The healed model is less coherent than base."
_UNSEEN = "Neither figure sees whether an answer fits its question: read the diary."


def judge_coherence(
    verdict: Verdict | None, base: State, healed: State
) -> tuple[Answer | None, str]:
    """Whether the healed model is as coherent as base, and the sentences that say so.

    The verdict of the run decides where it has one: it asks for whole intervals and relevance. Else
    the estimates do. A perplexity below base's makes it open where the model is sharpened, or where
    an older version did not measure that.

    Args:
        verdict: what `metrics.json` says of it; None where it says nothing.

    Returns:
        None as the answer where nothing is known to be lost, but perplexity or loops were not
        measured.
    """
    ratio = ratio_to_base(healed, base)
    excess, loops = _loops(base, healed)
    estimated = judge_estimates(ratio.value if ratio else None, excess)
    answer = estimated
    if verdict is not None and (verdict.answer == "no" or estimated is not None):
        answer = verdict.answer
    if answer == "yes" and low_perplexity_words(healed, ratio):
        answer = "cannot tell"
    lost = answer == estimated == "no"
    said = [
        _perplexity(base, healed, ratio),
        loops,
        *_long(base, healed),
        _LESS if lost else _UNSEEN,
    ]
    if verdict is not None and verdict.answer != "yes" and not lost:
        said.append(one_line(verdict.words))
    return answer, " ".join(said)


def _perplexity(base: State, healed: State, ratio: Interval | None) -> str:
    before, after = base.figure(PERPLEXITY), healed.figure(PERPLEXITY)
    if before is None or after is None or ratio is None:
        return "Perplexity was not measured."
    over = bool(over_perplexity(ratio.value))
    notes = [*bounds_words(ratio), *_limit(over, f"{PERPLEXITY_RATIO:g} times")]
    if low := low_perplexity_words(healed, ratio):
        notes.append(low)
    return (
        f"Perplexity is {plain(after.value)} against {plain(before.value)}, "
        f"{ratio.value:.2f} times the base model's{_bracket(notes)}."
    )


def _loops(base: State, healed: State) -> tuple[float | None, str]:
    """Loops less base's, and the sentence on them."""
    before, after = base.figure(LOOPS), healed.figure(LOOPS)
    if before is None or after is None:
        return None, "Loops were not measured."
    excess = after.value - before.value
    notes = _limit(bool(over_loops(excess)), points(LOOP_EXCESS))
    return excess, (
        f"{percent(after.value)} of its sampled answers loop against {percent(before.value)}, "
        f"{points(excess)}{_bracket(notes)}."
    )


def _long(base: State, healed: State) -> list[str]:
    """Long answers, where they were sampled: drift and loops show late."""
    loops, base_loops = healed.figure(LONG + LOOPS), base.figure(LONG + LOOPS)
    ratio = ratio_to_base(healed, base, LONG + PERPLEXITY)
    said = []
    if loops:
        said.append(f"{percent(loops.value)} loop")
        if loops.bounds:
            low, high = loops.bounds
            said[-1] += f" ({percent(low)} to {percent(high)})"
        if base_loops:
            said[-1] += f" against {percent(base_loops.value)}"
    if ratio:
        said.append(f"perplexity is {times_words(ratio)}")
    return [f"Of its long answers: {', '.join(said)}."] if said else []


def _limit(over: bool, limit: str) -> list[str]:
    return [f"over the limit of {limit}"] if over else []


def _bracket(notes: list[str]) -> str:
    return f" ({'; '.join(notes)})" if notes else ""

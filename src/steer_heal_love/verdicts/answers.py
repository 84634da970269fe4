"""What a verdict is, and how answers and intervals combine into one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from steer_heal_love.maths.paired import paired_difference
from steer_heal_love.records import Interval, Measurement

Answer = Literal["yes", "no", "cannot tell"]

TRAIT = "trait_nats"  # the instrument that verdicts rest on
PERSONA = "persona_nats"  # the score that the filter selects by
FORCED_CHOICE = "forced_choice"  # the moral vignettes, all foundations of the axis together
INVALID = "not valid on this model"


@dataclass(frozen=True)
class Verdict:
    """An answer with what it rests on. `interval` is the one that decides, 95 %."""

    answer: Answer
    figures: Mapping[str, float]
    interval: Interval | None
    rule: str
    words: str


@dataclass(frozen=True)
class Check:
    """One condition of a verdict."""

    answer: Answer
    figures: Mapping[str, float]
    words: str
    interval: Interval | None = None


def at_most(interval: Interval, limit: float) -> Answer:
    """Whether the whole interval is at or below the limit; open where it straddles it."""
    return "yes" if interval.high <= limit else "no" if interval.low > limit else "cannot tell"


def within(interval: Interval, limit: float, neutral: float) -> Answer:
    """Whether a loss stays within what is allowed, `limit − neutral`, where `neutral` is no loss.

    Yes: the estimate is within the limit, and the whole interval within twice the allowance. No:
    the estimate is beyond the limit, and the whole interval is on the side of loss. Else the data
    are too thin to say.
    """
    if interval.value <= limit:
        return "yes" if interval.high <= 2 * limit - neutral else "cannot tell"
    return "no" if interval.low > neutral else "cannot tell"


def at_least(interval: Interval, limit: float) -> Answer:
    """Whether the whole interval is at or above the limit; open where it straddles it."""
    return "yes" if interval.low >= limit else "no" if interval.high < limit else "cannot tell"


def above_zero(interval: Interval) -> Answer:
    """Whether the whole interval is above zero; open where it straddles it."""
    return "yes" if interval.low > 0 else "no" if interval.high <= 0 else "cannot tell"


def all_of(answers: Sequence[Answer]) -> Answer:
    """Yes where all are, no where one is, else open."""
    if "no" in answers:
        return "no"
    return "cannot tell" if "cannot tell" in answers else "yes"


def signed(interval: Interval, digits: int = 2) -> str:
    """A difference with its interval, in so many decimals."""
    value, low, high = (f"{x:+.{digits}f}" for x in (interval.value, interval.low, interval.high))
    return f"{value} ({low} to {high})".replace("-", "−")


def times(interval: Interval) -> str:
    """A ratio to base with its interval."""
    return f"{interval.value:.2f} × base ({interval.low:.2f} to {interval.high:.2f})"


def gate(
    figures: Mapping[str, float],
    interval: Interval | None,
    rule: str,
    valid: Verdict | None,
    coherence: Verdict,
) -> Verdict | None:
    """What there is to say without a look at the trait; None where it may be looked at."""
    if coherence.answer == "no":
        words = "The healed model is less coherent than base, so its trait counts for nothing."
        return Verdict("no", figures, interval, rule, words)
    if valid is None or valid.answer != "yes":
        return invalid(figures, interval, rule)
    return None


def invalid(figures: Mapping[str, float], interval: Interval | None, rule: str) -> Verdict:
    """The verdict where the instrument cannot see the trait."""
    words = f"The instrument is {INVALID}, so nothing rests on it."
    return Verdict("cannot tell", figures, interval, rule, words)


def trait_shift(after: Measurement, before: Measurement) -> Interval | None:
    """Paired difference of the trait; None where it was not measured on the same items."""
    return paired_difference(after.items.get(TRAIT, ()), before.items.get(TRAIT, ()))

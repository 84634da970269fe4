"""Figures with their intervals, as every table says them."""

from __future__ import annotations

import math
from collections.abc import Callable

from steer_heal_love.records import Interval
from steer_heal_love.report.text.words import number, percent, signed
from steer_heal_love.verdicts.answers import Answer

MISSING = "–"


def say(figure: Interval | None, words: Callable[[float], str] = number) -> str:
    """A figure with its interval in brackets, where it has bounds; a dash where there is none."""
    if figure is None:
        return MISSING
    value, low, high = (words(x) for x in (figure.value, figure.low, figure.high))
    bounded = math.isfinite(figure.low) and math.isfinite(figure.high)
    return f"{value} ({low} to {high})" if bounded and low != high else value


def nats(figure: Interval | None) -> str:
    """A shift of the trait."""
    return say(figure, signed)


def shares(figure: Interval | None) -> str:
    """A share of samples; it has an interval also where it is 0 %."""
    return say(figure, percent)


def points(figure: Interval | None) -> str:
    """A difference of two shares, in percentage points."""
    return say(figure, lambda value: f"{'+' if value >= 0 else ''}{number(100 * value, 0)}")


def decided(answer: Answer) -> str:
    """An answer, where the intervals give one."""
    return "not decided" if answer == "cannot tell" else answer


def many(count: int, noun: str) -> str:
    """A number of things."""
    return f"{count} {noun}{'' if count == 1 else 's'}"

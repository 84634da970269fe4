"""How far the trait moved between two conditions, and whether the data can tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from steer_heal_love.maths.statistics import excludes_zero
from steer_heal_love.records import Interval
from steer_heal_love.report.text.words import INTERVAL, signed


@dataclass(frozen=True)
class Shift:
    """A difference of the trait, after − before, in nats per token, with its grounds."""

    value: float
    direction: Literal["up", "down", "unclear"]
    grounds: str  # what the direction rests on

    @property
    def words(self) -> str:
        """The shift and its grounds."""
        return f"{signed(self.value)} ({self.grounds})"


def judge_shift(before: Interval, after: Interval, paired: Interval | None) -> Shift:
    """The shift with its direction, "unclear" where the intervals cannot tell it from none.

    Judged by the paired interval where there is one, else by whether the separate intervals of the
    two conditions overlap; without intervals it is unclear.
    """
    value = after.value - before.value
    if paired is not None:
        low, high = signed(paired.low), signed(paired.high)
        clear, grounds = excludes_zero(paired), f"paired {INTERVAL} {low} to {high}"
        return Shift(paired.value, _direction(paired.value, clear), grounds)
    overlap = _overlap(before, after)
    how = {
        None: "no intervals to judge it by",
        True: "the separate intervals overlap",
        False: "the separate intervals do not overlap",
    }[overlap]
    return Shift(value, _direction(value, overlap is False), f"no paired interval; {how}")


def _overlap(one: Interval, other: Interval) -> bool | None:
    """Whether two intervals share a point; None where one has no bounds."""
    if one.bounds is None or other.bounds is None:
        return None
    return one.low <= other.high and other.low <= one.high


def _direction(value: float, clear: bool) -> Literal["up", "down", "unclear"]:
    if not clear:
        return "unclear"
    return "up" if value > 0 else "down"

"""When a completion in the making has gone wrong, and how far back it was still right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from steer_heal_love.maths.repetition import first_run


@dataclass(frozen=True)
class Backtrack:
    """How a completion is watched under the base model, and what happens where it goes wrong.

    Raises ValueError where a number is out of its range.
    """

    every: int = 16  # generated tokens between two looks: a matter of cost, never of the text
    window: int = 16  # tokens of the running mean
    spike_nats: float = 3.5  # a window whose mean surprise under the base model is above is a spike
    margin: int = 4  # tokens before the first bad one that are drawn again too
    max_rewinds: int = 2  # of a row; the next fault drops it
    factor: float = 0.5  # on the row's dose, with each rewind

    def __post_init__(self) -> None:
        if min(self.every, self.window) < 1 or min(self.margin, self.max_rewinds) < 0:
            raise ValueError("backtracking: every and window are at least 1, the others at least 0")
        if not self.spike_nats > 0.0 or not 0.0 <= self.factor < 1.0:
            raise ValueError("backtracking: spike_nats is above 0, factor from 0 to below 1")


@dataclass(frozen=True)
class Fault:
    """The token at which it shows that a text went wrong, and the first one to draw again."""

    at: int
    back_to: int


def first_fault(
    surprise: Float[Tensor, " tokens"], tokens: Sequence[int], how: Backtrack
) -> Fault | None:
    """The earliest fault, or None: a spike of the base model's surprise (nats), or a loop.

    A spike shows where the mean over `how.window` tokens first exceeds `how.spike_nats`, and began
    at the first token of that window that exceeds it. A loop is `first_run`'s, and began at its
    second copy. What comes after `at` plays no part, so a text that is looked at while it grows
    has the same first fault however often it is looked at.
    """
    spots = [_first_spike(surprise, how), first_run(tokens)]
    faults = [Fault(at, max(0, bad - how.margin)) for at, bad in filter(None, spots)]
    return min(faults, key=lambda fault: (fault.at, fault.back_to), default=None)


def _first_spike(surprise: Tensor, how: Backtrack) -> tuple[int, int] | None:
    """(last token of the first window above the limit, its first token above it)."""
    if len(surprise) < how.window:
        return None
    windows = surprise.double().unfold(0, how.window, 1)
    above = (windows.mean(-1) > how.spike_nats).nonzero()
    if len(above) == 0:
        return None
    start = int(above[0])
    bad = start + int((windows[start] > how.spike_nats).int().argmax())
    return start + how.window - 1, bad

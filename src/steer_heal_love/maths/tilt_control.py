"""How strongly the teacher is tilted next, as a pure decision on what the last texts showed."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass, fields
from typing import Literal

Bound = Literal["divergence", "entropy", "repetition", "relevance", "ended"]


@dataclass(frozen=True)
class TiltStrength:
    """What the controller moves. A part that is 0 is off, and stays so.

    Raises ValueError where a part is negative or not finite.
    """

    contrast: float  # γ, on the contrast of the personas
    kappa: float  # κ, the dose whose odd part the teacher is tilted by
    steering: float  # a, on that odd part

    def __post_init__(self) -> None:
        """Refuse what is no strength."""
        if not all(0 <= part < math.inf for part in astuple(self)):
            raise ValueError(f"a tilt's parts are finite and not negative, not {self}")


@dataclass(frozen=True)
class Measured:
    """What the student's fresh texts showed; None is not measured, which hits no bound."""

    divergence: float | None  # the barrier's D, mean over sequences, nats
    entropy_lost: float | None  # the base's less the student's, nats a token
    repetition: float | None  # share of the texts that repeat
    relevance: float | None  # as a multiple of the base's
    ended: float | None  # share of the texts that end, as a multiple of the base's


@dataclass(frozen=True)
class Bounds:
    """How far the student may go; a value on its bound is inside."""

    divergence: float  # τ, at most, nats
    entropy: float  # at most, nats a token that are lost or gained
    repetition: float  # at most
    relevance: float  # at least
    ended: float  # at least

    def hit_by(self, measured: Measured) -> tuple[Bound, ...]:
        """The bounds that a measurement is outside of, in the order above; NaN is outside."""
        m = measured
        inside: list[tuple[Bound, bool]] = [
            ("divergence", m.divergence is None or m.divergence <= self.divergence),
            ("entropy", m.entropy_lost is None or abs(m.entropy_lost) <= self.entropy),
            ("repetition", m.repetition is None or m.repetition <= self.repetition),
            ("relevance", m.relevance is None or m.relevance >= self.relevance),
            ("ended", m.ended is None or m.ended >= self.ended),
        ]
        return tuple(bound for bound, holds in inside if not holds)


@dataclass(frozen=True)
class Pace:
    """How fast the strength moves, and between which strengths.

    The ends hold for each part by itself. A `lowest` above 0 keeps the way back short; it does not
    switch on a part that is off. Falling faster than rising spends fewer steps outside.

    Raises ValueError unless rise ≥ 1, 0 < fall ≤ 1 and `lowest` ≤ `highest` in each part.
    """

    highest: TiltStrength
    lowest: TiltStrength = TiltStrength(0.0, 0.0, 0.0)
    rise: float = 1.05  # factor a step while all is inside its bounds
    fall: float = 0.9  # factor a step while something is not

    def __post_init__(self) -> None:
        """Refuse a pace that goes the wrong way or has no room."""
        if not (1 <= self.rise < math.inf and 0 < self.fall <= 1):
            raise ValueError(f"a pace needs rise >= 1 and 0 < fall <= 1, not {self}")
        ends = zip(astuple(self.lowest), astuple(self.highest), strict=True)
        if not all(low <= high for low, high in ends):
            raise ValueError(f"a pace's lowest strength is above its highest: {self}")


@dataclass(frozen=True)
class TiltDecision:
    """The strength of the next step, and the bounds that were hit (none where it rose or held)."""

    strength: TiltStrength
    hit: tuple[Bound, ...]


def next_strength(
    strength: TiltStrength, measured: Measured, bounds: Bounds, pace: Pace
) -> TiltDecision:
    """All parts times `rise` where every measurement is inside its bound, times `fall` where not.

    Each part is then held between the pace's ends. Where nothing was measured nothing is known, so
    nothing rises or falls.
    """
    hit = bounds.hit_by(measured)
    unknown = all(value is None for value in astuple(measured))
    factor = pace.fall if hit else 1.0 if unknown else pace.rise
    return TiltDecision(TiltStrength(*_moved(strength, pace, factor)), hit)


def _moved(strength: TiltStrength, pace: Pace, factor: float) -> list[float]:
    """Each part times the factor, inside of its ends; 0 stays 0."""
    parts = []
    for field in fields(TiltStrength):
        part, low, high = (getattr(s, field.name) for s in (strength, pace.lowest, pace.highest))
        parts.append(min(max(part * factor, low), high) if part > 0 else 0.0)
    return parts

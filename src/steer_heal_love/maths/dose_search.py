"""The search for a dose as pure decisions: a caller probes, these say which dose comes next.

Both searches are frozen states with the same three names, so that a caller writes

    while not search.settled:
        search = search.update(kept_share_at(search.kappa))
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Walk:
    """The dose walk of the method: from `start`, times `decay`, until enough is kept.

    Raises ValueError unless 0 < minimum ≤ start, 0 < decay < 1 and 0 ≤ target_keep ≤ 1.
    """

    start: float  # κ₀
    decay: float  # factor on κ per step
    minimum: float  # κ_min, the last dose worth a probe
    target_keep: float  # share of completions to keep

    def __post_init__(self) -> None:
        """Refuse a walk that goes nowhere or never ends."""
        if not 0 < self.minimum <= self.start < math.inf:
            raise ValueError(f"a walk needs 0 < minimum <= start, not {self.minimum}, {self.start}")
        if not 0 < self.decay < 1:
            raise ValueError(f"decay must be between 0 and 1, not {self.decay}")
        if not 0 <= self.target_keep <= 1:
            raise ValueError(f"target_keep is a share, 0 to 1, not {self.target_keep}")


def next_kappa(kappa: float, keep_fraction: float, walk: Walk) -> float | None:
    """The dose after `kappa`, or None to settle where the target is reached."""
    return None if keep_fraction >= walk.target_keep else kappa * walk.decay


def walk_exhausted(kappa: float, walk: Walk) -> bool:
    """Whether the dose has fallen under the walk's minimum."""
    return kappa < walk.minimum


@dataclass(frozen=True)
class WalkState:
    """Where a walk stands: the dose to probe next, or the one it settled on.

    `reached` tells a walk that met its target from one that ran out of doses; the latter's
    `kappa` is the last dose that was probed.
    """

    walk: Walk
    kappa: float
    settled: bool = False
    reached: bool = False

    @classmethod
    def begin(cls, walk: Walk) -> WalkState:
        """At the start, with nothing probed."""
        return cls(walk, walk.start)

    def update(self, keep_fraction: float) -> WalkState:
        """The state after `kappa` was probed and this share of all completions was kept."""
        kappa = next_kappa(self.kappa, keep_fraction, self.walk)
        if kappa is None:
            return replace(self, settled=True, reached=True)
        if walk_exhausted(kappa, self.walk):
            return replace(self, settled=True)
        return replace(self, kappa=kappa)


@dataclass(frozen=True)
class Bracket:
    """What a bisection may try, and when it has seen enough.

    Raises ValueError unless 0 < minimum ≤ maximum, step > 1, tolerance > 0 and
    0 ≤ target_keep ≤ 1.
    """

    minimum: float  # κ_min, the last dose worth a probe
    maximum: float  # the highest dose worth one
    target_keep: float  # share of completions to keep
    step: float = 1.6  # factor on κ until one dose keeps enough and another too little
    tolerance: float = 0.25  # width of the settled bracket, in log κ

    def __post_init__(self) -> None:
        """Refuse a bracket that holds nothing or never closes."""
        if not 0 < self.minimum <= self.maximum < math.inf:
            raise ValueError(
                f"a bracket needs 0 < minimum <= maximum, not {self.minimum} to {self.maximum}"
            )
        if not 0 <= self.target_keep <= 1:
            raise ValueError(f"target_keep is a share, 0 to 1, not {self.target_keep}")
        if not 1 < self.step < math.inf:
            raise ValueError(f"step must be a factor above 1, not {self.step}")
        if not self.tolerance > 0:
            raise ValueError(f"tolerance must be positive, not {self.tolerance}")


@dataclass(frozen=True)
class Bisection:
    """Towards the largest dose that still keeps `target_keep`, halving a bracket in log κ.

    From a first guess it steps up or down by a factor until the guess is bracketed; a guess that is
    close, such as the last round's dose, costs few probes. `safe` was probed and kept enough,
    `broken` was probed and did not. Assumes that the kept share does not rise with the dose.
    """

    bracket: Bracket
    guess: float
    safe: float | None = None
    broken: float | None = None
    probes: int = 0

    @classmethod
    def begin(cls, bracket: Bracket, guess: float) -> Bisection:
        """With nothing probed; a guess outside of the bracket is moved to its edge."""
        return cls(bracket, min(max(guess, bracket.minimum), bracket.maximum))

    @property
    def reached(self) -> bool:
        """Whether a dose was found that keeps enough."""
        return self.safe is not None

    @property
    def settled(self) -> bool:
        """Whether no probe is left to make: the bracket is closed, or one of its edges decided."""
        if self.safe is None:
            return self.broken is not None and self.broken <= self.bracket.minimum
        if self.broken is None:
            return self.safe >= self.bracket.maximum
        # 1e-9: a bracket that is as wide as the tolerance but for rounding is closed
        return math.log(self.broken / self.safe) <= self.bracket.tolerance * (1 + 1e-9)

    @property
    def kappa(self) -> float:
        """The dose to probe next; once settled the highest that keeps enough, else the minimum."""
        if self.settled:
            return self.bracket.minimum if self.safe is None else self.safe
        if self.broken is None:
            if self.safe is None:
                return self.guess
            return min(self.safe * self.bracket.step, self.bracket.maximum)
        if self.safe is None:
            return max(self.broken / self.bracket.step, self.bracket.minimum)
        return math.sqrt(self.safe * self.broken)

    def update(self, keep_fraction: float) -> Bisection:
        """The state after `kappa` was probed and this share of all completions was kept."""
        probes = self.probes + 1
        if keep_fraction >= self.bracket.target_keep:
            return replace(self, safe=self.kappa, probes=probes)
        return replace(self, broken=self.kappa, probes=probes)

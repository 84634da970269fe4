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
class Bisection:
    """A bracket around the largest dose that still keeps `target_keep`, halved in log κ.

    `low` is the safe end: once `reached`, it was probed and kept enough. Assumes that the kept
    share does not rise with the dose.
    """

    low: float
    high: float
    target_keep: float
    tolerance: float  # width of the settled bracket, in log κ
    probes: int = 0
    reached: bool = False

    @property
    def settled(self) -> bool:
        """Whether the bracket is no wider than the tolerance (but for rounding)."""
        return math.log(self.high / self.low) <= self.tolerance * (1 + 1e-9) + 1e-12

    @property
    def kappa(self) -> float:
        """The dose to probe next, or the safe end of the bracket once settled."""
        return self.low if self.settled else self.propose()

    @property
    def probes_at_most(self) -> int:
        """How many more probes settle it: `ceil(log2(log(high / low) / tolerance))`."""
        if self.settled:
            return 0
        return math.ceil(math.log2(math.log(self.high / self.low) / self.tolerance) - 1e-9)

    def propose(self) -> float:
        """The middle of the bracket in log κ: `sqrt(low · high)`, always inside it."""
        middle = math.exp((math.log(self.low) + math.log(self.high)) / 2)
        return min(max(middle, self.low), self.high)

    def update(self, kept_share: float) -> Bisection:
        """The half of the bracket that the kept share at `propose()` points to."""
        middle, probes = self.propose(), self.probes + 1
        if kept_share >= self.target_keep:
            return replace(self, low=middle, probes=probes, reached=True)
        return replace(self, high=middle, probes=probes)


def bisect_log_kappa(
    low: float, high: float, *, target_keep: float, tolerance: float = 0.05
) -> Bisection:
    """A bisection over doses `low` to `high`, to within `tolerance` in log κ (0.05: 5 %).

    Raises ValueError unless 0 < low ≤ high, 0 ≤ target_keep ≤ 1 and tolerance > 0.
    """
    if not 0 < low <= high < math.inf:
        raise ValueError(f"a bracket needs 0 < low <= high, not {low} to {high}")
    if not 0 <= target_keep <= 1:
        raise ValueError(f"target_keep is a share, 0 to 1, not {target_keep}")
    if not tolerance > 0:
        raise ValueError(f"tolerance must be positive, not {tolerance}")
    return Bisection(low, high, target_keep, tolerance)

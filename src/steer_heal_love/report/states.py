"""The figures of a run's metrics, read from plain JSON data that may be unfinished."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steer_heal_love.maths.statistics import paired_bootstrap
from steer_heal_love.records import Interval

TRAIT = "trait_nats"
RAW = "trait_raw_nats"  # the trait at temperature 1; older runs hold it under the name `TRAIT`
PERPLEXITY = "perplexity"
LOOPS = "loop_share"

# condition → instrument → one value per item, None where an item has none
Items = Mapping[str, Mapping[str, Sequence[float | None]]]


@dataclass(frozen=True)
class Figure:
    """An estimate with its 95 % interval, where it has one with finite bounds."""

    value: float
    interval: tuple[float, float] | None = None

    def overlaps(self, other: Figure) -> bool | None:
        """Whether the two intervals share a point; None where one is missing."""
        if self.interval is None or other.interval is None:
            return None
        return self.interval[0] <= other.interval[1] and other.interval[0] <= self.interval[1]


@dataclass(frozen=True)
class State:
    """One state of the model on its way: base, or a round's steered or healed model."""

    position: float  # 0 base, 1 + 2 r steered, 2 + 2 r healed
    condition: str  # base, steered or healed; in the first round also a rival's name
    round: int | None  # from 0; None for base
    measurement: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The state in words."""
        return self.condition if self.round is None else f"round {self.round} {self.condition}"

    def figure(self, name: str) -> Figure | None:
        """A figure of this state, where it was measured."""
        return read_figure(self.measurement, name)


def read_number(value: object) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def read_figure(measurement: object, name: str) -> Figure | None:
    """A figure of a measurement with its interval; None where it was not measured."""
    value = read_number(read_mapping(measurement).get(name))
    if value is None:
        return None
    bounds = read_mapping(read_mapping(measurement).get("intervals")).get(name)
    if not isinstance(bounds, list | tuple) or len(bounds) != 2:
        return Figure(value)
    low, high = read_number(bounds[0]), read_number(bounds[1])
    return Figure(value) if low is None or high is None else Figure(value, (low, high))


def figure_of(interval: Interval) -> Figure:
    """An interval as a figure, without bounds where they are not finite."""
    bounded = math.isfinite(interval.low) and math.isfinite(interval.high)
    return Figure(interval.value, (interval.low, interval.high) if bounded else None)


def read_mapping(value: object) -> Mapping[str, Any]:
    """The mapping, or an empty one where it is missing."""
    return value if isinstance(value, Mapping) else {}


def read_rounds(metrics: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rounds of a run in order, as far as it went."""
    rounds = metrics.get("rounds")
    return [read_mapping(r) for r in rounds] if isinstance(rounds, list | tuple) else []


def pipeline_states(metrics: Mapping[str, Any]) -> list[State]:
    """The measured states in the order of the method: base, then steered and healed each round."""
    measured = [State(0, "base", None, read_mapping(metrics.get("base")))]
    for r, entry in enumerate(read_rounds(metrics)):
        for offset, condition in enumerate(("steered", "healed"), start=1):
            measurement = read_mapping(entry.get(condition))
            measured.append(State(2 * r + offset, condition, r, measurement))
    return [state for state in measured if state.measurement]


def last_healed(metrics: Mapping[str, Any]) -> State | None:
    """The newest healed state."""
    healed = [state for state in pipeline_states(metrics) if state.condition == "healed"]
    return healed[-1] if healed else None


def paired_shift(items: Items, before: str, after: str, name: str = TRAIT) -> Interval | None:
    """The mean difference per item between two conditions, after − before, with its interval.

    None where the conditions do not hold the same items, or fewer than two have a value in both.
    """
    old, new = items.get(before, {}).get(name, ()), items.get(after, {}).get(name, ())
    if len(old) != len(new):
        return None
    pairs = [(read_number(a), read_number(b)) for a, b in zip(old, new, strict=True)]
    shifts = [b - a for a, b in pairs if a is not None and b is not None]
    return paired_bootstrap(shifts) if len(shifts) > 1 else None


@dataclass(frozen=True)
class Grid:
    """A table of words: a heading per column, and rows as long."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

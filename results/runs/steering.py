"""A condition beside raw steering of the base model at the condition's own perplexity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from results.runs.chance import Estimate, over_runs
from results.runs.conditions import Pick, above_base, round_at
from results.runs.records import Measured, Run
from steer_heal_love.maths.front import FrontPoint, Matched, match_perplexity
from steer_heal_love.records import Interval

Place = Literal["within", "below", "beyond"]  # where a model's perplexity is on the front

_Z = 1.959964  # a 95 % interval's half-width in standard errors


@dataclass(frozen=True)
class Steering:
    """A model beside raw steering of the base model at the model's own perplexity."""

    shift: Interval  # the most that steering shifts the trait at no more perplexity
    margin: Interval  # the model's shift less that
    places: Counter[Place]  # runs by where the model's perplexity is on the front

    @property
    def reach(self) -> str:
        """In how many runs the model's perplexity is off the front; empty where it never is."""
        runs = sum(self.places.values())
        said = {"below": "below every dose", "beyond": "beyond every dose"}
        return ", ".join(
            f"{words} in {self.places[place]} of {runs}"
            for place, words in said.items()
            if self.places[place]
        )


def beside_steering(runs: Sequence[Run], pick: Pick) -> Steering | None:
    """A condition against raw steering; None where no run has measured a front."""
    pairs = [(run, measured) for run in runs if (measured := pick(run)) is not None]
    found = [matched for pair in pairs if (matched := _match(*pair)) is not None]
    shift = over_runs([steering for steering, _, _ in found])
    margin = over_runs([margin for _, margin, _ in found])
    if shift is None or margin is None:
        return None
    return Steering(shift, margin, Counter(place for _, _, place in found))


def _match(run: Run, measured: Measured) -> tuple[Estimate, Estimate, Place] | None:
    """Of one run: steering's shift, the model's margin over it, and the place on the front."""
    first, own = round_at(run, 0), tuple(above_base(run, measured))
    doses = [(dose.kappa, dose.measured) for dose in first.front] if first else []
    front = tuple(
        (kappa, tuple(above_base(run, m)), m.items.get("perplexity", ()))
        for kappa, m in [(0.0, run.base), *doses]
    )
    perplexity = measured.items.get("perplexity", ())
    if not own or not perplexity or not doses:
        return None
    nothing, margin = (_matched(t, perplexity, front) for t in ((0.0,) * len(own), own))
    if nothing is None or margin is None:
        return None
    less = _estimate(nothing.advantage, len(own))
    place: Place = "within" if margin.bracketed else "beyond"
    if margin.perplexity < margin.lowest:
        place = "below"
    steering = Estimate(-less.value, less.error, less.items)
    return steering, _estimate(margin.advantage, len(own)), place


@cache  # the tables and the figure ask for the same ones
def _matched(
    trait: tuple[float | None, ...],
    perplexity: tuple[float | None, ...],
    front: tuple[tuple[float, tuple[float | None, ...], tuple[float | None, ...]], ...],
) -> Matched | None:
    """The trait and the front's at the model's perplexity."""
    return match_perplexity(trait, perplexity, [FrontPoint(*point) for point in front])


def _estimate(interval: Interval, items: int) -> Estimate:
    return Estimate(interval.value, (interval.high - interval.low) / (2 * _Z), items)

"""What a search looks for, as numbers of a run's round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steer_heal_love.report.states import (
    LOOPS,
    PERPLEXITY,
    TRAIT,
    read_mapping,
    read_number,
    read_rounds,
)
from steer_heal_love.sweep.settings import Search
from steer_heal_love.verdicts.coherence import over_loops, over_perplexity

HOPELESS = -1e6  # the score of a trial that failed
PENALTY = 100.0  # nats that a violation of 1 costs: more than any trait gains


@dataclass(frozen=True)
class Judgement:
    """What a round's healed model is worth to a search."""

    rounds: int  # finished so far
    trait_nats: float
    perplexity_ratio: float
    loop_excess: float
    score: float  # the trait where the bounds are kept; else less the further they are exceeded
    within: bool  # the bounds
    stopped: bool  # the loop ended itself: the model is incoherent

    @property
    def front(self) -> tuple[float, float]:
        """What `objective = "front"` wants great and small."""
        return self.trait_nats, self.perplexity_ratio


def judge_round(metrics: Mapping[str, Any], rounds: int, search: Search) -> Judgement | None:
    """What a run is worth after so many rounds; None where a figure is missing."""
    done, base = read_rounds(metrics)[:rounds], read_mapping(metrics.get("base"))
    if not done:
        return None
    healed = read_mapping(done[-1].get("healed"))
    trait = read_number(healed.get(TRAIT))
    perplexity, before = (read_number(m.get(PERPLEXITY)) for m in (healed, base))
    loops, loops_before = (read_number(m.get(LOOPS)) for m in (healed, base))
    if trait is None or perplexity is None or not before or loops is None or loops_before is None:
        return None
    ratio, excess = perplexity / before, loops - loops_before
    violation = over_perplexity(ratio, search.max_perplexity_ratio)
    violation += over_loops(excess, search.max_loop_excess)
    score = trait - PENALTY * violation
    stopped = bool(done[-1].get("stopped"))
    return Judgement(len(done), trait, ratio, excess, max(score, HOPELESS), violation == 0, stopped)


def best_of(results: Mapping[str, Judgement], search: Search) -> list[str]:
    """The names of the best trials: one, or the front; none where no trial keeps the bounds."""
    within = {name: result for name, result in results.items() if result.within}
    if search.objective == "trait":
        return sorted(within, key=lambda name: -within[name].score)[:1]
    return front_of({name: result.front for name, result in within.items()})


def front_of(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names of those that no other beats in one of (great, small) without losing in the other."""
    order = sorted(points, key=lambda name: (-points[name][0], points[name][1]))
    kept: list[str] = []
    for name in order:
        if not kept or points[name][1] < points[kept[-1]][1] or points[name] == points[kept[-1]]:
            kept.append(name)
    return kept

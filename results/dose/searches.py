"""What finding the dose costs: the walk and the bisection, cold and from the last round's dose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from results.dose.cells import Study
from steer_heal_love.loop.dose_curve import sample_dose
from steer_heal_love.stages.dose import (
    DoseConfig,
    begin_search,
    coherent_share,
    warm_start,
)

SEARCHES = ("walk", "bisect")
FROM = 2.0  # a first dose that is too high, as it is on a model that nobody has tried yet


def measure_searches(study: Study, seed: int) -> dict[str, dict[str, Any]]:
    """By search: doses probed, generated tokens and the settled dose, cold and then warm."""
    found = {}
    for name in SEARCHES:
        config = study.config.dose.model_copy(update={"search": name, "kappa_start": FROM})
        cold = _measure(study, seed, config, FROM, f"{name}-cold", 0)
        start = warm_start(cold["settled"], config)
        found[name] = {
            "cold": cold,
            "warm": _measure(study, seed, config, start, f"{name}-warm", 10_000),
        }
    return found


def _measure(
    study: Study, seed: int, config: DoseConfig, start: float, name: str, first: int
) -> dict[str, Any]:
    def compute() -> dict[str, Any]:
        work = study.work(seed)
        search = begin_search(config, start)
        doses: list[float] = []
        tokens = 0
        while not search.settled:
            place = first + len(doses) * config.probe_batch
            prompts = _in_turn(work.prompts, place, config.probe_batch)
            limits = study.limits(seed)
            # a seed of its own, since each probe's noise begins at index 0
            judged = sample_dose(work, prompts, study.direction, search.kappa, limits, place + seed)
            doses.append(search.kappa)
            tokens += sum(j.completion.drawn_tokens for j in judged)
            search = search.update(coherent_share(judged))
        return {"doses": doses, "tokens": tokens, "settled": search.kappa}

    settings = {**study.settings, "dose": config.model_dump(), "start": start, "seed": seed}
    found: dict[str, Any] = study.store.do(f"searches/{name}-{seed}", settings, compute)
    return found


def _in_turn(prompts: Sequence[str], first: int, count: int) -> list[str]:
    return [prompts[i % len(prompts)] for i in range(first, first + count)]

"""Does it help to train on the survivors with the most trait? Two choices from the same texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from results.dose.cells import Study
from steer_heal_love.errors import StarvedRound
from steer_heal_love.lm.patches.adapters import student
from steer_heal_love.loop.dose_curve import sample_dose, spread_prompts
from steer_heal_love.loop.heal import heal_round
from steer_heal_love.maths.paired import (
    known,
    paired_difference,
    percentile_interval,
    resampled,
    two_sample_difference,
)
from steer_heal_love.records import Completion, Effort, Interval, Judged, Scores
from steer_heal_love.stages.dose import Harvest
from steer_heal_love.stages.dosing.selection import SelectBy, select
from steer_heal_love.stages.instruments.answer_pairs import answer_pair_values

ARMS: tuple[SelectBy, ...] = ("trait", "order")
FEWEST = 2  # texts that a heal can learn from
EVALUATED = 48  # sampled answers of each healed model


def measure_selection(study: Study, seed: int, kappa: float, pool: int, n_keep: int) -> Any:
    """Of each arm: trait and perplexity of the texts trained on, and of the healed model.

    Both arms choose from one pool of texts, sampled at a constant dose and coherent. By trait: only
    those over the trait floor, the strongest first, balanced over prompts. By order: as they come.
    """
    judged = _pool(study, seed, kappa, pool)
    chosen = {arm: choose(judged, arm, n_keep) for arm in ARMS}
    n = min(sum(j.kept for j in rows) for rows in chosen.values())  # the same number for both
    if n < FEWEST:
        raise StarvedRound(
            f"seed {seed}: {n} of {pool} texts at dose {kappa:.3g} can be chosen from"
        )
    return {arm: _measure(study, seed, kappa, choose(judged, arm, n), arm) for arm in ARMS}


def choose(judged: Sequence[Judged], arm: SelectBy, n_keep: int) -> list[Judged]:
    """The pool with the fates of an arm; by order the trait floor is off."""
    if arm == "order":
        judged = [replace(j, reasons=()) if j.coherent else j for j in judged]
    return select(judged, n_keep, arm)


def _pool(study: Study, seed: int, kappa: float, count: int) -> list[Judged]:
    def compute() -> list[dict[str, Any]]:
        work = study.work(seed)
        every = spread_prompts(work.prompts, count)
        # in no order: by order, the first texts must not all be of the first kind of prompt
        prompts = [every[i] for i in np.random.default_rng(seed).permutation(count)]
        # not the noise of the cells, whose trait decided on the dose
        noise = 1000 + seed
        limits = study.limits(seed)
        rows = sample_dose(work, prompts, study.direction, kappa, limits, noise)
        return [asdict(replace(j, surprise_nats=())) for j in rows]

    settings = {**study.settings, "kappa": kappa, "seed": seed, "pool": count}
    stored = study.store.do(f"selection/pool-{seed}", settings, compute)
    return [_judged(row) for row in stored]


def _judged(row: Mapping[str, Any]) -> Judged:
    text = {**row["completion"], "token_ids": tuple(row["completion"]["token_ids"])}
    return Judged(Completion(**text), Scores(**row["scores"]), tuple(row["reasons"]))


def _measure(study: Study, seed: int, kappa: float, judged: list[Judged], arm: str) -> Any:
    kept = [j for j in judged if j.kept]

    def compute() -> dict[str, Any]:
        work = study.work(seed)
        harvest = Harvest(kappa, tuple(judged), Effort("none", (), 0, 0))
        healed = heal_round(work, 0, harvest)
        prompts = spread_prompts(work.axis.probes, EVALUATED)
        limits = study.limits(seed)
        with student(study.lm, [healed.adapter]):
            pairs = answer_pair_values(study.lm, study.axis)
            answers = sample_dose(work, prompts, study.direction, 0.0, limits, seed)
        return {
            "pairs": pairs,
            "perplexity": [j.scores.perplexity for j in answers],
            "persona_nats": [j.scores.trait_nats for j in answers],
        }

    settings = {
        **study.settings,
        "kappa": kappa,
        "seed": seed,
        "kept": [j.completion.index for j in kept],
        "heal": study.config.heal.model_dump(),
    }
    healed = study.store.do(f"selection/healed-{arm}-{seed}", settings, compute)
    return {
        "kept": len(kept),
        "prompts": len({j.completion.prompt for j in kept}),
        "trait": [j.scores.trait_nats for j in kept],
        "perplexity": [j.scores.perplexity for j in kept],
        "healed": healed,
    }


def compare_arms(by_seed: Sequence[Mapping[str, Any]]) -> dict[str, Interval | None]:
    """By trait less by order, of all seeds: what was trained on, and the healed model."""

    def every(arm: str, name: str) -> list[float | None]:
        return [v for found in by_seed for v in found[arm][name]]

    def healed(arm: str, name: str) -> list[float | None]:
        return [v for found in by_seed for v in found[arm]["healed"][name]]

    return {
        "trait": two_sample_difference(every("trait", "trait"), every("order", "trait")),
        "perplexity": median_difference(every("trait", "perplexity"), every("order", "perplexity")),
        "healed_trait": paired_difference(healed("trait", "pairs"), healed("order", "pairs")),
        "healed_perplexity": median_difference(
            healed("trait", "perplexity"), healed("order", "perplexity")
        ),
    }


def median_difference(
    a: Sequence[float | None], b: Sequence[float | None], seed: int = 0
) -> Interval | None:
    """median(a) − median(b) of two independent samples, percentile bootstrap, 95 %."""
    x, y = np.array(known(a)), np.array(known(b))
    if min(len(x), len(y)) < 2:
        return None
    rng = np.random.default_rng(seed)
    of_x = np.median(x[resampled(len(x), rng)], axis=1)
    of_y = np.median(y[resampled(len(y), rng)], axis=1)
    return percentile_interval(float(np.median(x) - np.median(y)), of_x - of_y)

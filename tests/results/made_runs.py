"""Runs that were made up: each figure follows from a shift and a perplexity that a test chose."""

from __future__ import annotations

import numpy as np
from results.runs.records import FrontDose, Measured, Round, Run, SweepFigures

ITEMS, SAMPLES, PARAGRAPHS = 24, 16, 6
PERPLEXITY = 8.0  # of base
FRONT = ((0.5, 0.2, 1.1), (1.0, 0.4, 1.3), (2.0, 0.6, 2.0))  # κ, shift, × base


def measured(
    shift: float,
    times: float,
    *,
    relevance: float = 1.0,
    loops: int = 0,
    capability: float = 1.0,
    noise: float = 0.0,
    seed: int = 0,
) -> Measured:
    """A condition: base's trait + shift, base's perplexity × times."""
    rng = np.random.default_rng(seed)
    base = np.linspace(-1.0, 1.0, ITEMS)
    trait = base + shift + noise * rng.standard_normal(ITEMS)
    spread = np.exp(np.linspace(-0.1, 0.1, SAMPLES))
    perplexity = PERPLEXITY * times
    nats = np.linspace(2.0, 3.0, PARAGRAPHS) + np.log(capability)
    return Measured(
        figures={
            "trait_nats": (float(trait.mean()), -1.0, 1.0),
            "perplexity": (perplexity, 0.9 * perplexity, 1.1 * perplexity),
            "perplexity_ratio": (times, 0.9513 * times, 1.0487 * times),
            "relevance": (0.4 * relevance, 0.1, 0.9),
            "relevance_ratio": (relevance, 0.98 * relevance, 1.02 * relevance),
            "distinct_2": (0.8 * relevance, 0.7, 0.9),
            "self_bleu": (0.1, 0.05, 0.15),
        },
        items={
            "trait_nats": tuple(trait.tolist()),
            "perplexity": tuple((perplexity * spread).tolist()),
            "capability_nats": tuple(nats.tolist()),
        },
        counts={"loop_share": (loops, SAMPLES), "long_loop_share": (loops, SAMPLES)},
    )


def made_run(
    seed: int = 0,
    path: tuple[tuple[float, float], ...] = ((0.5, 1.2),),
    *,
    settings: dict[str, object] | None = None,
    axis: str = "love",
    neg: float = -0.1,
    **healed: float,
) -> Run:
    """A run: of each round the healed model's shift and perplexity × base."""
    rounds = tuple(
        Round(
            number=number,
            kappa=1.0,
            kept=48,
            total=100 + number,
            cosine_first=1.0 - number / 20,
            divergence=0.5,
            healed=measured(shift, times, **healed),  # type: ignore[arg-type]
            steered=measured(0.45, 1.4),
            front=tuple(FrontDose(k, measured(s, t)) for k, s, t in FRONT) if number == 0 else (),
            rivals={"sft": measured(0.48, 1.3)} if number == 0 else {},
        )
        for number, (shift, times) in enumerate(path)
    )
    base = measured(0.0, 1.0)
    return Run(
        trial=f"seed-{seed}",
        settings=dict(settings or {}),
        axis=axis,
        model="made-up",
        seed=seed,
        base=base,
        prompt_pos=measured(0.1, 1.05),
        prompt_neg=measured(neg, 1.05),
        rounds=rounds,
    )


def made_sweep(name: str, *runs: Run, trials: int = 3, rounds: int = 1) -> SweepFigures:
    """A sweep of these runs."""
    return SweepFigures(name, trials, rounds, {"heal.aggregate": "rmse"}, {"device": "cpu"}, runs)

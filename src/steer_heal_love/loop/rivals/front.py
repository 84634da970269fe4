"""Which rivals without training a run is held against, and what they reach.

They are of the base model alone, so what was measured of them once is shared by all runs of a model
and an axis. A run measures few of them itself, and takes from the cache what it finds there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from itertools import product
from typing import Any

from steer_heal_love.loop.context import RunContext, fixed_seed
from steer_heal_love.loop.measure import get_reference
from steer_heal_love.loop.rivals.contrast import amplify_contrast
from steer_heal_love.loop.rivals.random_direction import steer_randomly
from steer_heal_love.loop.rivals.steering import steer_raw
from steer_heal_love.piece_names import PieceName, of_rival, of_round
from steer_heal_love.records import BARE, Completion, Direction, Judged, Measurement, Rival
from steer_heal_love.stages import evaluate
from steer_heal_love.stages import filter as filtering
from steer_heal_love.stages.evaluate import EvaluateConfig
from steer_heal_love.stages.instruments.ratios import with_ratios

# How each is brought about: what to put on, at this dose. Where that is more than one thing, the
# samples are dealt out to them.
Method = Callable[[RunContext, Direction, float], list[AbstractContextManager[object]]]
METHODS: Mapping[str, Method] = {
    BARE.method: lambda _run, _direction, _dose: [nullcontext()],
    "steering": steer_raw,
    "contrast": amplify_contrast,
    "random": steer_randomly,
}


def list_grid(config: EvaluateConfig) -> list[Rival]:
    """Every rival of the settings, after the base model itself; none where there are no doses."""
    if not config.front:
        return []
    doses = product(config.front, config.front_temperatures)
    return [
        BARE,
        *(Rival("steering", kappa, t) for kappa, t in doses),
        *(Rival("contrast", gamma) for gamma in config.front_contrasts),
        *(Rival("random", kappa) for kappa in config.front_random),
    ]


def list_few(config: EvaluateConfig) -> list[Rival]:
    """Those that are measured where nothing is stored: likely the best within the bounds.

    Steering at its two highest doses, the higher the colder: a temperature takes back what a dose
    costs in perplexity. And every other contrast, from the highest down.
    """
    if not config.front:
        return []
    cold = sorted(config.front_temperatures)
    doses = zip(sorted(config.front, reverse=True)[:2], cold, strict=False)
    contrasts = sorted(config.front_contrasts, reverse=True)[::2]
    return [
        BARE,
        *(Rival("steering", kappa, t) for kappa, t in doses),
        *(Rival("contrast", gamma) for gamma in contrasts),
    ]


def measure_front(run: RunContext, direction: Direction) -> tuple[tuple[Rival, Measurement], ...]:
    """The rivals that are stored, and the few; the run's notes say which of the grid are left out.

    Which they are is a piece of the run: a resumed one is held against the same ones.
    """
    config = run.config.evaluate
    grid = list_grid(config)
    if not grid:
        return ()
    few = grid if config.front_measure == "all" else list_few(config)

    def choose() -> list[dict[str, Any]]:
        return [asdict(r) for r in grid if r in few or run.is_stored(_name(r, direction))]

    chosen = [Rival(**fields) for fields in run.do(of_round(0) / "front", choose)]
    left = [r.words for r in grid if r not in chosen]
    if left:
        run.notes.append(
            f"{len(left)} of {len(grid) - 1} rivals without training were not measured "
            f"({', '.join(left)}): `--evaluate.front-measure all` measures every one"
        )
    measured = [measure_rival(run, r, direction) for r in chosen]
    bare = measured[chosen.index(BARE)]
    return tuple((r, with_ratios(m, bare)) for r, m in zip(chosen, measured, strict=True))


def measure_rival(run: RunContext, rival: Rival, direction: Direction) -> Measurement:
    """Trait and coherence of a rival: see `evaluate.measure_rival`."""

    def score(completions: list[Completion]) -> list[Judged]:
        scored = filtering.score_completions(
            run.lm, run.axis, completions, run.config.filter, trait=False
        )
        return [Judged(s.completion, s.scores, (), s.surprise_nats) for s in scored]

    def compute() -> Measurement:
        return evaluate.measure_rival(
            run.lm,
            run.axis,
            METHODS[rival.method](run, direction, rival.dose),
            rival.temperature,
            run.config.evaluate,
            score,
            get_reference(run),
            seed=fixed_seed(run, "evaluate"),
            sampling=run.evaluation_sampling,
        )

    return run.do(_name(rival, direction), compute)


def _name(rival: Rival, direction: Direction) -> PieceName:
    """With a hash of the direction: it depends on settings that no other figure of base does."""
    data = direction.vectors.contiguous().numpy().tobytes() + repr(direction.layers).encode()
    return of_rival(f"{rival.name}-{hashlib.sha256(data).hexdigest()[:12]}")

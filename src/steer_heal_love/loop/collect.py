"""Pieces of work that sample texts: the filter's limits, and what a round is to learn from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from steer_heal_love.inputs.prompts import spread
from steer_heal_love.lm.patches.adapters import base
from steer_heal_love.lm.patches.hooks import steering
from steer_heal_love.lm.sampler.answers import sample_answers
from steer_heal_love.lm.sampler.generate import Dosing
from steer_heal_love.loop.context import RunContext, place_errors, seed_of
from steer_heal_love.piece_names import LIMITS, PieceName, of_batch, of_round
from steer_heal_love.records import LEFT_OVER, Axis, Completion, Direction, Judged, Limits
from steer_heal_love.stages import dose
from steer_heal_love.stages import filter as filtering
from steer_heal_love.stages.dose import Collected

MANY = 16  # completions, of which a filter should have dropped one


def base_limits(run: RunContext) -> Limits:
    """The filter's limits, from the base model's own samples on the training prompts."""

    def compute() -> Limits:
        prompts = spread(run.prompts, filtering.LIMIT_SAMPLES)
        with base(run.lm):
            completions = sample(run, prompts, 0.0, seed_of(run, "limits"), 0)
        return filtering.limits_of(run.lm, run.axis, completions, run.config.filter)

    return run.do(LIMITS, compute)


def collect(
    run: RunContext,
    r: int,
    direction: Direction,
    limits: Limits,
    kappa: float,
    *,
    axis: Axis | None = None,
    folder: PieceName | None = None,
) -> Collected:
    """Stages 2 and 3: search the dose and keep what is coherent and carries the trait.

    Args:
        axis: whose persona likelihood ratio is the trait; the run's own unless given.
        folder: of the pieces; the round's own unless given.
    """
    order = np.random.default_rng(seed_of(run, "prompts", r)).permutation(len(run.prompts))
    config, trait = run.config.dose, axis or run.axis
    folder = folder or of_round(r)

    def draw(kappa: float, count: int, first: int) -> list[Judged]:
        prompts = [run.prompts[order[i % len(order)]] for i in range(first, first + count)]

        def compute() -> list[Judged]:
            seed = seed_of(run, "generate", r)
            texts = sample_steered(run, prompts, direction, kappa, limits, seed, first)
            return filtering.judge_all(run.lm, trait, texts, limits, run.config.filter)

        judged: list[Judged] = run.do(of_batch(folder, first), compute)
        run.report("generate", min(config.n_keep, sum(j.kept for j in judged)), config.n_keep)
        return judged

    with place_errors(folder):
        collected = dose.search_dose(draw, config, kappa)
    every = collected.judged
    if len(every) >= MANY and not any(set(j.reasons) - LEFT_OVER for j in every):
        run.notes.append(
            f"the filter dropped none of {len(every)} completions: its limits may be too wide"
        )
    return collected


def sample_steered(
    run: RunContext,
    prompts: Sequence[str],
    direction: Direction,
    kappa: float,
    limits: Limits,
    seed: int,
    first: int,
) -> list[Completion]:
    """Sampled completions with the direction on at this dose, given as `dosing` has it."""
    with steer_as_set(run, direction, kappa, limits, must_fire=True) as dosing:
        return sample(run, prompts, kappa, seed, first, dosing)


@contextmanager
def steer_as_set(
    run: RunContext,
    direction: Direction,
    kappa: float,
    limits: Limits | None = None,
    *,
    must_fire: bool = False,
) -> Iterator[Dosing | None]:
    """The direction on at this dose, by gate and operator; yields what generation has to know.

    At dose 0 the model is left as it is, and there is nothing to know.

    With `limits` generation backtracks too, if it is set to. `must_fire` is as `steering` has it:
    off where what the body asks for may have been stored before.
    """
    if kappa == 0:
        yield None
        return
    how = run.config.dosing
    with steering(
        run.lm, direction, kappa, gate=how.gate, operator=how.operator, must_fire=must_fire
    ) as patch:
        yield how.dosing(patch, kappa, limits)


def sample(
    run: RunContext,
    prompts: Sequence[str],
    kappa: float,
    seed: int,
    first: int,
    dosing: Dosing | None = None,
) -> list[Completion]:
    """Sampled completions of the model as it is patched now."""
    return sample_answers(
        run.lm,
        prompts,
        run.sampling,
        seed=seed,
        first_index=first,
        kappa=kappa,
        dosing=dosing,
    )

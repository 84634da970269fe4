"""A round of the online heal: what it is held against, its steps, and what its texts are worth."""

from __future__ import annotations

import numpy as np

from steer_heal_love.inputs.prompts import spread
from steer_heal_love.loop.context import RunContext, seed_of
from steer_heal_love.piece_names import PieceName, all_epochs, of_round
from steer_heal_love.records import BaseTexts, Direction, Judged, Limits, OnlineHealed
from steer_heal_love.stages import filter as filtering
from steer_heal_love.stages.online import measure_base, online_heal

BASE_TEXTS = 64  # of the base, over the training prompts, that the student's are held against


def heal_online(
    run: RunContext,
    r: int,
    direction: Direction,
    limits: Limits,
    tilt: tuple[float, float, float] | None,
) -> tuple[OnlineHealed, tuple[Judged, ...]]:
    """Stages 2 to 4 in one: steps towards the tilted teacher on the student's own texts.

    Gives the last steps' texts too, as the filter judges them: none of them is left out for it.

    Args:
        tilt: γ, κ and a, where the round before left them; None in the first.
    """
    config, folder = run.config.online, of_round(r) / "heal"
    base_texts = measure_base_texts(run)
    order = np.random.default_rng(seed_of(run, "prompts", r)).permutation(len(run.prompts))
    result: OnlineHealed = run.do(
        folder / "result",
        lambda: online_heal(
            run.lm,
            run.axis,
            [run.prompts[i] for i in order],
            direction,
            config,
            base_texts,
            seed=seed_of(run, "generate", r),
            tilt=tilt,
            pieces=run.account.inside(folder),
            on_step=lambda step: run.report("heal", step.step + 1, config.steps),
        ),
    )
    run.account.pieces.forget(all_epochs(folder))
    judged: list[Judged] = run.do(
        folder / "judged",
        lambda: filtering.judge_all(
            run.lm, run.axis, list(result.texts), limits, run.config.filter
        ),
    )
    return result, tuple(judged)


def measure_base_texts(run: RunContext) -> BaseTexts:
    """The base model's own texts, sampled as the student's are."""
    prompts = spread(run.prompts, BASE_TEXTS)
    texts: BaseTexts = run.do(
        PieceName("online/base"),
        lambda: measure_base(
            run.lm, run.axis, prompts, run.config.online, seed=seed_of(run, "limits")
        ),
    )
    return texts

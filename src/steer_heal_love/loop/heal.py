"""A round's heal: its texts, its anchors, and what it is told."""

from __future__ import annotations

import math

from steer_heal_love.inputs.prompts import spread
from steer_heal_love.lm.patches.adapters import base
from steer_heal_love.lm.sampler.answers import sample_answers
from steer_heal_love.loop.context import RunContext, seed_of
from steer_heal_love.piece_names import BASELINE, PieceName, all_epochs, of_round
from steer_heal_love.records import Completion, Healed
from steer_heal_love.stages import heal
from steer_heal_love.stages.dose import Collected
from steer_heal_love.stages.heal import Example, HealConfig
from steer_heal_love.stages.healing.config import ANCHORS
from steer_heal_love.stages.healing.texts import as_anchors


def heal_round(
    run: RunContext,
    r: int,
    collected: Collected,
    *,
    config: HealConfig | None = None,
    folder: PieceName | None = None,
) -> Healed:
    """Stage 4: distil the kept texts into a fresh adapter behind the barrier.

    Args:
        config: the run's own unless given.
        folder: of the pieces; the round's own unless given.
    """
    config = config or run.config.heal
    examples = [Example.of(run.lm, j.completion) for j in collected.kept]
    anchors = base_anchors(run) if config.anchor > 0 else []
    total = config.epochs * math.ceil(len(examples) / config.batch_size)
    folder = folder or of_round(r) / "heal"
    healed: Healed = run.do(
        folder / "result",
        lambda: heal.heal(
            run.lm,
            examples,
            config,
            seed=seed_of(run, "heal", r),
            anchors=anchors,
            pieces=run.account.inside(folder),
            on_step=lambda step: run.report("heal", step.step + 1, total),
        ),
    )
    run.account.pieces.forget(all_epochs(folder))
    if heal.rose(healed):
        run.notes.append("the heal ended above the loss it began with: lower --heal.learning-rate")
    return healed


def base_anchors(run: RunContext) -> list[Example]:
    """What the base model answers to ordinary messages; see `as_anchors`."""

    def compute() -> list[Completion]:
        messages = [c.text for c in spread(run.contexts, ANCHORS)]
        with base(run.lm):
            return sample_answers(run.lm, messages, run.sampling, seed=seed_of(run, "anchors"))

    texts: list[Completion] = run.do(BASELINE / "anchors", compute)
    return as_anchors(run.lm, texts)

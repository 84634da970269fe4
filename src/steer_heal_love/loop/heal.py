"""A round's heal: its texts, its anchors, and what it is told."""

from __future__ import annotations

import math

from steer_heal_love.inputs.prompts import spread
from steer_heal_love.lm.patches.adapters import base
from steer_heal_love.lm.sampler.answers import sample_answers
from steer_heal_love.loop.context import RunContext, seed_of
from steer_heal_love.piece_names import BASELINE, PieceName, all_epochs, of_round
from steer_heal_love.records import (
    Completion,
    Healed,
)
from steer_heal_love.stages import heal
from steer_heal_love.stages.dose import Collected
from steer_heal_love.stages.heal import Example, HealConfig
from steer_heal_love.stages.healing.config import ANCHORS


def heal_round(
    work: RunContext,
    r: int,
    harvest: Collected,
    *,
    config: HealConfig | None = None,
    folder: PieceName | None = None,
) -> Healed:
    """Stage 4: distil the kept texts into a fresh adapter behind the barrier.

    Args:
        config: the run's own unless given.
        folder: of the pieces; the round's own unless given.
    """
    config = config or work.config.heal
    examples = [Example.of(work.lm, j.completion) for j in harvest.kept]
    anchors = base_anchors(work) if config.anchor > 0 else []
    total = config.epochs * math.ceil(len(examples) / config.batch_size)
    folder = folder or of_round(r) / "heal"
    healed: Healed = work.do(
        folder / "result",
        lambda: heal.heal(
            work.lm,
            examples,
            config,
            seed=seed_of(work, "heal", r),
            anchors=anchors,
            pieces=work.account.inside(folder),
            on_step=lambda step: work.report("heal", step.step + 1, total),
        ),
    )
    work.account.pieces.forget(all_epochs(folder))
    if heal.rose(healed):
        work.notes.append("the heal ended above the loss it began with: lower --heal.learning-rate")
    return healed


def base_anchors(work: RunContext) -> list[Example]:
    """What the base model answers to ordinary messages, as plain texts: nobody's turn in a chat."""

    def compute() -> list[Completion]:
        messages = [c.text for c in spread(work.contexts, ANCHORS)]
        with base(work.lm):
            return sample_answers(work.lm, messages, work.sampling, seed=seed_of(work, "anchors"))

    texts: list[Completion] = work.do(BASELINE / "anchors", compute)
    return [Example(t.token_ids[:1], t.token_ids[1:]) for t in texts if len(t.token_ids) > 1]

"""Stage 4, heal: learn the kept texts while a barrier holds the divergence from the base down."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

from steer_heal_love.errors import ModelError
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.records import Healed, HealStep, NoPieces, Pieces
from steer_heal_love.stages.healing.config import HealConfig
from steer_heal_love.stages.healing.session import Session
from steer_heal_love.stages.healing.texts import Example, split

__all__ = ["Example", "HealConfig", "heal", "split", "target_modules"]


def heal(
    lm: LanguageModel,
    examples: Sequence[Example],
    config: HealConfig,
    *,
    seed: int,
    anchors: Sequence[Example] = (),
    pieces: Pieces | None = None,
    on_step: Callable[[HealStep], None] | None = None,
) -> Healed:
    """Train a fresh LoRA adapter (B = 0) on the examples with the barrier; the base is untouched.

    Runs on the model as it is patched now: inside `adapters.student` the history is part of the
    frozen model. The reference's hidden states are computed once. Each epoch is one piece.

    Args:
        anchors: texts on whose completions the student is to stay as the base is, with the
            weight `config.anchor`; none by default, whatever the weight.

    Raises:
        DivergedError: loss or gradient became NaN or infinite; says where.
        ModelError: no module of the model matches the targets.
    """
    if not examples:
        raise ValueError("nothing to heal on: no examples")
    train, held_out = split(examples, config.validation_share, seed)
    held_to = anchors if config.anchor > 0 else ()
    modules = target_modules(lm, config)
    session = Session(lm, config, modules, seed, train, held_out, on_step, held_to)
    pieces = pieces or NoPieces()
    with session:
        state = session.initial_state()
        validation = [session.validate()]
        steps: list[HealStep] = []
        for epoch in range(config.epochs):
            done = pieces.do(f"epoch-{epoch:02d}", partial(session.train_epoch, epoch, state))
            state = done["state"]
            steps += [HealStep(**step) for step in done["steps"]]
            validation.append(done["validation"])
        return Healed(session.adapter(state), tuple(steps), tuple(validation))


def rose(healed: Healed) -> bool:
    """Whether the loss ended above where it began: of held-out texts, else of the first steps."""
    held_out = [row["loss"] for row in healed.validation if "loss" in row]
    if held_out:
        return held_out[-1] > held_out[0]
    quarter = max(1, len(healed.steps) // 4)
    losses = [step.loss for step in healed.steps]
    return sum(losses[-quarter:]) > sum(losses[:quarter])


def target_modules(lm: LanguageModel, config: HealConfig) -> list[str]:
    """Full names of the linear modules that get an adapter."""
    low = math.floor(len(lm.layers) * config.layer_low)
    high = max(low + 1, math.floor(len(lm.layers) * config.layer_high))
    chosen = {id(m) for layer in lm.layers[low:high] for m in layer.modules()}
    names = [
        name
        for name, module in lm.model.named_modules()
        if id(module) in chosen
        and isinstance(module, nn.Linear)
        and (not config.targets or name.rsplit(".", 1)[-1] in config.targets)
    ]
    if not names:
        wanted = ", ".join(config.targets) or "any linear module"
        raise ModelError(f"no module named {wanted} in layers {low} to {high - 1} to adapt")
    return names

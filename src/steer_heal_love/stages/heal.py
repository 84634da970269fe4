"""Stage 4, heal: learn the kept texts while a barrier holds the divergence from the base down."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from pydantic import Field, model_validator
from torch import nn

from steer_heal_love.errors import ModelError
from steer_heal_love.lm.load import LanguageModel
from steer_heal_love.records import Healed, HealStep, NoPieces, Pieces
from steer_heal_love.stages.healing.session import Session
from steer_heal_love.stages.healing.texts import Example, split
from steer_heal_love.stages.settings import StageConfig

__all__ = ["Example", "HealConfig", "heal", "split", "target_modules"]


class HealConfig(StageConfig):
    """loss = nll + λ · relu(D − τ), D an aggregate over positions of the per-token KL."""

    aggregate: Literal["mean", "rmse", "p95", "max"] = "rmse"
    """How the per-position divergences of a sequence become D; a mean misses short loops."""
    divergence: Literal["reverse", "forward", "none"] = "reverse"
    """KL(student ‖ reference), its reverse, or none (plain distillation)."""
    reference: Literal["base", "previous"] = "base"
    """What the barrier holds on to: the base model, or the student of the round before."""
    lam: float = Field(1.0, ge=0)
    """Weight λ of the barrier."""
    tau: float = Field(1.0, ge=0)
    """Divergence τ (nats) under which the barrier is silent."""
    rank: int = Field(16, ge=1)
    """LoRA rank."""
    alpha: float = Field(32.0, gt=0)
    """LoRA alpha; the update is scaled by alpha / rank."""
    layer_low: float = Field(0.2, ge=0, lt=1)
    """Where the adapted layers begin, as a fraction of the depth."""
    layer_high: float = Field(0.8, gt=0, le=1)
    """Where the adapted layers end, as a fraction of the depth."""
    targets: tuple[str, ...] = ()
    """Names of the linear modules to adapt, such as q_proj; none given means all in a layer."""
    epochs: int = Field(3, ge=1)
    """Passes over the kept completions."""
    learning_rate: float = Field(4e-4, gt=0)
    """Peak learning rate of AdamW."""
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    """Learning-rate schedule."""
    warmup_share: float = Field(0.1, ge=0, lt=1)
    """Share of the steps over which the learning rate rises."""
    weight_decay: float = Field(0.0, ge=0)
    """Weight decay of AdamW."""
    batch_size: int = Field(8, ge=1)
    """Sequences per optimiser step."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are clipped to this norm."""
    validation_share: float = Field(0.1, ge=0, lt=1)
    """Share of the kept completions that is held out to validate on."""

    @model_validator(mode="after")
    def _ordered(self) -> HealConfig:
        if self.layer_low >= self.layer_high:
            raise ValueError("layer_low must be below layer_high")
        return self


def heal(
    lm: LanguageModel,
    examples: Sequence[Example],
    config: HealConfig,
    *,
    seed: int,
    pieces: Pieces | None = None,
    on_step: Callable[[HealStep], None] | None = None,
) -> Healed:
    """Train a fresh LoRA adapter (B = 0) on the examples with the barrier; the base is untouched.

    Runs on the model as it is patched now: inside `adapters.student` the history is part of the
    frozen model. The reference's hidden states are computed once. Each epoch is one piece.

    Raises:
        DivergedError: loss or gradient became NaN or infinite; says where.
        ModelError: no module of the model matches the targets.
    """
    if not examples:
        raise ValueError("nothing to heal on: no examples")
    train, held_out = split(examples, config.validation_share, seed)
    session = Session(lm, config, target_modules(lm, config), seed, train, held_out, on_step)
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

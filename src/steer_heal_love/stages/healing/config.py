"""The settings of a heal."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from steer_heal_love.stages.settings import StageConfig

ANCHORS = 64  # ordinary messages that the base answers, for the heal to hold on to


class HealConfig(StageConfig):
    """loss = nll + λ · relu(D − τ) + anchor · KL(base ‖ student) on the anchors.

    D is an aggregate over positions of the per-token KL. Anchors are plain texts of the base's own.
    """

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
    anchor: float = Field(0.5, ge=0)
    """Weight of the divergence on the anchors, what the base writes read as plain text; 0 for no
    anchors."""
    anchor_batch: int = Field(4, ge=1)
    """Anchors beside the texts of each optimiser step."""
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
    learning_rate: float = Field(8e-4, gt=0)
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

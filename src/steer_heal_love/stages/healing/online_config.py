"""The settings of an online heal."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from steer_heal_love.stages.healing.config import HealConfig
from steer_heal_love.stages.settings import StageConfig

Hold = Literal["divergence", "entropy", "repetition", "ended"]


class OnlineConfig(StageConfig):
    """loss = (1 − α) · KL(student ‖ teacher) + α · KL(teacher ‖ student) + λ · relu(D − τ)
    + μ · relu(H₀ − H − ε), on texts that the student samples itself, steering off.

    The teacher is θ₀ tilted by a/2 · (log p₊ − log p₋) + γ/2 · (log p_pos − log p_neg), where p_neg
    may be p₀ instead.
    """

    steps: int = Field(10, ge=1, le=100_000)
    """Optimiser steps a round, each on texts of its own."""
    batch_size: int = Field(24, ge=1)
    """Texts sampled for each step."""
    max_new_tokens: int = Field(64, ge=1)
    """Length limit of these texts, tokens."""
    gamma: float = Field(8.0, ge=0)
    """Weight γ of the contrast of the personas, at the start; 0 for a vector distilled alone."""
    contrast_with: Literal["opposite", "base"] = "opposite"
    """What the positive persona is contrasted with: its opposite, or the base model without a
    persona, which saves a pass; with γ 2 the teacher is then the persona prompt itself."""
    kappa: float = Field(0.5, ge=0)
    """Dose κ whose odd part the teacher is tilted by, at the start."""
    a: float = Field(0.5, ge=0)
    """Weight a of that odd part, at the start; 0 leaves the vector out."""
    clip: float = Field(4.0, gt=0)
    """Bound on what the tilt adds to a token's log-probability, either way, nats."""
    forward_share: float = Field(0.3, ge=0, le=1)
    """Share α of KL(teacher ‖ student) in the loss; the rest is KL(student ‖ teacher)."""
    mu: float = Field(1.0, ge=0)
    """Weight μ of the entropy floor."""
    epsilon: float = Field(0.15, ge=0)
    """Entropy ε that may be lost to the base model before the floor acts, nats a token."""
    lam: float = Field(1.0, ge=0)
    """Weight λ of the barrier on the divergence from the base model."""
    tau: float = Field(1.0, ge=0)
    """Divergence τ (nats) under which the barrier is silent."""
    tau_relative: float | None = Field(None, gt=0)
    """τ in multiples of what the persona prompt does to the base model, in place of `tau`."""
    aggregate: Literal["mean", "rmse", "p95", "max"] = "rmse"
    """How the per-position divergences of a text become D; a mean misses short loops."""
    persona_share: float = Field(0.25, ge=0, le=1)
    """Share of the texts that are sampled under the positive persona as system prompt."""
    steered_share: float = Field(0.0, ge=0, le=1)
    """Share of the texts that are sampled with steering on, at κ."""
    held_by: tuple[Hold, ...] = ("divergence", "entropy", "repetition")
    """What the tilt follows: it rises while all of these are inside their bounds, falls while one
    is not; none given leaves it where it starts."""
    most_entropy_shift: float = Field(0.15, gt=0)
    """Bound on the entropy lost to the base model or gained, nats a token."""
    most_looping: float = Field(0.05, ge=0)
    """Bound on the share of texts that loop, above the base model's own."""
    least_ended: float = Field(0.8, ge=0)
    """Bound on the share of texts that end, as a multiple of the base model's own."""
    rise: float = Field(1.05, ge=1)
    """Factor on γ, κ and a after a step that is inside all bounds."""
    fall: float = Field(0.9, gt=0, le=1)
    """Factor on γ, κ and a after a step that is not."""
    most: float = Field(1.5, ge=1)
    """The highest tilt, as a multiple of the one at the start."""
    least: float = Field(0.25, ge=0, le=1)
    """The lowest tilt, as a multiple of the one at the start."""
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
    learning_rate: float = Field(1e-3, gt=0)
    """Peak learning rate of AdamW, in each round."""
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    """Learning-rate schedule, over the steps of a round."""
    warmup_share: float = Field(0.1, ge=0, lt=1)
    """Share of the steps over which the learning rate rises."""
    weight_decay: float = Field(0.0, ge=0)
    """Weight decay of AdamW."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are clipped to this norm."""

    @model_validator(mode="after")
    def _fits_together(self) -> OnlineConfig:
        if self.layer_low >= self.layer_high:
            raise ValueError("layer_low must be below layer_high")
        if self.persona_share + self.steered_share > 1:
            raise ValueError("persona_share and steered_share must not be above 1 together")
        return self

    @property
    def adapter(self) -> HealConfig:
        """The adapter and its optimiser, as a heal's student has them."""
        return HealConfig(**{name: getattr(self, name) for name in _OF_ADAPTER})


_OF_ADAPTER = (
    *("rank", "alpha", "layer_low", "layer_high", "targets", "learning_rate", "schedule"),
    *("warmup_share", "weight_decay", "max_grad_norm", "batch_size"),
)

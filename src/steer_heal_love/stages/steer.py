"""Stage 1, steer: read the direction from the student as it is now."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from steer_heal_love.errors import DivergedError
from steer_heal_love.inputs.prompts import spread
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.hooks import read_hidden
from steer_heal_love.lm.reading.chat import encode_chat
from steer_heal_love.maths.direction import Extraction, extract_vectors, layer_band
from steer_heal_love.records import Axis, Context, Direction
from steer_heal_love.stages.settings import StageConfig


class SteerConfig(StageConfig):
    """How the direction is read."""

    band_low: float = Field(0.4, ge=0, lt=1)
    """Where the steered band of layers begins, as a fraction of the depth."""
    band_high: float = Field(0.6, gt=0, le=1)
    """Where the steered band of layers ends, as a fraction of the depth."""
    contexts: int = Field(150, ge=2)
    """How many contexts the direction is read from."""
    extraction: Extraction = "mean_difference"
    """The personas' mean difference; its part along the first principal component of the
    differences; or what separates the personas, without the part along what both have."""

    @model_validator(mode="after")
    def _ordered(self) -> SteerConfig:
        if self.band_low >= self.band_high:
            raise ValueError("band_low must be below band_high")
        return self


def extract_direction(
    lm: LanguageModel, axis: Axis, contexts: Sequence[Context], config: SteerConfig
) -> Direction:
    """v_l = mean over contexts c of h_l(pos ⊕ c) − h_l(neg ⊕ c), at the assistant tag, float32.

    Or the part of it that `config.extraction` names. Read from the model as it is patched now, so
    from the student inside `adapters.student`.

    Raises:
        DivergedError: a hidden state is not finite, or the personas do not differ (norm zero).
    """
    layers = layer_band(len(lm.layers), config.band_low, config.band_high)
    pos, neg = read_personas(lm, axis, spread(contexts, config.contexts), layers)
    return to_direction(layers, extract_vectors(pos, neg, config.extraction))


def read_personas(
    lm: LanguageModel, axis: Axis, contexts: Sequence[Context], layers: Sequence[int]
) -> tuple[Float[Tensor, "n L d"], Float[Tensor, "n L d"]]:
    """Hidden states after the layers, at the assistant tag, under either persona: float32, CPU."""
    prompts = [
        encode_chat(lm, context.text, system)
        for system in (axis.pos_system, axis.neg_system)
        for context in contexts
    ]
    pos, neg = read_hidden(lm, prompts, list(layers)).split(len(contexts))
    return pos, neg


def to_direction(layers: Sequence[int], vectors: Float[Tensor, "L d"]) -> Direction:
    """The direction of these vectors.

    Raises:
        DivergedError: a vector is not finite, or of norm zero.
    """
    if not bool(torch.isfinite(vectors).all()):
        raise DivergedError("steer: the direction holds NaN or infinity: use dtype float32")
    if bool((vectors.norm(dim=-1) == 0).any()):
        raise DivergedError(
            "steer: the two personas give the same hidden state, so there is no direction: make "
            "'pos' and 'neg' of the axis differ, or choose another band of layers"
        )
    return Direction(tuple(layers), vectors)

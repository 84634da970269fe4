"""Answer pairs: which of two prepared answers the model gives more probability, per token."""

from __future__ import annotations

from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.reading.chat import encode_chat, encode_text
from steer_heal_love.lm.reading.score import completion_logprobs
from steer_heal_love.maths.statistics import bootstrap_mean
from steer_heal_love.records import Axis, Measurement


def measure_answer_pairs(lm: LanguageModel, axis: Axis, system: str | None = None) -> Measurement:
    """Figure and items `trait_nats`, nats per token; an item is a pair of the axis."""
    values = answer_pair_values(lm, axis, system)
    return Measurement({"trait_nats": bootstrap_mean(values)}, {"trait_nats": tuple(values)})


def answer_pair_values(lm: LanguageModel, axis: Axis, system: str | None = None) -> list[float]:
    """Per pair: log p(trait answer)/|trait answer| − log p(other answer)/|other answer|, nats."""
    prompts = [encode_chat(lm, p.question, system) for p in axis.pairs]
    with_trait = [encode_text(lm, p.trait) for p in axis.pairs]
    without = [encode_text(lm, p.other) for p in axis.pairs]
    rows = completion_logprobs(lm, prompts + prompts, with_trait + without)
    means = [float(row.mean()) for row in rows]
    n = len(prompts)
    return [a - b for a, b in zip(means[:n], means[n:], strict=True)]

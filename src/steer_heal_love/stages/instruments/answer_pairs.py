"""Answer pairs: which of two prepared answers the model gives more probability, per token."""

from __future__ import annotations

from collections.abc import Sequence

from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.reading.chat import encode_chat, encode_text
from steer_heal_love.lm.reading.score import tempered_logprobs
from steer_heal_love.maths.statistics import bootstrap_mean
from steer_heal_love.records import Axis, Measurement
from steer_heal_love.stages.instruments.entropy import Reference, measure_entropy


def measure_trait(
    lm: LanguageModel, axis: Axis, reference: Reference, system: str | None = None
) -> Measurement:
    """The trait by answer pairs, at base's entropy and as it is; an item is a pair of the axis.

    Figures and items `trait_nats`, nats per token: `answer_pair_values` of the model with its
    logits divided by T*, the temperature at which it is as sharp as base. A difference of
    log-probabilities scales with 1/T, so that a model that is merely sharper would have more trait.
    `trait_raw_nats` is the same at temperature 1. Beside them those of `measure_entropy`. Where no
    T* is to be had, `trait_nats` has no figure, and no value on any pair.
    """
    sharpness = measure_entropy(reference, system)
    t = sharpness.temperature
    raw, *matched = _values(lm, axis, system, (1.0,) if t is None else (1.0, t))
    figures = {"trait_raw_nats": bootstrap_mean(raw)}
    items: dict[str, tuple[float | None, ...]] = {"trait_raw_nats": tuple(raw)}
    items["trait_nats"] = tuple(matched[0]) if matched else (None,) * len(raw)
    if matched:
        figures["trait_nats"] = bootstrap_mean(matched[0])
    entropies = sharpness.measurement
    return Measurement({**figures, **entropies.figures}, {**items, **entropies.items})


def answer_pair_values(lm: LanguageModel, axis: Axis, system: str | None = None) -> list[float]:
    """Per pair: log p(trait answer)/|trait answer| − log p(other answer)/|other answer|, nats."""
    return _values(lm, axis, system, (1.0,))[0]


def _values(
    lm: LanguageModel, axis: Axis, system: str | None, temperatures: Sequence[float]
) -> list[list[float]]:
    """Of each temperature the values of all pairs, from one pass over the answers."""
    prompts = [encode_chat(lm, p.question, system) for p in axis.pairs]
    with_trait = [encode_text(lm, p.trait) for p in axis.pairs]
    without = [encode_text(lm, p.other) for p in axis.pairs]
    rows = tempered_logprobs(lm, prompts + prompts, with_trait + without, temperatures)
    n = len(prompts)
    means = [row.mean(1).tolist() for row in rows]
    return [
        [a[k] - b[k] for a, b in zip(means[:n], means[n:], strict=True)]
        for k in range(len(temperatures))
    ]

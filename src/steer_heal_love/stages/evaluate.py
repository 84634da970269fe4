"""Stage 5, evaluate: the same items with the same seeds for base, prompted, steered and healed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.adapters import base
from steer_heal_love.lm.patches.temperature import set_temperature
from steer_heal_love.lm.reading.chat import decode_text
from steer_heal_love.lm.reading.relevance import relevance
from steer_heal_love.lm.sampler.answers import sample_answers
from steer_heal_love.lm.sampler.generate import Dosing, Sampling
from steer_heal_love.maths.paired import known
from steer_heal_love.maths.repetition import is_loop
from steer_heal_love.maths.statistics import bootstrap_mean
from steer_heal_love.records import Answer, Axis, Completion, Judged, Measurement
from steer_heal_love.stages.instruments.answer_pairs import measure_trait
from steer_heal_love.stages.instruments.capability import measure_capability, ordinary_paragraphs
from steer_heal_love.stages.instruments.coherence import as_long, measure_coherence
from steer_heal_love.stages.instruments.entropy import (
    Reference,
    measure_divergence,
    split_answers,
)
from steer_heal_love.stages.instruments.foundations import Foundations, FoundationsConfig

# With the trait score, or without; log-probabilities under base, where they are known.
Judge = Callable[[list[Completion], bool, list[Tensor] | None], list[Judged]]

RESAMPLES = 2000
Positive = Annotated[float, Field(gt=0)]


class EvaluateConfig(FoundationsConfig):
    """What is measured after each stage, and when the loop must stop."""

    samples: int = Field(48, ge=4)
    """Sampled answers per condition, over the axis's probes in turn."""
    max_new_tokens: int = Field(96, ge=8)
    """Length limit of the sampled answers."""
    long_samples: int = Field(8, ge=0)
    """Long answers of the base and of each healed model, since loops come late; 0 for none."""
    long_tokens: int = Field(512, ge=8)
    """Length limit of the long answers."""
    relevance_others: int = Field(1, ge=0)
    """Other prompts that each answer's relevance is measured against; 0 leaves relevance out."""
    front: tuple[float, ...] = (0.5, 0.75, 1.0, 1.5)
    """Doses κ of raw steering of the base model, the rivals to beat in round 0; none for no rivals
    without training at all."""
    front_temperatures: tuple[Positive, ...] = (1.0, 0.85, 0.7)
    """Temperatures that each of these doses is taken at."""
    front_contrasts: tuple[float, ...] = (2.0, 4.0, 6.0, 8.0)
    """Amplifications γ of the contrast of the personas, rivals too."""
    front_random: tuple[float, ...] = (1.0,)
    """Doses κ of random directions of the same norm, rivals too."""
    front_samples: int = Field(24, ge=4)
    """Sampled answers per rival, over the axis's probes in turn."""
    front_measure: Literal["few", "all"] = "few"
    """Which rivals a run measures that are not in the cache: few of them, or all."""
    rivals: tuple[Literal["sft", "arithmetic"], ...] = ("sft", "arithmetic")
    """Other ways to bake the trait in, in round 0: plain distillation; adapter arithmetic."""
    max_perplexity_ratio: float = Field(2.0, gt=1)
    """The loop stops when a healed round's perplexity exceeds this multiple of the base's."""
    max_loop_excess: float = Field(0.25, gt=0)
    """The loop stops when a healed round's loop share exceeds the base's by more than this."""


def shown_prompts(axis: Axis) -> list[str]:
    """The headline probe and two more, spread over the axis's probes, for greedy answers."""
    n = len(axis.probes)
    return list(dict.fromkeys(axis.probes[i] for i in (0, n // 3, 5 * n // 6)))


def measure(
    lm: LanguageModel,
    axis: Axis,
    condition: str,
    config: EvaluateConfig,
    judge: Judge,
    foundations: Foundations,
    reference: Reference,
    *,
    seed: int,
    sampling: Sampling,
    system: str | None = None,
    long: bool = False,
    dosing: Dosing | None = None,
) -> Measurement:
    """Measure the model as it is patched now.

    Args:
        condition: what to call it: base, prompt_pos, prompt_neg, steered, healed or a rival.
        judge: scores completions under the base model and says what the filter thinks of them.
        foundations: the moral vignettes and how they are asked.
        reference: the fixed texts on which the model's entropy is held against base's.
        system: system prompt, for the prompting baselines.
        long: also sample long answers.
        dosing: how the dose of a steering that is on follows the answers; answer pairs,
            vignettes and entropies are scored at its full dose.
    """
    probes = [axis.probes[i % len(axis.probes)] for i in range(config.samples)]
    shown = shown_prompts(axis)
    lasting = [axis.probes[i % len(axis.probes)] for i in range(config.long_samples if long else 0)]
    # In one batch: a few rows alone cost nearly as much as many.
    how = [sampling] * len(probes)
    how += [replace(sampling, max_new_tokens=config.max_new_tokens, temperature=0.0)] * len(shown)
    how += [replace(sampling, max_new_tokens=config.long_tokens)] * len(lasting)
    every = [*probes, *shown, *lasting]
    completions = sample_answers(lm, every, how, seed=seed, system=system, dosing=dosing)
    n, end = len(probes), len(probes) + len(shown)
    splits = split_answers(lm, completions[:end], system)
    judged = judge(completions[:end], True, [-s.surprise for s in splits])
    by_sample = judged[:n]
    answers = [
        _as_answer(lm, j, condition, "sampled" if i < n else "greedy") for i, j in enumerate(judged)
    ]
    parts = [
        measure_trait(lm, axis, reference, system),
        measure_divergence(splits[:n]),
        _measure_persona(by_sample),
        measure_coherence(by_sample, _relevance(lm, by_sample, config, seed)),
        measure_capability(lm, ordinary_paragraphs()),
        foundations.measure(lm, system=system, seed=seed),
    ]
    if lasting:
        parts.append(as_long(measure_coherence(judge(completions[end:], False, None))))
    return join(parts, tuple(answers))


def measure_rival(
    lm: LanguageModel,
    axis: Axis,
    variants: Sequence[AbstractContextManager[object]],
    temperature: float,
    config: EvaluateConfig,
    score: Callable[[list[Completion]], list[Judged]],
    reference: Reference,
    *,
    seed: int,
    sampling: Sampling,
) -> Measurement:
    """Trait and coherence alone, of the base model with each variant on: few samples will do.

    The items are the first ones of `measure`. Several variants share the samples, in blocks, and
    the trait is the mean over them.
    """
    n = config.front_samples
    probes = [axis.probes[i % len(axis.probes)] for i in range(n)]
    ends = [n * (k + 1) // len(variants) for k in range(len(variants))]
    traits, completions = [], list[Completion]()
    for variant, end in zip(variants, ends, strict=True):
        first = len(completions)
        with base(lm), variant, set_temperature(lm, temperature):
            traits.append(measure_trait(lm, axis, reference))
            completions += sample_answers(
                lm, probes[first:end], sampling, seed=seed, first_index=first
            )
    scored = score(completions)
    relevance_nats = _relevance(lm, scored, config, seed)
    return join([mean_of(traits), measure_coherence(scored, relevance_nats)])


def mean_of(parts: Sequence[Measurement]) -> Measurement:
    """Of several measurements on the same items the mean of each item, and of the points alone."""
    if len(parts) == 1:
        return parts[0]
    names = parts[0].items.keys()
    rows = {n: zip(*(p.items.get(n, ()) for p in parts), strict=False) for n in names}
    items = {
        n: tuple(None if None in row else sum(row) / len(row) for row in each)
        for n, each in rows.items()
    }
    figures = {
        n: bootstrap_mean(known(v), resamples=RESAMPLES) for n, v in items.items() if known(v)
    }
    return Measurement(figures, items)


def join(parts: Sequence[Measurement], answers: tuple[Answer, ...] = ()) -> Measurement:
    """Several instruments' figures and items as one measurement."""
    return Measurement(
        {name: interval for part in parts for name, interval in part.figures.items()},
        {name: values for part in parts for name, values in part.items.items()},
        answers,
    )


def _measure_persona(judged: Sequence[Judged]) -> Measurement:
    """Persona likelihood ratio of the samples: figure and items `persona_nats`."""
    values = tuple(j.scores.trait_nats for j in judged)
    figures = {"persona_nats": bootstrap_mean(known(values))} if known(values) else {}
    return Measurement(figures, {"persona_nats": values})


def _relevance(
    lm: LanguageModel, judged: Sequence[Judged], config: EvaluateConfig, seed: int
) -> list[float | None] | None:
    if config.relevance_others == 0:
        return None
    prompts = [j.completion.prompt for j in judged]
    ids = [j.completion.token_ids for j in judged]
    own = [-float(np.mean(j.surprise_nats)) if j.surprise_nats else None for j in judged]
    others = config.relevance_others
    return relevance(lm, prompts, ids, own_nats=own, n_other=others, seed=seed)


def incoherent(healed: Measurement, before: Measurement, config: EvaluateConfig) -> str | None:
    """Why a healed round is below the coherence floor; None where it is not."""
    ratio = healed.value("perplexity") / before.value("perplexity")
    if ratio > config.max_perplexity_ratio:
        return (
            f"healed perplexity is {ratio:.2f} times the base's "
            f"(limit {config.max_perplexity_ratio:g})"
        )
    excess = healed.value("loop_share") - before.value("loop_share")
    if excess > config.max_loop_excess:
        return (
            f"healed loop share exceeds the base's by {excess:.2f} "
            f"(limit {config.max_loop_excess:g})"
        )
    return None


def _as_answer(lm: LanguageModel, judged: Judged, condition: str, mode: str) -> Answer:
    completion = judged.completion
    return Answer(
        condition=condition,
        mode=mode,
        prompt=completion.prompt,
        text=completion.text,
        tokens=tuple(decode_text(lm, [t]) for t in completion.token_ids),
        surprise_nats=judged.surprise_nats,
        loops=is_loop(completion.text),
        ended=completion.ended,
        reasons=judged.reasons,
    )

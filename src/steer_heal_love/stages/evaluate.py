"""Stage 5, evaluate: the same items with the same seeds for base, prompted, steered and healed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.adapters import base
from steer_heal_love.lm.reading.chat import decode_text, encode_chat
from steer_heal_love.lm.reading.relevance import relevance
from steer_heal_love.lm.reading.score import completion_logprobs
from steer_heal_love.lm.sampler.answers import sample_answers
from steer_heal_love.lm.sampler.generate import Dosing, Sampling
from steer_heal_love.maths.paired import known
from steer_heal_love.maths.perplexity import perplexity
from steer_heal_love.maths.repetition import is_loop
from steer_heal_love.maths.statistics import bootstrap_mean, geometric_mean
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
    """Doses of raw steering of the base model, measured in round 0: the rival to beat."""
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


def measure_steered(
    lm: LanguageModel,
    axis: Axis,
    config: EvaluateConfig,
    reference: Reference,
    *,
    seed: int,
    sampling: Sampling,
) -> Measurement:
    """Trait and perplexity alone, for a point of the front: half of the samples will do."""
    probes = [axis.probes[i % len(axis.probes)] for i in range(config.samples // 2)]
    completions = sample_answers(lm, probes, sampling, seed=seed)
    prompts = [encode_chat(lm, c.prompt) for c in completions]
    with base(lm):
        rows = completion_logprobs(lm, prompts, [c.token_ids for c in completions])
    values = [_finite(perplexity(row)) for row in rows]
    mean = geometric_mean(known(values), resamples=RESAMPLES)
    surprise = Measurement({"perplexity": mean}, {"perplexity": tuple(values)})
    return join([measure_trait(lm, axis, reference), surprise])


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


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


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

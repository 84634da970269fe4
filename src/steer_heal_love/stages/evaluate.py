"""Stage 5, evaluate: the same items with the same seeds for base, prompted, steered and healed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from pydantic import Field

from steer_heal_love.lm.chat import decode_text, encode_chat, encode_text
from steer_heal_love.lm.generate import Sampling, generate
from steer_heal_love.lm.load import LanguageModel
from steer_heal_love.lm.score import completion_logprobs
from steer_heal_love.maths.repetition import distinct_n, is_loop
from steer_heal_love.maths.statistics import (
    bootstrap_mean,
    bootstrap_statistic,
    proportion_interval,
)
from steer_heal_love.records import Answer, Axis, Completion, Interval, Judged, Measurement
from steer_heal_love.stages.settings import StageConfig

Judge = Callable[[list[Completion]], list[Judged]]

RESAMPLES = 2000


class EvaluateConfig(StageConfig):
    """What is measured after each stage, and when the loop must stop."""

    samples: int = Field(64, ge=4)
    """Sampled answers per condition, over the axis's probes in turn."""
    max_new_tokens: int = Field(96, ge=8)
    """Length limit of the sampled answers."""
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
    *,
    seed: int,
    sampling: Sampling,
    system: str | None = None,
) -> Measurement:
    """Measure the model as it is patched now.

    Args:
        condition: what to call it: base, prompt_pos, prompt_neg, steered or healed.
        judge: scores completions under the base model and says what the filter thinks of them.
        system: system prompt, for the prompting baselines.
    """
    probes = [axis.probes[i % len(axis.probes)] for i in range(config.samples)]
    greedy = Sampling(config.max_new_tokens, temperature=0.0)
    sampled = _answer(lm, probes, sampling, seed, system)
    shown = shown_prompts(axis)
    judged = judge(sampled + _answer(lm, shown, greedy, seed, system))
    by_sample = judged[: len(sampled)]
    trait = answer_pair_values(lm, axis, system)
    answers = [
        _as_answer(lm, j, condition, "sampled" if i < len(sampled) else "greedy")
        for i, j in enumerate(judged)
    ]
    items = {
        "trait_nats": tuple(trait),
        "perplexity": tuple(_finite(j.scores.perplexity) for j in by_sample),
        "loop_share": tuple(float(is_loop(j.completion.text)) for j in by_sample),
        "persona_nats": tuple(j.scores.trait_nats for j in by_sample),
    }
    figures = figures_of(items) | {
        "distinct_2": distinct_interval([j.completion.text for j in by_sample], 2)
    }
    return Measurement(figures, items, tuple(answers))


def answer_pair_values(lm: LanguageModel, axis: Axis, system: str | None = None) -> list[float]:
    """Per pair: log p(trait answer)/|trait answer| − log p(other answer)/|other answer|, nats."""
    prompts = [encode_chat(lm, p.question, system) for p in axis.pairs]
    with_trait = [encode_text(lm, p.trait) for p in axis.pairs]
    without = [encode_text(lm, p.other) for p in axis.pairs]
    rows = completion_logprobs(lm, prompts + prompts, with_trait + without)
    means = [float(row.mean()) for row in rows]
    n = len(prompts)
    return [a - b for a, b in zip(means[:n], means[n:], strict=True)]


def figures_of(items: dict[str, tuple[float | None, ...]]) -> dict[str, Interval]:
    """Point estimates with 95 % intervals, from the values per item."""
    loops = present(items["loop_share"])
    return {
        "trait_nats": bootstrap_mean(present(items["trait_nats"])),
        "perplexity": bootstrap_statistic(
            np.array(present(items["perplexity"])), np.median, resamples=RESAMPLES
        ),
        "loop_share": proportion_interval(int(sum(loops)), len(loops)),
        "persona_nats": bootstrap_mean(present(items["persona_nats"])),
    }


def distinct_interval(texts: Sequence[str], n: int) -> Interval:
    """distinct-n over all texts together, with a bootstrap interval over the texts."""
    words = [text.lower().split() for text in texts]
    rng = np.random.default_rng(0)
    draws = [
        distinct_n([words[i] for i in rng.integers(0, len(words), len(words))], n)
        for _ in range(200)
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    value = distinct_n(words, n)
    # Drawing a text twice repeats all of its n-grams, so the draws lie below the estimate: shift.
    shift = value - float(np.median(draws))
    return Interval(value, float(low) + shift, min(1.0, float(high) + shift))


def present(values: Sequence[float | None]) -> list[float]:
    """The values that are there."""
    return [v for v in values if v is not None]


def incoherent(healed: Measurement, base: Measurement, config: EvaluateConfig) -> str | None:
    """Why a healed round is below the coherence floor; None where it is not."""
    ratio = healed.value("perplexity") / base.value("perplexity")
    if ratio > config.max_perplexity_ratio:
        return (
            f"healed perplexity is {ratio:.2f} times the base's "
            f"(limit {config.max_perplexity_ratio:g})"
        )
    excess = healed.value("loop_share") - base.value("loop_share")
    if excess > config.max_loop_excess:
        return (
            f"healed loop share exceeds the base's by {excess:.2f} "
            f"(limit {config.max_loop_excess:g})"
        )
    return None


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _answer(
    lm: LanguageModel, prompts: Sequence[str], how: Sampling, seed: int, system: str | None
) -> list[Completion]:
    ids = [encode_chat(lm, p, system) for p in prompts]
    return [
        Completion(p, decode_text(lm, g.token_ids), g.token_ids, g.end_id, 0.0, seed, i)
        for i, (p, g) in enumerate(zip(prompts, generate(lm, ids, how, seed=seed), strict=True))
    ]


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

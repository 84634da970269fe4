"""Stage 3, filter: keep what is coherent under the base model and does carry the trait."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from steer_heal_love.inputs.patterns import matches
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.adapters import base
from steer_heal_love.lm.reading.chat import encode_chat
from steer_heal_love.lm.reading.relevance import relevance
from steer_heal_love.lm.reading.score import completion_logprobs
from steer_heal_love.maths.perplexity import (
    perplexity,
    tail_perplexity,
    worst_window_perplexity,
)
from steer_heal_love.maths.repetition import (
    compression_ratio,
    is_loop,
    longest_periodic_run,
    word_repetition,
)
from steer_heal_love.records import Axis, Ceilings, Completion, Judged, Limits, Scores
from steer_heal_love.stages.settings import StageConfig

_REFUSAL = re.compile(
    r"\b(i('m| am) (sorry|afraid),? (but )?(i |that )?(can('t|not)|won't|(am|'m) (not able|unable))"
    r"|i (cannot|can't|won't|am unable to|'m unable to) (help|assist|provide|answer|discuss|comply)"
    r"|as an ai( language model)?,? i (can('t|not)|don't|am not))",
    re.IGNORECASE,
)


LIMIT_SAMPLES = 64  # of the base model, that set the limits

# The scores that have a ceiling, and the reason given where a completion is above it.
REASONS = {
    "perplexity": "perplexity",
    "tail_perplexity": "tail",
    "window_perplexity": "window",
    "word_repetition": "repetition",
    "compression": "compression",
}


class FilterConfig(StageConfig):
    """Which completions are sound, and which of them are fit to learn from.

    Both by quantiles of the base model's own samples: damage that is let through once is the next
    round's normal, so what the model learns from must be well inside of what is sound.
    """

    sound_quantile: float = Field(1.0, gt=0, le=1)
    """A score above this quantile of the base samples' times `sound_factor` is that of a broken
    text."""
    sound_factor: float = Field(1.25, gt=0)
    """Factor on that quantile; see `shl audit-filter`."""
    quantile: float = Field(0.95, gt=0, le=1)
    """Quantile of the base samples' scores that a text fit to learn from may reach."""
    perplexity_factor: float = Field(0.75, gt=0)
    """Factor on the quantile of perplexity."""
    tail_factor: float = Field(0.85, gt=0)
    """Factor on the quantile of the last quarter's perplexity."""
    window_factor: float = Field(1.0, gt=0)
    """Factor on the quantile of the worst window's perplexity."""
    repetition_factor: float = Field(1.0, gt=0)
    """Factor on the quantiles of word repetition and compression."""
    max_perplexity: float | None = Field(None, gt=1)
    """Absolute limit of perplexity, in place of the base quantile."""
    max_tail_perplexity: float | None = Field(None, gt=1)
    """Absolute limit of the tail's perplexity, in place of the base quantile."""
    min_tokens: int = Field(8, ge=1)
    """Shorter completions count as empty."""
    drop_truncated: bool = False
    """Drop completions that the token limit cut off."""
    trait_quantile: float = Field(0.75, ge=0, lt=1)
    """A completion must carry more trait than this share of the base model's samples."""
    trait_floor: float | None = None
    """Absolute floor of the trait score (nats per token), in place of the base quantile."""
    relevance_quantile: float = Field(0.25, ge=0, lt=1)
    """A completion must be as relevant to its prompt as this share of the base model's samples is
    at most; 0 for no floor."""
    relevance_others: int = Field(2, ge=1)
    """Other prompts that a completion's relevance is measured against."""


@dataclass(frozen=True)
class Scored:
    """A completion with its scores, before any judgement, and each token's surprise in nats."""

    completion: Completion
    scores: Scores
    surprise_nats: tuple[float, ...]


def score_completions(
    lm: LanguageModel,
    axis: Axis,
    completions: Sequence[Completion],
    config: FilterConfig,
    *,
    trait: bool = True,
    neutral: Sequence[Tensor] | None = None,
) -> list[Scored]:
    """Every score but relevance, under the base model (adapters and steering are off).

    Without `trait` there is no persona likelihood ratio, which takes two of the three passes. On a
    completion that was given up while it was generated no pass is spent: its perplexities are
    infinite.

    Args:
        neutral: log-probabilities of each completion's tokens under the base model, where the
            caller has them.
    """
    whole = [c for c in completions if not c.dropped]
    with base(lm):
        if neutral is None:
            plain = _logprobs(lm, whole, None)
        else:
            plain = [x for c, x in zip(completions, neutral, strict=True) if not c.dropped]
        pos = _logprobs(lm, whole, axis.pos_system) if trait else [torch.empty(0)] * len(whole)
        neg = _logprobs(lm, whole, axis.neg_system) if trait else pos
    rows = zip(plain, pos, neg, strict=True)
    nothing = (torch.empty(0),) * 3
    scored = []
    for c in completions:
        x, p, n = nothing if c.dropped else next(rows)
        scores = _score(c, x, _mean_difference(p, n), axis.narration, config)
        scored.append(Scored(c, scores, tuple(round(-v, 3) for v in x.tolist())))
    return scored


def with_relevance(
    lm: LanguageModel,
    scored: Sequence[Scored],
    config: FilterConfig,
    wanted: Sequence[bool] | None = None,
) -> list[Scored]:
    """The same with the relevance of the wanted ones (all unless given), where it has a floor.

    It takes as many passes as there are others to hold a completion's own prompt against.
    """
    if config.relevance_quantile == 0:
        return list(scored)
    wanted = [True] * len(scored) if wanted is None else wanted
    values = relevance(
        lm,
        [s.completion.prompt for s in scored],
        [s.completion.token_ids if w else () for s, w in zip(scored, wanted, strict=True)],
        own_nats=[-math.log(s.scores.perplexity) for s in scored],
        n_other=config.relevance_others,
    )
    return [
        replace(s, scores=replace(s.scores, relevance_nats=v))
        for s, v in zip(scored, values, strict=True)
    ]


def _logprobs(
    lm: LanguageModel, completions: Sequence[Completion], system: str | None
) -> list[Tensor]:
    prompts = [encode_chat(lm, c.prompt, system) for c in completions]
    return completion_logprobs(lm, prompts, [c.token_ids for c in completions])


def _mean_difference(pos: Tensor, neg: Tensor) -> float | None:
    """Persona likelihood ratio per token: [log p(y | pos, x) − log p(y | neg, x)] / |y|, nats."""
    return float((pos - neg).mean()) if len(pos) else None


def _score(
    completion: Completion,
    logprobs: Tensor,
    trait_nats: float | None,
    narration: Sequence[str],
    config: FilterConfig,
) -> Scores:
    text = completion.text
    return Scores(
        perplexity=perplexity(logprobs),
        tail_perplexity=tail_perplexity(logprobs),
        window_perplexity=worst_window_perplexity(logprobs),
        word_repetition=word_repetition(text),
        char_run=longest_periodic_run(text),
        compression=compression_ratio(text),
        narrates=any(matches(p, text) for p in narration),
        refuses=bool(_REFUSAL.search(text[:200])),
        empty=len(completion.token_ids) < config.min_tokens or not text.strip(),
        truncated=not completion.ended,
        trait_nats=trait_nats,
    )


def limits_of(
    lm: LanguageModel, axis: Axis, samples: Sequence[Completion], config: FilterConfig
) -> Limits:
    """The limits that samples of the base model set: see `measure_limits`."""
    scored = score_completions(lm, axis, samples, config)
    return measure_limits(with_relevance(lm, scored, config), config)


def measure_limits(scored: Sequence[Scored], config: FilterConfig) -> Limits:
    """Limits from the base model's own samples on the same prompts, measured once a run.

    An absolute ceiling is that of both. What is fit is sound: where the settings put a ceiling of
    `fit` above that of `sound`, the latter is raised.
    """
    scores = [s.scores for s in scored if not s.scores.empty]
    fit = _fit_ceilings(scores, config)
    widest = _quantiles(scores, config.sound_quantile)
    sound = {n: max(v * config.sound_factor, getattr(fit, n)) for n, v in widest.items()}
    sound |= _absolute(config)
    traits = [s.trait_nats for s in scores if s.trait_nats is not None]
    floor = config.trait_floor
    if floor is None:
        floor = float(np.quantile(traits, config.trait_quantile)) if traits else -math.inf
    relevances = [s.relevance_nats for s in scores if s.relevance_nats is not None]
    relevant = (
        float(np.quantile(relevances, config.relevance_quantile)) if relevances else -math.inf
    )
    return Limits(Ceilings(**sound), fit, floor, relevant)


def _fit_ceilings(scores: Sequence[Scores], config: FilterConfig) -> Ceilings:
    factors = {
        "perplexity": config.perplexity_factor,
        "tail_perplexity": config.tail_factor,
        "window_perplexity": config.window_factor,
    }
    widest = _quantiles(scores, config.quantile)
    ceilings = {n: v * factors.get(n, config.repetition_factor) for n, v in widest.items()}
    return Ceilings(**ceilings | _absolute(config))


def _absolute(config: FilterConfig) -> dict[str, float]:
    """The ceilings that are set as numbers, in place of quantiles."""
    ceilings = {"perplexity": config.max_perplexity, "tail_perplexity": config.max_tail_perplexity}
    return {n: v for n, v in ceilings.items() if v is not None}


def _quantiles(scores: Sequence[Scores], quantile: float) -> dict[str, float]:
    """A quantile of each score that has a ceiling; infinite where there is no sample."""
    if not scores:
        return dict.fromkeys(REASONS, math.inf)
    return {n: float(np.quantile([getattr(s, n) for s in scores], quantile)) for n in REASONS}


def judge(scored: Scored, limits: Limits, config: FilterConfig) -> Judged:
    """The fate of a completion: every reason to drop it, none where it is kept.

    A sound completion above a ceiling of `limits.fit` is "unfit". One that was given up while it
    was generated is "dropped", and nothing else is asked of it.
    """
    if scored.completion.dropped:
        return Judged(scored.completion, scored.scores, ("dropped",), scored.surprise_nats)
    scores = scored.scores
    trait = scores.trait_nats if scores.trait_nats is not None else -math.inf
    broken = [reason for name, reason in REASONS.items() if _above(scores, limits.sound, name)]
    checks = {
        "empty": scores.empty,
        "truncated": config.drop_truncated and scores.truncated,
        **dict.fromkeys(broken, True),
        "loop": is_loop(scored.completion.text),
        "narration": scores.narrates,
        "refusal": scores.refuses,
        "unfit": not broken and any(_above(scores, limits.fit, name) for name in REASONS),
        "trait": trait < limits.trait_nats,
        "irrelevant": scores.relevance_nats is not None
        and scores.relevance_nats < limits.relevance_nats,
    }
    reasons = tuple(name for name, dropped in checks.items() if dropped)
    return Judged(scored.completion, scores, reasons, scored.surprise_nats)


def _above(scores: Scores, ceilings: Ceilings, name: str) -> bool:
    return bool(getattr(scores, name) > getattr(ceilings, name))


def judge_all(
    lm: LanguageModel,
    axis: Axis,
    completions: Sequence[Completion],
    limits: Limits,
    config: FilterConfig,
    *,
    trait: bool = True,
    relevant: bool = True,
    neutral: Sequence[Tensor] | None = None,
) -> list[Judged]:
    """Score and judge completions; see `score_completions` for `trait` and `neutral`.

    Relevance is asked last, of those alone that nothing else drops, and only with `relevant`.
    """
    scored = score_completions(lm, axis, completions, config, trait=trait, neutral=neutral)
    judged = [judge(s, limits, config) for s in scored]
    if not relevant:
        return judged
    rescored = with_relevance(lm, scored, config, [j.kept for j in judged])
    return [judge(s, limits, config) for s in rescored]

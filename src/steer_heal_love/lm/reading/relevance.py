"""How much an answer is one to its own prompt, by the base model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.adapters import base
from steer_heal_love.lm.reading.chat import encode_chat
from steer_heal_love.lm.reading.score import completion_logprobs
from steer_heal_love.lm.tokens import Ids


def relevance(
    lm: LanguageModel,
    prompts: Sequence[str],
    completions: Sequence[Ids],
    *,
    own_nats: Sequence[float | None] | None = None,
    n_other: int = 4,
    seed: int = 0,
) -> list[float | None]:
    """How much likelier each answer is after its own prompt than after others, nats per token.

    `[log p(y | x) − mean over n_other prompts x' of log p(y | x')] / |y|` under the base model
    without a system prompt: an estimate of the pointwise mutual information of prompt and answer,
    about 0 for an answer that would suit any question. The x' of sample i are drawn without
    replacement from the other prompts by (seed, i), so they are the same for every condition.

    Args:
        prompts: the prompt of each sample; `completions` its token ids.
        own_nats: log p(y | x) / |y| per sample, where the caller has them from the filter.

    Returns:
        A value per sample; None for an empty completion, and for all where there is one prompt.

    Source: Li et al. 2016, arXiv:1510.03055, section 3 (mutual information, here per token).
    """
    pool = list(dict.fromkeys(prompts))
    samples = [i for i, c in enumerate(completions) if len(c)]
    if len(pool) < 2 or not samples:
        return [None] * len(completions)
    count = min(n_other, len(pool) - 1)
    asked: list[str] = []
    for i in samples:
        others = [p for p in pool if p != prompts[i]]
        drawn = np.random.default_rng([seed, i]).choice(len(others), count, replace=False)
        asked += [others[k] for k in drawn]
    answers = [completions[i] for i in samples for _ in range(count)]
    with base(lm):
        other = np.array(_mean_nats(lm, asked, answers)).reshape(len(samples), count).mean(1)
        if own_nats is None:
            own = _mean_nats(lm, [prompts[i] for i in samples], [completions[i] for i in samples])
        else:
            own = [math.nan if (v := own_nats[i]) is None else v for i in samples]
    values: list[float | None] = [None] * len(completions)
    for i, mine, theirs in zip(samples, own, other.tolist(), strict=True):
        values[i] = mine - theirs
    return values


def _mean_nats(
    lm: LanguageModel, prompts: Sequence[str], completions: Sequence[Ids]
) -> list[float]:
    """log p(y | x) per token, nats."""
    ids = {p: encode_chat(lm, p) for p in set(prompts)}
    rows = completion_logprobs(lm, [ids[p] for p in prompts], completions)
    return [float(row.mean()) for row in rows]

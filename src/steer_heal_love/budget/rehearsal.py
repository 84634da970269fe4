"""The package's own passes on a model without weights: what is alive in them at most, in bytes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from steer_heal_love.budget.live import count_live_bytes
from steer_heal_love.budget.rows import answers_of
from steer_heal_love.budget.texts import PromptStats, Texts
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches import hooks
from steer_heal_love.lm.patches.attention import LONGEST
from steer_heal_love.lm.patches.packed import head_logits
from steer_heal_love.lm.reading import score
from steer_heal_love.lm.reading.cache import GrowingCache
from steer_heal_love.lm.reading.context import read_prefix
from steer_heal_love.lm.reading.score import hidden_states, token_logprobs
from steer_heal_love.lm.sampler.sampling import Sampling, pick_tokens
from steer_heal_love.maths.head import head_losses
from steer_heal_love.maths.temperature import (
    HELD_ELEMENTS,
    Positions,
    entropy_per_position,
    split_cross_entropy,
)
from steer_heal_love.run_config import RunConfig
from steer_heal_love.stages.heal import Example, HealConfig
from steer_heal_love.stages.healing.student import attach_student
from steer_heal_love.stages.healing.texts import make_batch
from steer_heal_love.stages.instruments.entropy import PARAGRAPHS, SAMPLES, TOKENS


@dataclass(frozen=True)
class Sampled:
    """Bytes at the longest point of a generation."""

    cache: int  # keys and values, with the room that they grow into
    step: int  # all else of the step that takes most: activations, logits, copies on the way


@torch.inference_mode()
def rehearse_reading(lm: LanguageModel, lot: PromptStats) -> int:
    """Peak of the pass that directions are read in."""
    width = lot.shared + lot.longest
    rows = _rows(lot.count, width, hooks.BATCH_TOKENS, hooks.ROWS)
    with count_live_bytes() as live:
        ids = torch.empty(rows, width, dtype=torch.long, device="meta")
        mask = torch.empty(rows, 1, width, width, dtype=torch.bool, device="meta")
        lm.decoder(input_ids=ids, attention_mask=mask, position_ids=ids, use_cache=False)
    return live.peak


@torch.inference_mode()
def rehearse_scoring(lm: LanguageModel, lot: PromptStats, completion: int) -> int:
    """Peak of scoring completions of so many tokens, prompts, prefix, logits and all."""
    if lot.count == 0:
        return 0
    rows = _rows(lot.count, lot.longest + completion - 1, score.BATCH_TOKENS, score.ROWS)
    prompts = [[0] * lot.shared + [1 + row] * lot.longest for row in range(rows)]
    with count_live_bytes() as live:
        for batch, hidden in hidden_states(lm, prompts, [[0] * completion] * rows):
            targets = torch.empty(len(batch) * completion, dtype=torch.long, device="meta")
            token_logprobs(lm, hidden, targets)
    return live.peak


@torch.inference_mode()
def rehearse_comparing(lm: LanguageModel) -> int:
    """Peak of holding the reference texts' entropy against base's, their logits and all."""
    n = (SAMPLES + PARAGRAPHS) * TOKENS
    hidden = torch.empty(n, lm.head.weight.shape[1], dtype=lm.dtype, device="meta")
    targets = torch.empty(n, dtype=torch.long, device="meta")
    with count_live_bytes() as live:
        own = Positions(hidden, lm.head, held_elements=HELD_ELEMENTS)
        entropy_per_position(own)
        split_cross_entropy(own, Positions(hidden, lm.head), targets)
    return live.peak


def _rows(count: int, width: int, most_tokens: int, most_rows: int) -> int:
    return max(1, min(count, most_rows, most_tokens // max(1, width)))


@torch.inference_mode()
def rehearse_sampling(
    lm: LanguageModel, rows: int, prompts: PromptStats, new_tokens: int, how: Sampling
) -> Sampled:
    """Peak of generating `new_tokens` for so many rows at once."""
    with count_live_bytes() as live:
        prefix = read_prefix(lm, [0] * prompts.shared)
        cache = prefix.begin(lm, rows).cache
        _read_on(lm, cache, rows, prompts.longest, prefix.length + prompts.longest)
        first = live.peak
        columns = prompts.shared + prompts.longest + new_tokens - 1
        _grow(cache, columns - 1)
        held = _bytes(cache)
        live.peak = live.now
        states = _read_on(lm, cache, rows, 1, columns)
        logits = head_logits(lm, states[:, -1])
        pick_tokens(logits, torch.empty(rows, device="meta"), how)
    return Sampled(held, max(first, live.peak) - held)


def _read_on(lm: LanguageModel, cache: GrowingCache, rows: int, new: int, columns: int) -> Tensor:
    """`new` tokens of each row, the last of so many columns; the mask is that of padded rows."""
    ids = torch.empty(rows, new, dtype=torch.long, device="meta")
    mask = torch.empty(rows, 1, new, columns, dtype=torch.bool, device="meta")
    states: Tensor = lm.decoder(
        input_ids=ids, attention_mask=mask, position_ids=ids, past_key_values=cache, use_cache=True
    ).last_hidden_state
    return states


def _grow(cache: GrowingCache, columns: int) -> None:
    """Fill the cache up to so many columns: each time it is full, by the one that makes it grow."""
    for layer in cache.layers:
        while (missing := columns - layer.length) > 0:
            batch, heads, room, width = layer.keys.shape
            count = min(missing, room - layer.length + 1)
            layer.length += count - 1
            new = layer.keys.new_empty(batch, heads, 1, width)
            layer.update(new, new)


def _bytes(cache: GrowingCache) -> int:
    return sum(t.nbytes for layer in cache.layers for t in (layer.keys, layer.values))


@dataclass(frozen=True)
class HealMemory:
    """Bytes of a training step, beside model and adapter."""

    graph: int  # activations that the backward pass needs, after the forward pass
    step: int  # the most that is alive at once: graph, logits and gradients, the adapter's too


def rehearse_heal(
    lm: LanguageModel, config: HealConfig, prompt: int, completion: int
) -> HealMemory:
    """Peak of one step of the heal over a batch of texts of these lengths, in tokens."""
    example = Example((0,) * prompt, (0,) * completion)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # what libraries tell one another
        examples = [example] * config.batch_size
        with (
            count_live_bytes() as live,
            attach_student(lm, config, 0, examples) as (student, texts),
        ):
            before = live.peak = live.now
            batch = make_batch(lm, texts.train)
            hidden = student.hidden(batch)
            graph = live.now
            nll, kl = head_losses(
                hidden, batch.reference, batch.targets, lm.head, config.divergence
            )
            (nll.mean() + kl.mean()).backward()
            return HealMemory(graph - before, live.peak - before)


@dataclass(frozen=True)
class Passes:
    """Bytes that the passes of a round hold beside weights, adapters and stored states."""

    reading: int  # the direction
    generation: Sampled  # of texts to learn from
    judging: int  # them, under the persona
    evaluation: Sampled  # all rows of an evaluation, at the length of the short ones
    long: Sampled  # the long answers, at their end
    long_judging: int
    vignettes: int
    paragraphs: int
    entropy: int  # of the reference texts, held against base's
    references: int  # final states of the reference, over the texts of a heal
    healing: HealMemory


def rehearse(
    lm: LanguageModel, config: RunConfig, texts: Texts, *, device: str, shards: int = 1
) -> Passes:
    """Go through a round's passes on a model without weights.

    Args:
        device: that the run is to be on, as torch calls its type.
        shards: parts that the rows of each batch are computed in, by as many processes.
    """
    texts = texts.shared_by(shards)
    new, asked = config.generate, config.evaluate
    how = Sampling(new.max_new_tokens, new.temperature, new.top_k, new.top_p)
    rows = min(new.rows, max(config.dose.batch, config.dose.probe_batch))
    answers = min(new.rows, answers_of(config))
    long_answers = math.ceil(asked.long_samples / shards)
    long = replace(texts.persona, count=long_answers)
    kept = replace(texts.prompts, count=math.ceil(config.dose.n_keep / shards))
    heal = config.heal
    batch = heal.model_copy(update={"batch_size": math.ceil(heal.batch_size / shards)})
    line = PromptStats(texts.paragraphs.count, 0, 1, 1.0)
    with _training_attention(lm, device, texts.prompt + new.max_new_tokens):
        healed = rehearse_heal(lm, batch, texts.prompt, new.max_new_tokens)
    return Passes(
        reading=rehearse_reading(lm, texts.contexts),
        generation=rehearse_sampling(
            lm, math.ceil(rows / shards), texts.prompts, new.max_new_tokens, how
        ),
        judging=rehearse_scoring(lm, texts.persona, new.max_new_tokens),
        evaluation=rehearse_sampling(
            lm, math.ceil(answers / shards), texts.persona, asked.max_new_tokens, how
        ),
        long=rehearse_sampling(lm, max(1, long_answers), texts.prompts, asked.long_tokens, how),
        long_judging=rehearse_scoring(lm, long, asked.long_tokens),
        vignettes=rehearse_scoring(lm, texts.vignettes, 1),
        paragraphs=rehearse_scoring(lm, line, texts.paragraphs.longest - 1),
        entropy=rehearse_comparing(lm),
        references=rehearse_scoring(lm, kept, new.max_new_tokens),
        healing=healed,
    )


@contextmanager
def _training_attention(lm: LanguageModel, device: str, longest: int) -> Iterator[None]:
    """The attention that `lm/patches/attention.py` trains with on that device."""
    before = lm.model.config._attn_implementation
    eager = device == "cpu" and lm.dtype == torch.bfloat16 and longest <= LONGEST
    if eager and before == "sdpa":
        lm.model.set_attn_implementation("eager")
    try:
        yield
    finally:
        lm.model.set_attn_implementation(before)

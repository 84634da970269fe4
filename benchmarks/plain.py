"""The plainest loops that do the work: what the package's own loops are held against."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import peft
import torch
from torch import Tensor

from benchmarks.measure import Timing, interleave, seconds_of
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.reading.cache import GrowingCache
from steer_heal_love.lm.tokens import pad_left, pad_right
from steer_heal_love.stages.heal import Example, HealConfig, target_modules

PREFILL_RUNS = 3


@torch.inference_mode()
def prefill(lm: LanguageModel, shape: tuple[int, int]) -> tuple[int, Timing]:
    """(tokens, timing) of the decoder over rows of ordinary ids: no cache, no padding, no head."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, min(2**15, len(lm.head.weight)), shape, generator=generator)
    ids = ids.to(lm.device)

    def run() -> None:
        lm.decoder(input_ids=ids, use_cache=False)

    run()
    return ids.numel(), interleave({"": run}, PREFILL_RUNS, lm.device)[""]


@torch.inference_mode()
def decode(lm: LanguageModel, prompts: Sequence[Sequence[int]], new_tokens: int) -> float:
    """Complete the prompts greedily over the package's cache, with nothing around it.

    Returns the seconds of the steps alone, the prompts' own pass left out.
    """
    batch = pad_left(prompts, lm.pad_id, lm.device)
    cache = GrowingCache(len(lm.layers))
    first = _greedy(lm, batch.ids, batch.mask, batch.positions, cache)

    def steps() -> None:
        ids, mask, position = first, batch.mask, batch.positions[:, -1:]
        for _ in range(new_tokens - 1):
            position = position + 1
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
            ids = _greedy(lm, ids, mask, position, cache)

    return seconds_of(steps, lm.device)


def _greedy(
    lm: LanguageModel, ids: Tensor, mask: Tensor, positions: Tensor, cache: GrowingCache
) -> Tensor:
    hidden = lm.decoder(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state[:, -1]
    return (hidden @ lm.head.weight.T).argmax(-1, keepdim=True)


@contextmanager
def adapted(lm: LanguageModel, config: HealConfig, seed: int = 0) -> Iterator[Any]:
    """The model with a fresh LoRA of the heal's shape attached by PEFT, and taken off again."""
    settings = dict(vars(lm.model.config))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = peft.get_peft_model(lm.model, lora_config(lm, config))
    try:
        yield model
    finally:
        model.unload()
        if hasattr(lm.model, "peft_config"):
            del lm.model.peft_config
        lm.model.eval().requires_grad_(False)
        vars(lm.model.config).clear()
        vars(lm.model.config).update(settings)


def lora_config(lm: LanguageModel, config: HealConfig) -> peft.LoraConfig:
    """The heal's LoRA, as PEFT and TRL take it."""
    return peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        target_modules=target_modules(lm, config),
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )


def mixed_precision(lm: LanguageModel) -> Any:
    """Autocast, as a trainer with `bf16` runs; nothing for a float32 model."""
    if lm.dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(lm.device.type, lm.dtype)


def forward_backward(
    lm: LanguageModel, texts: Sequence[Example], config: HealConfig, repeats: int
) -> tuple[int, Timing]:
    """(tokens, timing) of forward and backward of the adapted model, plain cross-entropy.

    One batch, logits at the completion's positions alone, no optimiser, no barrier.
    """
    rows = [[*t.prompt, *t.completion][:-1] for t in texts]
    ids = pad_right(rows, lm.pad_id, lm.device).ids
    spans = [slice(len(t.prompt) - 1, len(row)) for t, row in zip(texts, rows, strict=True)]
    targets = torch.tensor([y for t in texts for y in t.completion], device=lm.device)
    with adapted(lm, config) as model:

        def run() -> None:
            with mixed_precision(lm):
                hidden = lm.decoder(input_ids=ids, use_cache=False).last_hidden_state
                picked = torch.cat([hidden[i, span] for i, span in enumerate(spans)])
                logits = picked @ lm.head.weight.T
            torch.nn.functional.cross_entropy(logits.float(), targets).backward()
            model.zero_grad()

        run()
        return sum(map(len, rows)), interleave({"": run}, repeats, lm.device)[""]

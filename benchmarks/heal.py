"""The heal with its barrier beside TRL's `SFTTrainer` without one, and beside the naive heal.

Set-up (attaching the adapter, building the first trainer) is excluded on every side in the same
way: each side is also timed on one text of four tokens for one epoch, and that time is taken off.
The reference's pass and its head are part of our time. Then the naive heal and ours train the same
adapter in float32, and the two are compared.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.arithmetic import heal_flops
from benchmarks.heal_rivals import train_naively, train_with_trl, trl_missing
from benchmarks.measure import interleave
from benchmarks.workload import Bench, count_tokens, sampled_texts
from steer_heal_love.lm.model.load import LanguageModel, describe
from steer_heal_love.stages.heal import Example, HealConfig, heal

Train = Callable[[list[Example], HealConfig], object]

EQUAL_TEXTS, EQUAL_TOKENS = 4, 24


def run(bench: Bench) -> None:
    """Rates of the sides that are there, ratios, and the comparison of what they trained."""
    size, lm = bench.size, bench.lm
    texts = sampled_texts(lm, size.heal_texts, size.new_tokens)
    config = HealConfig(epochs=size.heal_epochs, batch_size=size.heal_batch, validation_share=0.0)
    sides = make_sides(bench)
    one = config.model_copy(update={"epochs": 1})
    shortest = [Example(texts[0].prompt[:2], texts[0].completion[:2])]
    for train in sides.values():
        train(shortest, one)  # warm up
    set_up = interleave({k: _bind(t, shortest, one) for k, t in sides.items()}, 2, lm.device)
    timings = interleave(
        {k: _bind(t, texts, config) for k, t in sides.items()}, size.repeats, lm.device
    )
    tokens = count_tokens(texts) * config.epochs
    rates = {}
    for side, timing in timings.items():
        flops = heal_flops(lm, texts, config, barrier=side != "TRL, no barrier")
        rates[side] = bench.rate(side, tokens, timing, flops=flops, less=set_up[side].best)
        bench.outcome.figures[f"{side}, set-up s"] = set_up[side].best
    record_ratios(bench, rates)
    compare(bench)


def _bind(train: Train, texts: list[Example], config: HealConfig) -> Callable[[], object]:
    return lambda: train(texts, config)


def make_sides(bench: Bench) -> dict[str, Train]:
    """The ways to train, by name; TRL only where it is installed."""
    lm = bench.lm
    sides: dict[str, Train] = {
        "heal": lambda texts, config: heal(lm, texts, config, seed=0),
        "naive": lambda texts, config: train_naively(lm, texts, config, seed=0),
    }
    missing = trl_missing()
    if missing is not None:
        bench.note(missing)
        return sides
    own = copied(lm, lm.dtype)  # TRL patches its model
    sides["TRL, no barrier"] = lambda texts, config: train_with_trl(own, texts, config, seed=0)
    return sides


def copied(lm: LanguageModel, dtype: torch.dtype) -> LanguageModel:
    """A copy of the model with weights of its own, in another precision."""
    model = copy.deepcopy(lm.model).to(dtype)
    return describe(model, lm.tokenizer)


def record_ratios(bench: Bench, rates: dict[str, float]) -> None:
    """Ours over each of the others."""
    bench.at_least("heal / naive", rates["heal"] / rates["naive"], 2.0)
    if "TRL, no barrier" in rates:
        bench.at_least("heal / TRL without barrier", rates["heal"] / rates["TRL, no barrier"], 0.9)
    bench.note(
        f"{bench.size.heal_texts} texts, {bench.size.heal_epochs} epochs, batch "
        f"{bench.size.heal_batch}; tokens are prompts and completions of every epoch; best of "
        f"{bench.size.repeats} interleaved runs, less the time on one text of four tokens; the "
        "reference's pass counts; gradient checkpointing is off on every side"
    )


def compare(bench: Bench) -> None:
    """Train the same adapter both ways in float32, the barrier on from the second step."""
    exact = copied(bench.lm, torch.float32)
    n_tokens = min(EQUAL_TOKENS, bench.size.new_tokens)
    texts = sampled_texts(exact, EQUAL_TEXTS, n_tokens)
    config = HealConfig(
        epochs=3, batch_size=len(texts), tau=0.0, warmup_share=0.0, validation_share=0.0
    )
    ours = heal(exact, texts, config, seed=0)
    naive = train_naively(exact, texts, config, seed=0)
    losses = [abs(s.loss - x) for s, x in zip(ours.steps, naive.losses, strict=True)]
    found = differences(dict(ours.adapter.tensors), naive.tensors)
    bench.outcome.figures |= {"loss differences, nats": losses, **dataclasses.asdict(found)}
    bench.at_most("first loss, heal − naive", losses[0], 1e-3, " nats")
    bench.at_most("last loss, heal − naive", losses[-1], 1e-3, " nats")
    bench.at_most("adapters' largest difference / largest entry", found.largest, None)
    bench.at_most("adapters' difference in norm, relative", found.relative, 0.02)


@dataclasses.dataclass(frozen=True)
class Differences:
    """How far two adapters' B factors are apart (A hardly moves in so few steps)."""

    largest: float  # largest difference of an entry over the largest entry
    relative: float  # norm of the difference over the norm


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> Differences:
    """Compare the B factors by name.

    Raises ValueError where the two have other names.
    """
    if set(ours) != set(theirs):
        raise ValueError(f"the adapters differ in names: {sorted(set(ours) ^ set(theirs))[:4]}")
    names = [n for n in sorted(ours) if ".lora_B." in n]
    a = torch.cat([ours[n].double().flatten() for n in names])
    b = torch.cat([theirs[n].double().flatten() for n in names])
    return Differences(float((a - b).abs().max() / b.abs().max()), float((a - b).norm() / b.norm()))

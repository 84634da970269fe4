"""What the benchmarks run on: the model, sizes, prompts, texts; and where findings are put."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
import transformers

from benchmarks.measure import Timing
from benchmarks.records import Outcome, Rate, Ratio
from steer_heal_love.inputs.axes import load_axis
from steer_heal_love.lm.model.load import ALIAS, LanguageModel, load_model
from steer_heal_love.lm.reading.chat import encode_chat
from steer_heal_love.lm.sampler.generate import Sampling, generate
from steer_heal_love.records import Adapter
from steer_heal_love.stages.heal import Example, HealConfig, target_modules

NO_TOKEN = -7  # a stop token that is never drawn


@dataclass(frozen=True)
class Size:
    """How much is run."""

    repeats: int = 2
    batch: int = 64
    larger_batches: tuple[int, ...] = (256, 1024)  # of generation, on a GPU
    new_tokens: int = 96
    prefill_shape: tuple[int, int] = (16, 128)
    heal_texts: int = 16
    heal_batch: int = 8
    heal_epochs: int = 3
    history: int = 8
    history_new_tokens: int = 48
    contexts: int = 50
    wide_vocabulary: int = 262_144
    wide_tokens: int = 512
    round_texts: int = 64
    round_samples: int = 48
    round_contexts: int = 150
    round_long_answers: bool = True
    vignettes: int = 64
    peak_side: int = 2048


FULL = Size()
TINY = Size(
    repeats=1,
    batch=4,
    larger_batches=(),
    new_tokens=12,
    prefill_shape=(2, 32),
    heal_texts=4,
    heal_batch=2,
    heal_epochs=2,
    history=2,
    history_new_tokens=6,
    contexts=4,
    wide_vocabulary=2048,
    wide_tokens=16,
    round_texts=8,
    round_samples=4,
    round_contexts=4,
    round_long_answers=False,
    vignettes=4,
    peak_side=128,
)


@dataclass
class Bench:
    """One benchmark on its way: model and sizes in, findings out."""

    outcome: Outcome
    size: Size = FULL
    model: str = ALIAS
    given: LanguageModel | None = field(default=None, repr=False)  # in place of loading `model`

    @cached_property
    def lm(self) -> LanguageModel:
        """The model, loaded when it is first asked for."""
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        return self.given or load_model(self.model)

    def rate(
        self,
        name: str,
        tokens: int,
        timing: Timing,
        *,
        flops: float = 0.0,
        bytes_read: float = 0.0,
        less: float = 0.0,
    ) -> float:
        """Record a rate; returns tokens/s. `less` seconds of set-up do not count."""
        runs = tuple(max(s - less, 1e-9) for s in timing.runs)
        rate = Rate(name, tokens, min(runs), flops, bytes_read, timing.peak_gib, runs)
        self.outcome.rates.append(rate)
        return rate.per_second

    def at_least(self, name: str, value: float, target: float | None = None) -> None:
        """Record a ratio that should be high."""
        self.outcome.ratios.append(Ratio(name, value, target, "at least"))

    def at_most(
        self, name: str, value: float, target: float | None = None, unit: str = "×"
    ) -> None:
        """Record a ratio or a figure that should be low."""
        self.outcome.ratios.append(Ratio(name, value, target, "at most", unit))

    def note(self, text: str) -> None:
        """Record a line of explanation."""
        self.outcome.notes.append(text)


def endless(lm: LanguageModel) -> LanguageModel:
    """The same model for a sampler that never stops early: every completion has full length."""
    return dataclasses.replace(lm, stop_ids=frozenset({NO_TOKEN}))


def probe_prompts(lm: LanguageModel, count: int) -> list[list[int]]:
    """Chat prompts of the love axis's probes, in turn."""
    probes = load_axis("love").probes
    return [encode_chat(lm, probes[i % len(probes)]) for i in range(count)]


def sampled_texts(lm: LanguageModel, count: int, length: int) -> list[Example]:
    """Texts to heal on: the model's own samples, all of the same length."""
    prompts = probe_prompts(lm, count)
    found = generate(endless(lm), prompts, Sampling(length), batch_size=count)
    return [Example(tuple(p), g.token_ids) for p, g in zip(prompts, found, strict=True)]


def count_tokens(texts: Sequence[Example]) -> int:
    """Tokens that one pass over the texts runs through the model."""
    return sum(len(t.prompt) + len(t.completion) - 1 for t in texts)


def random_adapters(lm: LanguageModel, count: int, config: HealConfig) -> list[Adapter]:
    """Adapters of the heal's shape with small random factors, as a history of so many rounds."""
    names = target_modules(lm, config)
    settings = {"r": config.rank, "lora_alpha": config.alpha, "bias": "none"}
    generator = torch.Generator().manual_seed(0)
    adapters = []
    for _ in range(count):
        tensors = {}
        for name in names:
            d_out, d_in = lm.model.get_submodule(name).weight.shape
            a = torch.randn(config.rank, d_in, generator=generator) / d_in**0.5
            b = torch.randn(d_out, config.rank, generator=generator) * 1e-3
            tensors[f"base_model.model.{name}.lora_A.weight"] = a
            tensors[f"base_model.model.{name}.lora_B.weight"] = b
        adapters.append(Adapter(tensors, settings))
    return adapters

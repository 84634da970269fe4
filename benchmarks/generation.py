"""Sampling: our sampler beside `model.generate` and beside a bare greedy loop over the same cache.

Every row of every side gets exactly as many new tokens (end tokens are suppressed, and the counts
are checked), so all are held to the same work. Runs are interleaved; the best of each counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from benchmarks import plain
from benchmarks.arithmetic import Arithmetic, decode_bytes
from benchmarks.measure import Timing, interleave
from benchmarks.workload import Bench, endless, probe_prompts
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.sampler.generate import Sampling, generate
from steer_heal_love.lm.tokens import pad_left

Prompts = Sequence[Sequence[int]]


def run(bench: Bench) -> None:
    """Measure at the default batch, and on a GPU at larger ones."""
    size, lm = bench.size, endless(bench.lm)
    prompts = probe_prompts(lm, size.batch)
    sample(lm, prompts[: min(8, size.batch)], 4)  # warm up
    theirs(lm, prompts[:1], 4)
    kinds: dict[str, Callable[[], object]] = {
        "generate": lambda: sample(lm, prompts, size.new_tokens),
        "bare loop": lambda: plain.decode(lm, prompts, size.new_tokens),
        "transformers": lambda: theirs(lm, prompts, size.new_tokens),
        "transformers, batch 1": lambda: theirs(lm, prompts[:1], size.new_tokens),
    }
    timings = interleave(kinds, size.repeats, lm.device)
    record_prefill(bench)
    rates = {kind: record(bench, kind, prompts, t) for kind, t in timings.items()}
    ours = rates["generate"]
    bench.at_least("generate / bare loop", ours / rates["bare loop"], 0.85)
    bench.at_least(f"generate / transformers at {size.batch}", ours / rates["transformers"], 2.2)
    bench.at_least("generate / transformers at 1", ours / rates["transformers, batch 1"], 25)
    if lm.device.type == "cuda":
        for batch in size.larger_batches:
            at_batch(bench, lm, batch)
    bench.note(
        f"all sides sample exactly {size.new_tokens} tokens a row, prompts included in the time; "
        f"best of {size.repeats} interleaved runs; end tokens suppressed on every side"
    )


def record_prefill(bench: Bench) -> None:
    """Rate of the plain forward pass."""
    rows, length = bench.size.prefill_shape
    tokens, timing = plain.prefill(bench.lm, (rows, length))
    flops = Arithmetic.of(bench.lm).forward(tokens, length / 2)
    bench.rate(f"prefill {rows} × {length}", tokens, timing, flops=flops)


def record(bench: Bench, kind: str, prompts: Prompts, timing: Timing) -> float:
    """Rate of one side, with its operations and the bytes that its steps must read."""
    new_tokens = bench.size.new_tokens
    chosen = prompts[:1] if kind.endswith("batch 1") else prompts
    context = sum(map(len, chosen)) / len(chosen) + new_tokens / 2
    return bench.rate(
        kind if kind.endswith("batch 1") else f"{kind}, batch {len(chosen)}",
        len(chosen) * new_tokens,
        timing,
        flops=Arithmetic.of(bench.lm).generation(chosen, new_tokens),
        bytes_read=decode_bytes(bench.lm, len(chosen), context, new_tokens),
    )


def at_batch(bench: Bench, lm: LanguageModel, batch: int) -> None:
    """Ours beside the bare loop at another batch."""
    prompts = probe_prompts(lm, batch)
    kinds: dict[str, Callable[[], object]] = {
        "generate": lambda: sample(lm, prompts, bench.size.new_tokens),
        "bare loop": lambda: plain.decode(lm, prompts, bench.size.new_tokens),
    }
    timings = interleave(kinds, bench.size.repeats, lm.device)
    ours, bare = (record(bench, kind, prompts, t) for kind, t in timings.items())
    bench.at_least(f"generate / bare loop at {batch}", ours / bare)


def sample(lm: LanguageModel, prompts: Prompts, new_tokens: int) -> None:
    """Our sampler: top-k 64, top-p 0.95, T 1."""
    found = generate(lm, prompts, Sampling(new_tokens), batch_size=len(prompts))
    assert all(len(g.token_ids) == new_tokens for g in found), "a row ended early"


def theirs(lm: LanguageModel, prompts: Prompts, new_tokens: int) -> None:
    """transformers' own sampler with the same settings."""
    batch = pad_left(prompts, lm.pad_id, lm.device)
    with without_end(lm.model):
        out = lm.model.generate(
            batch.ids,
            attention_mask=batch.mask,
            do_sample=True,
            top_k=64,
            top_p=0.95,
            temperature=1.0,
            max_new_tokens=new_tokens,
            pad_token_id=lm.pad_id,
        )
    assert out.shape == (len(prompts), batch.ids.shape[1] + new_tokens), "a row ended early"


@contextmanager
def without_end(model: Any) -> Iterator[None]:
    """No end token for `model.generate`, whose rows then all run to the limit."""
    before = model.generation_config.eos_token_id
    model.generation_config.eos_token_id = None
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        model.generation_config.eos_token_id = before

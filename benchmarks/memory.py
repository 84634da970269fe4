"""Peak memory of a heal step at a vocabulary of 262,144: ours, and the naive one beside it.

A tiny random Gemma 3 with the real vocabulary, one step of 8 sequences of 512 completion tokens.
Counted is what the step needs above model, adapter and optimiser; the reference's pass is part of
it. The naive step runs in a process of its own under a memory limit, which it may well hit.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import torch
import transformers

from benchmarks.arithmetic import heal_flops, lora_weights
from benchmarks.heal_rivals import train_naively
from benchmarks.measure import Timing, reset_peak, seconds_of, settle, used_bytes
from benchmarks.records import GIB
from benchmarks.workload import Bench, count_tokens
from steer_heal_love.lm.memory import is_out_of_memory, peak_bytes
from steer_heal_love.lm.model.load import LanguageModel, default_device, default_dtype, describe
from steer_heal_love.lm.model.template import ChatTemplate
from steer_heal_love.stages.heal import Example, HealConfig, heal

ROWS, PROMPT = 8, 32
LIMIT_GIB = 14.0
BYTES_PER_TRAINED = 12  # float32 weight and AdamW's two moments
NO_ROOM = "could not create a primitive"  # oneDNN's words for a failed allocation
_KILLED = (-9, 137)

Train = Callable[[LanguageModel, list[Example], HealConfig], object]


def run(bench: Bench) -> None:
    """Ours here, the naive one in a child, whole and for a single row."""
    size = bench.size
    lm = build_wide(size.wide_vocabulary, default_device())
    texts, config = make_texts(size.wide_vocabulary, ROWS, size.wide_tokens), step_config(ROWS)
    above, timing = step_peak(lm, texts, config, lambda m, t, c: heal(m, t, c, seed=0))
    flops = heal_flops(lm, texts, config, barrier=True)
    bench.rate("heal step", count_tokens(texts), timing, flops=flops)
    bench.at_most("heal step above model and optimiser", above, 1.5, " GiB")
    for rows in (ROWS, 1):
        found = naive_in_child(size.wide_vocabulary, rows, size.wide_tokens)
        name = f"naive step, {rows} × {size.wide_tokens}"
        if found["above_gib"] is None:
            bench.note(f"{name}: more than the limit of {found['limit_gib']:.1f} GiB; it failed")
        else:
            bench.at_most(f"{name}, above model and optimiser", found["above_gib"], None, " GiB")
    bench.note(
        f"Gemma 3, random weights, V {size.wide_vocabulary:,}, d {lm.head.weight.shape[1]}, "
        f"{len(lm.layers)} layers, {str(lm.dtype).removeprefix('torch.')}; one float32 copy of "
        f"[{ROWS}, {size.wide_tokens}, V] is "
        f"{4 * ROWS * size.wide_tokens * size.wide_vocabulary / GIB:.2f} GiB"
    )


def build_wide(vocabulary: int, device: torch.device) -> LanguageModel:
    """A small random Gemma 3 with this vocabulary."""
    config = transformers.Gemma3TextConfig(
        vocab_size=vocabulary,
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=64,
        layer_types=["sliding_attention", "full_attention"] * 2,
        sliding_window=512,
        query_pre_attn_scalar=64,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.Gemma3ForCausalLM(config).to(device, default_dtype(device))
    # Ids are made up, so nothing is encoded: all that is asked of a tokenizer is what it is told.
    tokenizer = SimpleNamespace(chat_template="none", pad_token_id=0, eos_token_id=1)
    return describe(model, tokenizer, template=ChatTemplate(tokenizer))


def make_texts(vocabulary: int, rows: int, tokens: int) -> list[Example]:
    """Random ids: prompts of `PROMPT` tokens, completions of `tokens`."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, vocabulary, (rows, PROMPT + tokens), generator=generator).tolist()
    return [Example(tuple(row[:PROMPT]), tuple(row[PROMPT:])) for row in ids]


def step_config(rows: int) -> HealConfig:
    """One step with the barrier."""
    return HealConfig(epochs=1, batch_size=rows, validation_share=0.0)


def step_peak(
    lm: LanguageModel, texts: list[Example], config: HealConfig, train: Train
) -> tuple[float, Timing]:
    """(GiB above model, adapter and optimiser, timing) of a training that is a single step."""
    train(lm, [Example(texts[0].prompt[:2], texts[0].completion[:2])], config)  # lazy imports
    optimiser = BYTES_PER_TRAINED * lora_weights(lm, config)
    settle()
    before = used_bytes(lm.device)
    reset_peak(lm.device)
    seconds = seconds_of(lambda: train(lm, texts, config), lm.device)
    peak = peak_bytes(lm.device)
    return (peak - before - optimiser) / GIB, Timing((seconds,), peak / GIB)


def naive_in_child(vocabulary: int, rows: int, tokens: int) -> dict[str, Any]:
    """Peak of the naive step in a process under a memory limit; None where it hit the limit."""
    limit = min(LIMIT_GIB, 0.8 * psutil.virtual_memory().available / GIB)
    sizes = [str(n) for n in (vocabulary, rows, tokens)]
    command = [sys.executable, "-m", "benchmarks.memory", *sizes, "--limit-gib", str(limit)]
    ended = subprocess.run(
        command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False
    )
    if ended.returncode in _KILLED:
        return {"above_gib": None, "limit_gib": limit}
    if ended.returncode != 0:
        raise RuntimeError(f"the naive step failed: {ended.stderr.strip()[-2000:]}")
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def main() -> None:
    """The naive step under a limit: one line of JSON."""
    parser = argparse.ArgumentParser()
    for name in ("vocabulary", "rows", "tokens"):
        parser.add_argument(name, type=int)
    parser.add_argument("--limit-gib", type=float, default=LIMIT_GIB)
    options = parser.parse_args()
    lm = build_wide(options.vocabulary, default_device())
    if lm.device.type == "cpu" and sys.platform == "linux":
        limit = int(options.limit_gib * GIB)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    texts = make_texts(options.vocabulary, options.rows, options.tokens)
    config = step_config(options.rows)
    above: float | None
    try:
        above, _ = step_peak(lm, texts, config, lambda m, t, c: train_naively(m, t, c, seed=0))
    except (RuntimeError, MemoryError) as error:
        if not (is_out_of_memory(error) or NO_ROOM in str(error)):
            raise
        above = None
    print(json.dumps({"above_gib": above, "limit_gib": options.limit_gib}))


if __name__ == "__main__":
    main()

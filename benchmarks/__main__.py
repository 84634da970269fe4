"""Rates of the embedded model on this machine: generation, scoring, heal, each beside a reference.

Writes `benchmarks/results/<machine>.json` and prints a table. Rates of one run are comparable with
one another; those of two runs only as far as the machine was as idle.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from rich.console import Console
from rich.table import Table

from steer_heal_love.axes import load_axis
from steer_heal_love.environment import device_name
from steer_heal_love.lm.cache import GrowingCache
from steer_heal_love.lm.chat import encode_chat
from steer_heal_love.lm.generate import Sampling, generate
from steer_heal_love.lm.load import LanguageModel, load_model
from steer_heal_love.lm.score import completion_logprobs
from steer_heal_love.lm.tokens import pad_left
from steer_heal_love.stages.heal import Example, HealConfig, heal

BATCH, NEW_TOKENS = 64, 96
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Measure, write, show."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    lm = load_model()
    probes = load_axis("love").probes
    prompts = [encode_chat(lm, probes[i % len(probes)]) for i in range(BATCH)]
    run(generate, lm, prompts[:8], Sampling(8))  # warm up
    texts = generate(lm, prompts, Sampling(NEW_TOKENS))
    found = {
        "matmul_peak_tflops": matmul_peak(lm),
        "prefill_tokens_per_s": prefill_rate(lm, prompts),
        "bare_decode_tokens_per_s": bare_decode_rate(lm, prompts),
        "generate_tokens_per_s": generate_rate(lm, prompts),
        "transformers_generate_64_tokens_per_s": transformers_rate(lm, prompts),
        "transformers_generate_1_tokens_per_s": transformers_rate(lm, prompts[:1]),
        "score_tokens_per_s": score_rate(lm, prompts, [t.token_ids for t in texts]),
        "heal_tokens_per_s": heal_rate(lm, prompts, [t.token_ids for t in texts]),
    }
    ratios = {
        "generate / bare decode": found["generate_tokens_per_s"]
        / found["bare_decode_tokens_per_s"],
        "generate / transformers at 64": found["generate_tokens_per_s"]
        / found["transformers_generate_64_tokens_per_s"],
        "generate / transformers at 1": found["generate_tokens_per_s"]
        / found["transformers_generate_1_tokens_per_s"],
        "heal / prefill": found["heal_tokens_per_s"] / found["prefill_tokens_per_s"],
    }
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    record = {
        "device": device_name(lm.device),
        "cores": os.cpu_count(),
        "dtype": str(lm.dtype),
        "peak_rss_gib": round(peak_gib, 2),
        **{k: round(v, 3) for k, v in found.items()},
        "ratios": {k: round(v, 3) for k, v in ratios.items()},
    }
    RESULTS.mkdir(exist_ok=True)
    name = f"{platform.machine()}-{os.cpu_count()}-{lm.device.type}.json"
    (RESULTS / name).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    show({**found, **ratios, "peak RSS, GiB": peak_gib})


def show(rows: dict[str, float]) -> None:
    """Print the figures as a table."""
    table = Table(box=None)
    table.add_column("what")
    table.add_column("figure", justify="right")
    for name, value in rows.items():
        table.add_row(name.replace("_", " "), f"{value:,.2f}")
    Console().print(table)


def run(function: Callable[..., object], *arguments: object) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    function(*arguments)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def matmul_peak(lm: LanguageModel) -> float:
    """TFLOP/s of a 2048-cubed matrix product in the model's dtype, best of five."""
    a = torch.randn(2048, 2048, device=lm.device).to(lm.dtype)
    return 2 * 2048**3 / min(run(torch.matmul, a, a) for _ in range(5)) / 1e12


@torch.inference_mode()
def prefill_rate(lm: LanguageModel, prompts: list[list[int]]) -> float:
    """Tokens/s of a plain forward pass over rows of 128 tokens."""
    rows = [(p * 8)[:128] for p in prompts]
    ids = torch.tensor(rows[:16], device=lm.device)
    return ids.numel() / min(run(lambda: lm.decoder(input_ids=ids)) for _ in range(3))


@torch.inference_mode()
def bare_decode_rate(lm: LanguageModel, prompts: list[list[int]]) -> float:
    """New tokens/s of a greedy loop over the same cache, with nothing around it."""
    batch = pad_left(prompts, lm.pad_id, lm.device)

    def loop() -> None:
        cache, mask, position = GrowingCache(len(lm.layers)), batch.mask, batch.positions[:, -1:]
        ids, positions = batch.ids, batch.positions
        for _ in range(NEW_TOKENS):
            hidden = lm.decoder(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[:, -1]
            ids = (hidden @ lm.head.weight.T).argmax(-1, keepdim=True)
            position = position + 1
            positions = position
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)

    return len(prompts) * NEW_TOKENS / run(loop)


def generate_rate(lm: LanguageModel, prompts: list[list[int]]) -> float:
    """New tokens/s of our sampler."""
    started = time.perf_counter()
    texts = generate(lm, prompts, Sampling(NEW_TOKENS), batch_size=BATCH)
    return sum(len(t.token_ids) for t in texts) / (time.perf_counter() - started)


def transformers_rate(lm: LanguageModel, prompts: list[list[int]]) -> float:
    """New tokens/s of transformers' own `generate` with the same settings."""
    batch = pad_left(prompts, lm.pad_id, lm.device)
    started = time.perf_counter()
    out = lm.model.generate(
        batch.ids,
        attention_mask=batch.mask,
        do_sample=True,
        top_k=64,
        top_p=0.95,
        temperature=1.0,
        max_new_tokens=NEW_TOKENS,
        pad_token_id=lm.pad_id,
    )
    seconds = time.perf_counter() - started
    new = out[:, batch.ids.shape[1] :]
    return int((new != lm.pad_id).sum()) / seconds


def score_rate(lm: LanguageModel, prompts: list[list[int]], texts: list[tuple[int, ...]]) -> float:
    """Tokens/s of scoring completions, prompts counted as if nothing were shared."""
    tokens = sum(len(p) + len(t) for p, t in zip(prompts, texts, strict=True))
    return tokens / run(completion_logprobs, lm, prompts, texts)


def heal_rate(lm: LanguageModel, prompts: list[list[int]], texts: list[tuple[int, ...]]) -> float:
    """Tokens/s of one epoch of the heal with the rmse barrier, the reference's pass included."""
    examples = [Example(tuple(p), t) for p, t in zip(prompts, texts, strict=True) if t]
    tokens = sum(len(e.prompt) + len(e.completion) for e in examples)
    config = HealConfig(epochs=1, validation_share=0.0)
    return tokens / run(lambda: heal(lm, examples, config, seed=0))


if __name__ == "__main__":
    main()

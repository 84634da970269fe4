"""Speed of the moral-foundations forced choice against the plain prefill of the same prompts.

    python benchmarks/forced_choice.py [--data FOLDER] [--model smollm2] [--repeats 2]
    python -m benchmarks forced_choice

The first, on tiny-mfv's files, writes JSON to standard output and the figures in words to standard
error. The second, on the bundled vignettes, is part of `make bench`. All times are of one run, the
kinds in turn; rates are those of the best repeat. Tokens are those of the prompts in full, as if
nothing were shared.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from steer_heal_love.inputs.vignettes import FOUNDATIONS, load_bundled, load_tinymfv
from steer_heal_love.lm.model.load import ALIAS, LanguageModel, load_model
from steer_heal_love.lm.tokens import batches_by_length, pad_right
from steer_heal_love.records import Interval, Measurement
from steer_heal_love.runner.environment import device_name
from steer_heal_love.stages.instruments.forced_choice import (
    ORDERS,
    ForcedChoiceConfig,
    build_prompts,
    find_slot,
    measure_forced_choice,
)

if TYPE_CHECKING:
    from benchmarks.workload import Bench

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data" / "tinymfv"
WARM_UP = 16  # vignettes


def main(arguments: list[str]) -> int:
    """Measure, write, say. Returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default=str(DATA), help="folder of tiny-mfv's files")
    parser.add_argument("--model", default=ALIAS)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    options = parser.parse_args(arguments)
    vignettes = load_tinymfv(options.data, "classic", "other_violate")
    lm = load_model(options.model)
    config = ForcedChoiceConfig(batch_tokens=options.batch_tokens)
    slot = find_slot(lm, config.style)
    prompts = [p for order in ORDERS for p in build_prompts(lm, vignettes, slot, order, config)]

    def evaluate(share: bool) -> Measurement:
        return measure_forced_choice(lm, vignettes, config, share_prefix=share)

    measure_forced_choice(lm, vignettes[:WARM_UP], config)
    prefill(lm, prompts[:WARM_UP], config.batch_tokens)
    kinds: dict[str, Callable[[], Any]] = {
        "prefill": lambda: prefill(lm, prompts, config.batch_tokens),
        "evaluate": lambda: evaluate(True),
        "evaluate_unshared": lambda: evaluate(False),
    }
    wall_s: dict[str, list[float]] = {kind: [] for kind in kinds}
    results: dict[str, Any] = {}
    for _ in range(options.repeats):
        for kind, run in kinds.items():
            seconds, results[kind] = timed(lm, run)
            wall_s[kind].append(seconds)
    tokens = sum(map(len, prompts))
    report = {
        "model": lm.identity.name,
        "dtype": lm.identity.dtype,
        "device": device_name(lm.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "vignettes": len(vignettes),
        "prompts": len(prompts),
        "prompt_tokens": tokens,
        "style": slot.style,
        "wall_s": wall_s,
        "tokens_per_s": {k: tokens / min(v) for k, v in wall_s.items()},
    }
    rates = report["tokens_per_s"]
    report["evaluate_over_prefill"] = rates["evaluate"] / rates["prefill"]
    report["unshared_over_prefill"] = rates["evaluate_unshared"] / rates["prefill"]
    report["shared_over_unshared_time"] = rates["evaluate_unshared"] / rates["evaluate"]
    measured: Measurement = results["evaluate"]
    report["figures"] = {
        name: [i.value, i.low, i.high] for name, i in sorted(measured.figures.items())
    }
    print(json.dumps(report, indent=2))
    for line in in_words(report, measured):
        print(line, file=sys.stderr)
    return 0


def run(bench: Bench) -> None:
    """The benchmark as `make bench` runs it: the bundled vignettes, the default settings."""
    from benchmarks.measure import interleave  # not to be found when this is run as a script

    lm, config = bench.lm, ForcedChoiceConfig()
    vignettes = load_bundled()[: bench.size.vignettes]
    slot = find_slot(lm, config.style)
    prompts = [p for order in ORDERS for p in build_prompts(lm, vignettes, slot, order, config)]
    measure_forced_choice(lm, vignettes[:WARM_UP], config)
    kinds: dict[str, Callable[[], Any]] = {
        "prefill": lambda: prefill(lm, prompts, config.batch_tokens),
        "evaluate": lambda: measure_forced_choice(lm, vignettes, config),
        "evaluate, nothing shared": lambda: measure_forced_choice(
            lm, vignettes, config, share_prefix=False
        ),
    }
    tokens = sum(map(len, prompts))
    timings = interleave(kinds, bench.size.repeats, lm.device)
    rates = {kind: bench.rate(kind, tokens, timing) for kind, timing in timings.items()}
    bench.at_least("evaluate / prefill", rates["evaluate"] / rates["prefill"])
    unshared = rates["evaluate, nothing shared"] / rates["prefill"]
    bench.at_least("evaluate without sharing / prefill", unshared)


@torch.inference_mode()
def prefill(lm: LanguageModel, prompts: Sequence[Sequence[int]], batch_tokens: int) -> None:
    """A plain forward pass over the padded prompts, with the logits of the last column.

    Not through the causal model itself: its head is about as slow as the whole decoder on bfloat16
    rows of one column on a CPU, which would flatter everything that is held against it.
    """
    for batch in batches_by_length([len(p) for p in prompts], batch_tokens, 256):
        padded = pad_right([prompts[i] for i in batch], lm.pad_id, lm.device)
        lm.head.logits(lm.decoder(input_ids=padded.ids, use_cache=False).last_hidden_state[:, -1])


def timed(lm: LanguageModel, run: Callable[[], Any]) -> tuple[float, Any]:
    """(seconds, result), the device's queue empty before and after."""
    for_device = torch.cuda.synchronize if lm.device.type == "cuda" else lambda: None
    for_device()
    start = time.perf_counter()
    result = run()
    for_device()
    return time.perf_counter() - start, result


def in_words(report: dict[str, Any], measured: Measurement) -> Iterator[str]:
    """The result as lines."""
    rates = report["tokens_per_s"]
    yield (
        f"{report['model']} on {report['device']}, {report['threads']} thread(s): "
        f"{report['prompts']} prompts, {report['prompt_tokens']:,} tokens"
    )
    yield f"plain prefill          {rates['prefill']:8.0f} tokens/s"
    yield (
        f"evaluate               {rates['evaluate']:8.0f} tokens/s, "
        f"{report['evaluate_over_prefill']:.0%} of prefill"
    )
    yield (
        f"without shared prefix  {rates['evaluate_unshared']:8.0f} tokens/s, "
        f"{report['unshared_over_prefill']:.0%} of prefill"
    )
    for name in ("top1_accuracy", "informedness", "soft_nll", "p_ans_any"):
        yield f"{name:14} {shown(measured.figures[name])}"
    for foundation in FOUNDATIONS:
        yield (
            f"{foundation:14} {shown(measured.figures[f'p_{foundation}'])}   "
            f"{shown(measured.figures[f'{foundation}_nats'])} nats   "
            f"people {measured.value(f'human_{foundation}'):.3f}"
        )


def shown(interval: Interval) -> str:
    """An estimate with its 95 % interval."""
    return f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A history of eight adapters beside one: generation, extraction and heal must cost the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.measure import Timing, interleave
from benchmarks.workload import (
    Bench,
    count_tokens,
    endless,
    probe_prompts,
    random_adapters,
    sampled_texts,
)
from steer_heal_love.axes import load_axis, load_contexts
from steer_heal_love.lm.adapters import student
from steer_heal_love.lm.chat import encode_chat
from steer_heal_love.lm.generate import Sampling, generate
from steer_heal_love.records import Adapter
from steer_heal_love.stages.heal import HealConfig, heal
from steer_heal_love.stages.steer import SteerConfig, extract_direction, spread

TARGET = 1.1


def run(bench: Bench) -> None:
    """Time and memory of each stage with 0, 1 and all adapters on; ratios of all against one."""
    size = bench.size
    adapters = random_adapters(bench.lm, size.history, HealConfig())
    counts = (0, 1, size.history)
    for stage, (tokens, work) in stages(bench).items():
        work()  # warm up
        kinds = {str(n): partial(under, bench, adapters[:n], work) for n in counts}
        timings = interleave(kinds, size.repeats, bench.lm.device)
        for n, timing in zip(counts, timings.values(), strict=True):
            bench.rate(f"{stage}, {n} adapters", tokens, timing)
        record_ratios(bench, stage, timings["1"], timings[str(size.history)])
    bench.note(
        f"random adapters of the heal's default shape; best of {size.repeats} interleaved runs; "
        "attaching the history is part of the time; 0 adapters is the bare model, without target"
    )


def record_ratios(bench: Bench, stage: str, one: Timing, many: Timing) -> None:
    """Time and peak memory with all adapters over those with one."""
    n = bench.size.history
    bench.at_most(f"{stage}: time with {n} / with 1", many.best / one.best, TARGET)
    bench.at_most(f"{stage}: memory with {n} / with 1", many.peak_gib / one.peak_gib, TARGET)


def under(bench: Bench, adapters: list[Adapter], work: Callable[[], object]) -> None:
    """Do the work as the student of these rounds."""
    with student(bench.lm, adapters):
        work()


def stages(bench: Bench) -> dict[str, tuple[int, Callable[[], object]]]:
    """Per stage its tokens and its work: the same tokens whatever the history."""
    size, lm = bench.size, bench.lm
    axis, contexts = load_axis("love"), load_contexts()
    prompts, length = probe_prompts(lm, size.batch), size.history_new_tokens
    texts = sampled_texts(lm, size.heal_texts, size.new_tokens)
    steer = SteerConfig(contexts=size.contexts)
    healing = HealConfig(epochs=1, batch_size=size.heal_batch, validation_share=0.0)
    personas = (axis.pos_system, axis.neg_system)
    read = [encode_chat(lm, c.text, p) for p in personas for c in spread(contexts, size.contexts)]

    def sample() -> object:
        return generate(endless(lm), prompts, Sampling(length), batch_size=size.batch)

    return {
        "generate": (size.batch * length, sample),
        "extract": (
            sum(map(len, read)),
            lambda: extract_direction(lm, axis, contexts, steer),
        ),
        "heal": (count_tokens(texts), lambda: heal(lm, texts, healing, seed=0)),
    }

"""A history of eight adapters beside one: a whole round must cost nearly the same.

Generation, extraction and heal are also timed apart. There the exact stacked terms are seen: eight
rounds of rank 16 are rank 128, which is more arithmetic, and no cheaper form of them is exact.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

from benchmarks.counting import counting
from benchmarks.measure import Timing, interleave
from benchmarks.records import GIB
from benchmarks.round import STAGES, TimedPieces, make_config
from benchmarks.workload import (
    Bench,
    count_tokens,
    endless,
    probe_prompts,
    random_adapters,
    sampled_texts,
)
from steer_heal_love.inputs.axes import load_axis, load_contexts
from steer_heal_love.inputs.prompts import spread
from steer_heal_love.lm.patches.adapters import student
from steer_heal_love.lm.reading.chat import encode_chat
from steer_heal_love.lm.sampler.generate import Sampling, generate
from steer_heal_love.loop.iterative import run_loop
from steer_heal_love.records import Adapter
from steer_heal_love.stages.heal import HealConfig, heal
from steer_heal_love.stages.steer import SteerConfig, extract_direction

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
    rounds = {n: whole_round(bench, adapters[:n]) for n in counts[1:]}
    for n, (tokens, timing) in rounds.items():
        bench.rate(f"round, {n} adapters", tokens, timing)
    record_ratios(bench, "round", rounds[1][1], rounds[size.history][1], TARGET)
    bench.note(
        f"random adapters of the heal's default shape; best of {size.repeats} interleaved runs, "
        "the rounds once each; attaching the history is part of the time; 0 adapters is the bare "
        f"model; a round keeps {half_round(bench).size.round_texts} completions"
    )


def record_ratios(
    bench: Bench, stage: str, one: Timing, many: Timing, target: float | None = None
) -> None:
    """Time and peak memory with all adapters over those with one."""
    n = bench.size.history
    bench.at_most(f"{stage}: time with {n} / with 1", many.best / one.best, target)
    bench.at_most(f"{stage}: memory with {n} / with 1", many.peak_gib / one.peak_gib, target)


def half_round(bench: Bench) -> Bench:
    """The same with rounds of half the size, in all parts."""
    size = bench.size
    smaller = dataclasses.replace(
        size,
        round_texts=max(4, size.round_texts // 2),
        round_samples=size.round_samples // 2,
        round_contexts=size.round_contexts // 2,
    )
    return dataclasses.replace(bench, size=smaller)


def whole_round(bench: Bench, adapters: list[Adapter]) -> tuple[int, Timing]:
    """Tokens and time of a round of the loop on the student of these rounds."""
    with student(bench.lm, adapters), counting(bench.lm) as counter:
        pieces = TimedPieces(counter, bench)
        axis, contexts = load_axis("love"), load_contexts()
        config = make_config(half_round(bench))
        for _ in run_loop(endless(bench.lm), axis, contexts, config, pieces=pieces):
            pass
    tokens = sum(tally.tokens for tally in pieces.tallies())
    seconds = sum(s for stage, s in pieces.seconds.items() if stage in STAGES)
    peak = max(p for stage, p in pieces.peaks.items() if stage in STAGES)
    return tokens, Timing((seconds,), peak / GIB)


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

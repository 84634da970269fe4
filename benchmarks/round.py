"""A whole default round by stage, against what its tokens would cost at the machine's plain rates.

The round is `run_loop`'s own. So that each run does the same work, end tokens are suppressed (every
completion has its full length) and the filter's limits are open (what is generated is kept, but for
loops and duplicates). The stages are told apart at the loop's own seam, the pieces of work that it
asks for by name.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from benchmarks import plain
from benchmarks.counting import Tally, TokenCounter, counting
from benchmarks.measure import Timing, reset_peak
from benchmarks.records import GIB
from benchmarks.workload import Bench, endless, probe_prompts, sampled_texts
from steer_heal_love.inputs.axes import load_axis, load_contexts
from steer_heal_love.lm.memory import peak_bytes
from steer_heal_love.loop.iterative import run_loop
from steer_heal_love.records import Cost, Costed, RoundRecord
from steer_heal_love.run_config import RunConfig
from steer_heal_love.stages.filter import FilterConfig, measure_limits
from steer_heal_love.stages.heal import HealConfig

T = TypeVar("T")

STAGES = ("steer", "generate", "heal", "steered", "healed", "shift")
DECODE_STEPS = 16
ALL_ROWS = 6  # different batch sizes whose plain decode rate is measured


def run(bench: Bench) -> None:
    """Run the round, then the plain rates on the same machine; compare stage by stage."""
    lm, config = endless(bench.lm), make_config(bench)
    with counting(lm) as counter:
        pieces = TimedPieces(counter, bench)
        found = list(run_loop(lm, load_axis("love"), load_contexts(), config, pieces=pieces))
    record = next(r for r in found if isinstance(r, RoundRecord))
    rates = PlainRates.measured(bench, pieces.tallies())
    spent = plain_total = 0.0
    for stage in STAGES:
        if stage not in pieces.seconds:
            continue
        tally = counter.tallies.get(stage, Tally())
        seconds, ideal = pieces.seconds[stage], rates.seconds(tally)
        timing = Timing((seconds,), pieces.peaks[stage] / GIB)
        if tally.tokens:
            bench.rate(stage, tally.tokens, timing)
            bench.at_most(f"{stage}: time / plain", seconds / ideal)
        spent, plain_total = spent + seconds, plain_total + ideal
        bench.outcome.figures[stage] = figures_of(tally, seconds, ideal)
    bench.at_most("round: time / plain", spent / plain_total, 1.5)
    bench.at_most("round", spent, None, " s")
    slowest = max((s for s in STAGES if s in pieces.seconds), key=pieces.seconds.__getitem__)
    bench.note(
        f"{record.kept} kept of {record.total} completions of {config.generate.max_new_tokens} "
        f"tokens, {config.heal.epochs} epochs; slowest stage: {slowest}; outside of the round: "
        + ", ".join(f"{k} {v:.1f} s" for k, v in pieces.seconds.items() if k not in STAGES)
    )
    bench.note(rates.in_words())


def make_config(bench: Bench) -> RunConfig:
    """The defaults, one round, without what belongs to round 0 alone (the front, the rivals)."""
    size, default = bench.size, RunConfig()
    length = {"max_new_tokens": max(8, size.new_tokens)}
    dose = {
        "n_keep": size.round_texts,
        "min_kept": 2,
        "batch": size.round_texts,
        "probe_batch": min(default.dose.probe_batch, size.round_texts),
        "target_keep": 1e-6,  # settle on the first dose
    }
    evaluate = {"front": (), "rivals": (), "samples": size.round_samples, **length}
    if not size.round_long_answers:
        evaluate["long_samples"] = 0
    return RunConfig(
        rounds=1,
        steer=default.steer.model_copy(update={"contexts": size.round_contexts}),
        dose=default.dose.model_copy(update=dose),
        generate=default.generate.model_copy(update=length),
        heal=default.heal.model_copy(update={"epochs": size.heal_epochs}),
        evaluate=default.evaluate.model_copy(update=evaluate),
    )


class TimedPieces:
    """The loop's store of work: keeps nothing, times each outermost piece, names its stage.

    Of the baseline only the base model is measured, which also warms everything up.
    """

    def __init__(self, counter: TokenCounter, bench: Bench) -> None:
        self.counter, self.device = counter, bench.lm.device
        self.seconds: dict[str, float] = {}
        self.peaks: dict[str, float] = {}
        self.base: Any = None
        self.depth = 0

    def do(self, name: str, compute: Callable[[], T]) -> T:
        """The piece, timed."""
        if name == "baseline/limits":
            return Costed(measure_limits([], FilterConfig()), Cost())  # type: ignore[return-value]
        if name.startswith("baseline/prompt_"):
            return self.base  # type: ignore[no-any-return]
        with self._timed(stage_of(name)):
            value = compute()
        if name == "baseline/base":
            self.base = value
        return value

    def forget(self, prefix: str) -> None:
        """Nothing is kept."""

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        if self.depth:
            yield
            return
        self.depth, self.counter.stage = 1, stage
        reset_peak(self.device)
        started = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - started
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
            self.peaks[stage] = max(self.peaks.get(stage, 0.0), peak_bytes(self.device))
            self.depth, self.counter.stage = 0, "other"

    def tallies(self) -> list[Tally]:
        """The tallies of the round's stages."""
        return [t for stage, t in self.counter.tallies.items() if stage in STAGES]


def stage_of(name: str) -> str:
    """Stage of a piece of work: rounds/00/direction is of steer."""
    parts = name.split("/")
    if parts[0] != "rounds":
        return "/".join(parts[:2])
    return {"direction": "steer"}.get(parts[2], parts[2])


@dataclasses.dataclass(frozen=True)
class PlainRates:
    """Tokens per second of the plain loops, nothing around them and no patch on."""

    prefill: float
    train: float
    decode: dict[int, float]  # rows: new tokens per second

    @classmethod
    def measured(cls, bench: Bench, tallies: list[Tally]) -> PlainRates:
        """Measure them, decoding at the batch sizes that were used most."""
        lm, size = bench.lm, bench.size
        tokens, timing = plain.prefill(lm, size.prefill_shape)
        config = HealConfig(batch_size=size.heal_batch)
        texts = sampled_texts(lm, size.heal_batch, size.new_tokens)
        trained, train_timing = plain.forward_backward(lm, texts, config, 3)
        rows = sum((t.decode for t in tallies), start=type(tallies[0].decode)())
        decode = {}
        for n, _ in rows.most_common(ALL_ROWS):
            decode[n] = n * (DECODE_STEPS - 1) / _decode_seconds(bench, n)
        return cls(tokens / timing.best, trained / train_timing.best, decode)

    def seconds(self, tally: Tally) -> float:
        """What the tokens would cost; a batch size that was not measured costs as the nearest."""
        total = tally.prefill / self.prefill + tally.train / self.train
        for rows, tokens in tally.decode.items():
            nearest = min(self.decode, key=lambda n: abs(n - rows))
            total += tokens / self.decode[nearest]
        return total

    def in_words(self) -> str:
        """One line."""
        decode = ", ".join(f"{rate:,.0f} at {n}" for n, rate in sorted(self.decode.items()))
        return (
            f"plain rates, tokens/s: prefill {self.prefill:,.0f} (decoder alone), forward and "
            f"backward {self.train:,.0f} (adapter on, logits of completions), decode {decode}"
        )


def _decode_seconds(bench: Bench, rows: int) -> float:
    """Seconds of a few plain steps at half of a completion's length, best of two."""
    half = bench.size.new_tokens // 2
    prompts = [p + p[-1:] * half for p in probe_prompts(bench.lm, rows)]
    return min(plain.decode(bench.lm, prompts, DECODE_STEPS) for _ in range(2))


def figures_of(tally: Tally, seconds: float, ideal: float) -> dict[str, Any]:
    """A stage's numbers as plain data."""
    return {
        "seconds": seconds,
        "plain_seconds": ideal,
        "prefill_tokens": tally.prefill,
        "train_tokens": tally.train,
        "decode_tokens": tally.decode.total(),
        "decode_tokens_by_rows": {str(k): v for k, v in sorted(tally.decode.items())},
        "padding_tokens": tally.padding,
        "passes": tally.passes,
    }

"""The loop: steer → dose and filter → heal → bake → evaluate, and again from the new student."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from pydantic import Field

from steer_heal_love.lm.adapters import base, student
from steer_heal_love.lm.chat import decode_text, encode_chat
from steer_heal_love.lm.generate import Sampling, generate
from steer_heal_love.lm.hooks import steering
from steer_heal_love.lm.load import DType, LanguageModel
from steer_heal_love.maths.direction import cosine
from steer_heal_love.records import (
    Adapter,
    Axis,
    Baseline,
    Completion,
    Context,
    Direction,
    Healed,
    Judged,
    Limits,
    Measurement,
    NoPieces,
    Pieces,
    RoundRecord,
)
from steer_heal_love.stages import dose, evaluate, heal, steer
from steer_heal_love.stages import filter as filtering
from steer_heal_love.stages.dose import DoseConfig, Harvest
from steer_heal_love.stages.evaluate import EvaluateConfig
from steer_heal_love.stages.filter import FilterConfig
from steer_heal_love.stages.heal import Example, HealConfig
from steer_heal_love.stages.instruments.direction_shift import measure_direction
from steer_heal_love.stages.settings import StageConfig
from steer_heal_love.stages.steer import SteerConfig

T = TypeVar("T")

LIMIT_SAMPLES = 64  # of the base, over the training prompts, that set the filter's limits
SHIFT_CONTEXTS = 32  # that the internalised shift is read over


class GenerateConfig(StageConfig):
    """How completions are sampled, for training and for evaluation."""

    max_new_tokens: int = Field(96, ge=8)
    """Length limit of a completion, tokens."""
    temperature: float = Field(1.0, gt=0)
    """Sampling temperature."""
    top_k: int = Field(64, ge=1)
    """The likeliest tokens that are drawn from."""
    top_p: float = Field(0.95, gt=0, le=1)
    """Nucleus inside the top k."""
    batch_size: int = Field(64, ge=1)
    """Rows in flight at a time."""


class RunConfig(StageConfig):
    """Everything that a run is made of."""

    axis: str = "love"
    """Name of a built-in axis, or path of an axis .toml."""
    model: str = "smollm2"
    """Hub id, local folder, .gguf file, or the alias smollm2."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:1, …"""
    dtype: DType = "auto"
    """Precision of the model: auto is bfloat16 where the device has it."""
    trust_remote_code: bool = False
    """Run code that comes with the model. It can do anything on this machine."""
    rounds: int = Field(8, ge=1, le=1000)
    """How many times to steer and heal."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Seed of everything random."""
    steer: SteerConfig = SteerConfig()
    dose: DoseConfig = DoseConfig()
    filter: FilterConfig = FilterConfig()
    generate: GenerateConfig = GenerateConfig()
    heal: HealConfig = HealConfig()
    evaluate: EvaluateConfig = EvaluateConfig()


Report = Callable[[str, float, float], None]  # (stage, done, of how many)


class _Run:
    """What every stage of the loop needs."""

    def __init__(
        self,
        lm: LanguageModel,
        axis: Axis,
        contexts: Sequence[Context],
        config: RunConfig,
        pieces: Pieces,
        report: Report,
    ) -> None:
        self.lm, self.axis, self.contexts, self.config = lm, axis, contexts, config
        self.pieces, self.report = pieces, report
        self.prompts = training_prompts(axis, contexts, config.dose)
        self.wall_s: dict[str, float] = {}
        g = config.generate
        self.sampling = Sampling(g.max_new_tokens, g.temperature, g.top_k, g.top_p)
        length = config.evaluate.max_new_tokens
        self.evaluation_sampling = replace(self.sampling, max_new_tokens=length)

    def do(self, name: str, compute: Callable[[], T]) -> T:
        """A piece of work, computed once; its time counts to its stage also when it is read."""

        def timed() -> tuple[T, float]:
            started = time.perf_counter()
            return compute(), time.perf_counter() - started

        stage = _stage_of(name)
        value, seconds = self.pieces.do(name, timed)
        self.wall_s[stage] = self.wall_s.get(stage, 0.0) + seconds
        self.report(stage, 1, 1)
        return value


@dataclass(frozen=True)
class _Under:
    run: _Run
    folder: str

    def do(self, name: str, compute: Callable[[], T]) -> T:
        return self.run.pieces.do(f"{self.folder}/{name}", compute)

    def forget(self, prefix: str) -> None:
        self.run.pieces.forget(f"{self.folder}/{prefix}")


_STAGES = {"direction": "steer", "generate": "generate", "heal": "heal"}  # the rest evaluates


def _stage_of(name: str) -> str:
    """Stage that a piece belongs to: rounds/03/generate/00064 is of generate."""
    parts = name.split("/")
    return _STAGES.get(parts[2], "evaluate") if parts[0] == "rounds" else "baseline"


def run_loop(
    lm: LanguageModel,
    axis: Axis,
    contexts: Sequence[Context],
    config: RunConfig,
    *,
    pieces: Pieces | None = None,
    report: Report = lambda _stage, _done, _total: None,
) -> Iterator[Baseline | RoundRecord]:
    """Yield the baseline, then a record per round.

    Each piece of work goes through `pieces` under its own name, so that a store on disk makes the
    loop resumable: a finished piece is read back in place of being computed.

    Raises:
        StarvedRound: no dose gave enough completions.
        DivergedError: a number went bad.
    """
    run = _Run(lm, axis, contexts, config, pieces or NoPieces(), report)
    limits = base_limits(run)
    baseline = measure_baseline(run, limits)
    yield baseline

    history: list[Adapter] = []
    first: Direction | None = None
    kappa = config.dose.kappa_start
    for r in range(config.rounds):
        run.wall_s = {}
        with student(lm, history):
            direction = extract(run, r)
            first = first or direction
            front = measure_front(run, direction) if r == 0 else ()
            harvest = collect(run, r, direction, limits, kappa)
            healed_result = heal_round(run, r, harvest)
            with steering(lm, direction, harvest.kappa, must_fire=False):
                steered = measure(run, f"rounds/{r:02d}/steered", "steered", limits)
        history.append(healed_result.adapter)
        with student(lm, history):
            healed = measure(run, f"rounds/{r:02d}/healed", "healed", limits)
            shift = measure_shift(run, r, direction, first)
        stopped = evaluate.incoherent(healed, baseline.base, config.evaluate)
        yield RoundRecord(
            round=r,
            direction=direction,
            dose=harvest.kappa,
            judged=harvest.judged,
            healed_result=healed_result,
            cosine_first=float(cosine(direction.vectors, first.vectors).mean()),
            steered=steered,
            healed=healed,
            wall_s=run.wall_s,
            front=front,
            shift=shift,
            stopped=stopped,
        )
        if stopped:
            return
        kappa = min(config.dose.kappa_start, harvest.kappa / config.dose.decay)


def evaluate_student(
    lm: LanguageModel,
    axis: Axis,
    contexts: Sequence[Context],
    config: RunConfig,
    adapters: Sequence[Adapter],
    *,
    pieces: Pieces | None = None,
    report: Report = lambda _stage, _done, _total: None,
) -> tuple[Baseline, Measurement]:
    """The whole battery on the base with and without these adapters, on the same items.

    With a run's own `pieces` what it measured of the base is read, not measured again.
    """
    run = _Run(lm, axis, contexts, config, pieces or NoPieces(), report)
    limits = base_limits(run)
    baseline = measure_baseline(run, limits)
    with student(lm, adapters):
        return baseline, measure(run, f"eval/{len(adapters):02d}-adapters", "healed", limits)


def training_prompts(axis: Axis, contexts: Sequence[Context], config: DoseConfig) -> list[str]:
    """The axis's probes, extended by contexts to `min_prompts` different prompts."""
    extra = max(0, config.min_prompts - len(axis.probes))
    more = [c.text for c in steer.spread(contexts, extra)]
    return list(dict.fromkeys([*axis.probes, *more]))


def base_limits(run: _Run) -> Limits:
    """The filter's limits, from the base model's own samples on the training prompts."""

    def compute() -> Limits:
        count = min(LIMIT_SAMPLES, len(run.prompts))
        prompts = [run.prompts[i * len(run.prompts) // count] for i in range(count)]
        with base(run.lm):
            completions = sample(run, prompts, 0.0, _seed(run, "limits"), 0)
        scored = filtering.score_completions(run.lm, run.axis, completions, run.config.filter)
        return filtering.measure_limits(scored, run.config.filter)

    return run.do("baseline/limits", compute)


def measure_baseline(run: _Run, limits: Limits) -> Baseline:
    """The base model as it is, and with each persona as its system prompt."""
    axis = run.axis
    return Baseline(
        base=measure(run, "baseline/base", "base", limits),
        prompt_pos=measure(run, "baseline/prompt_pos", "prompt_pos", limits, axis.pos_system),
        prompt_neg=measure(run, "baseline/prompt_neg", "prompt_neg", limits, axis.neg_system),
    )


def measure(
    run: _Run, name: str, condition: str, limits: Limits, system: str | None = None
) -> Measurement:
    """Measure the model as it is patched now; the same items and seeds for every condition."""

    def judge(completions: list[Completion]) -> list[Judged]:
        return filtering.judge_all(run.lm, run.axis, completions, limits, run.config.filter)

    def compute() -> Measurement:
        return evaluate.measure(
            run.lm,
            run.axis,
            condition,
            run.config.evaluate,
            judge,
            seed=_seed(run, "evaluate"),
            sampling=run.evaluation_sampling,
            system=system,
        )

    return run.do(name, compute)


def measure_front(run: _Run, direction: Direction) -> tuple[tuple[float, Measurement], ...]:
    """Raw steering of the base model at each dose of the front: the rival that decides."""
    points = []
    for kappa in run.config.evaluate.front:

        def compute(kappa: float = kappa) -> Measurement:
            with base(run.lm), steering(run.lm, direction, kappa):
                return evaluate.measure_steered(
                    run.lm,
                    run.axis,
                    run.config.evaluate,
                    seed=_seed(run, "evaluate"),
                    sampling=run.evaluation_sampling,
                )

        points.append((kappa, run.do(f"rounds/00/front/{kappa:g}", compute)))
    return tuple(points)


def measure_shift(run: _Run, r: int, direction: Direction, first: Direction) -> Measurement:
    """Cosines of the direction, and of what the student has internalised, with the first one."""
    contexts = steer.spread(run.contexts, SHIFT_CONTEXTS)
    return run.do(
        f"rounds/{r:02d}/shift", lambda: measure_direction(run.lm, contexts, direction, first)
    )


def extract(run: _Run, r: int) -> Direction:
    """Stage 1: the direction of the student as it is now."""
    return run.do(
        f"rounds/{r:02d}/direction",
        lambda: steer.extract_direction(run.lm, run.axis, run.contexts, run.config.steer),
    )


def collect(run: _Run, r: int, direction: Direction, limits: Limits, kappa: float) -> Harvest:
    """Stages 2 and 3: walk the dose down and keep what is coherent and carries the trait."""
    order = np.random.default_rng(_seed(run, "prompts", r)).permutation(len(run.prompts))
    config = run.config.dose

    def draw(kappa: float, count: int, first: int) -> list[Judged]:
        prompts = [run.prompts[order[i % len(order)]] for i in range(first, first + count)]

        def compute() -> list[Judged]:
            with steering(run.lm, direction, kappa):
                texts = sample(run, prompts, kappa, _seed(run, "generate", r), first)
            return filtering.judge_all(run.lm, run.axis, texts, limits, run.config.filter)

        judged: list[Judged] = run.do(f"rounds/{r:02d}/generate/{first:05d}", compute)
        run.report("generate", min(config.n_keep, sum(j.kept for j in judged)), config.n_keep)
        return judged

    return dose.walk_dose(draw, config, kappa)


def heal_round(run: _Run, r: int, harvest: Harvest) -> Healed:
    """Stage 4: distil the kept texts into a fresh adapter behind the barrier."""
    config = run.config.heal
    examples = [
        Example(tuple(encode_chat(run.lm, c.prompt)), (*c.token_ids, *_end(c)))
        for c in (j.completion for j in harvest.kept)
    ]
    total = config.epochs * math.ceil(len(examples) / config.batch_size)
    folder = f"rounds/{r:02d}/heal"
    healed: Healed = run.do(
        f"{folder}/result",
        lambda: heal.heal(
            run.lm,
            examples,
            config,
            seed=_seed(run, "heal", r),
            pieces=_Under(run, folder),
            on_step=lambda step: run.report("heal", step.step + 1, total),
        ),
    )
    run.pieces.forget(f"{folder}/epoch-")
    return healed


def _end(completion: Completion) -> tuple[int, ...]:
    """The end token is learnt where the model chose it, not where the limit cut the text off."""
    return () if completion.end_id is None else (completion.end_id,)


def sample(
    run: _Run, prompts: Sequence[str], kappa: float, seed: int, first: int
) -> list[Completion]:
    """Sampled completions of the model as it is patched now."""
    ids = [encode_chat(run.lm, p) for p in prompts]
    generated = generate(
        run.lm,
        ids,
        run.sampling,
        seed=seed,
        first_index=first,
        batch_size=run.config.generate.batch_size,
    )
    return [
        Completion(
            p, decode_text(run.lm, g.token_ids), g.token_ids, g.end_id, kappa, seed, first + i
        )
        for i, (p, g) in enumerate(zip(prompts, generated, strict=True))
    ]


def _seed(run: _Run, purpose: str, r: int = 0) -> int:
    """A seed of its own for each purpose and round, from the run's seed."""
    text = f"{run.config.seed}/{purpose}/{r}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:6], "big")

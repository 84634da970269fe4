"""The loop's pieces of work: each has a name, and a finished one is read back, not done again."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from steer_heal_love.accounting import Account
from steer_heal_love.batching import settled
from steer_heal_love.errors import DivergedError, OutOfMemory, StarvedRound
from steer_heal_love.lm.adapters import base
from steer_heal_love.lm.answers import sample_answers
from steer_heal_love.lm.chat import encode_chat
from steer_heal_love.lm.generate import Dosing, Sampling
from steer_heal_love.lm.hooks import steering
from steer_heal_love.lm.load import LanguageModel
from steer_heal_love.records import (
    Axis,
    Baseline,
    Completion,
    Context,
    Direction,
    Healed,
    Judged,
    Limits,
    Measurement,
    Pieces,
)
from steer_heal_love.run_config import RunConfig
from steer_heal_love.stages import evaluate, heal, steer
from steer_heal_love.stages import filter as filtering
from steer_heal_love.stages.dose import DoseConfig, Harvest
from steer_heal_love.stages.heal import Example, HealConfig
from steer_heal_love.stages.instruments.direction_shift import measure_direction
from steer_heal_love.stages.instruments.foundations import Foundations
from steer_heal_love.stages.instruments.ratios import with_ratios

T = TypeVar("T")

SHIFT_CONTEXTS = 32  # that the internalised shift is read over
ANCHORS = 64  # ordinary messages that the base answers, for the heal to hold on to
LONG_CONDITIONS = {"base", "healed"}  # that long answers are sampled of

Report = Callable[[str, float, float], None]  # (stage, done, of how many)


class Work:
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
        self.prompts = training_prompts(axis, contexts, config.dose)
        self.config = config = settled(lm, axis, self.prompts, config)
        self.lm = replace(lm, rows=config.generate.rows)
        self.axis, self.contexts = axis, contexts
        self.account, self.report = Account(lm, pieces), report
        self.notes: list[str] = []  # on the round so far
        g = config.generate
        self.sampling = Sampling(g.max_new_tokens, g.temperature, g.top_k, g.top_p)
        length = config.evaluate.max_new_tokens
        self.evaluation_sampling = replace(self.sampling, max_new_tokens=length)
        self.foundations = Foundations(config.evaluate)

    def do(self, name: str, compute: Callable[[], T]) -> T:
        """A piece of work, computed once; what it took counts to its stage also when it is read."""

        def compute_here() -> T:
            with placed(name):
                return compute()

        stage = _stage_of(name)
        value = self.account.do(name, stage, compute_here)
        self.report(stage, 1, 1)
        return value

    def begin_round(self) -> None:
        """Nothing has been spent on the round, and nothing is to be noted of it."""
        self.account.stages, self.notes = {}, []


# Stage of a piece by the third part of its name; the rest evaluates.
_STAGES = {"direction": "steer", "generate": "generate", "heal": "heal", "rivals": "rivals"}


def _stage_of(name: str) -> str:
    """Stage that a piece belongs to: rounds/03/generate/00064 is of generate."""
    parts = name.split("/")
    return _STAGES.get(parts[2], "evaluate") if parts[0] == "rounds" else "baseline"


@contextmanager
def placed(name: str) -> Iterator[None]:
    """Errors of a piece say which round it is of."""
    try:
        yield
    except (DivergedError, StarvedRound, OutOfMemory) as error:
        parts = name.split("/")
        place = f"round {int(parts[1])}" if parts[0] == "rounds" else parts[0]
        raise type(error)(f"{place}: {error}") from error


def training_prompts(axis: Axis, contexts: Sequence[Context], config: DoseConfig) -> list[str]:
    """The axis's probes, extended by contexts to `min_prompts` different prompts."""
    extra = max(0, config.min_prompts - len(axis.probes))
    more = [c.text for c in steer.spread(contexts, extra)]
    return list(dict.fromkeys([*axis.probes, *more]))


def measure_baseline(work: Work, limits: Limits) -> Baseline:
    """The base model as it is, and with each persona as its system prompt."""
    axis = work.axis
    bare = measure(work, "baseline/base", "base", limits)
    pos = measure(work, "baseline/prompt_pos", "prompt_pos", limits, axis.pos_system)
    neg = measure(work, "baseline/prompt_neg", "prompt_neg", limits, axis.neg_system)
    return Baseline(bare, with_ratios(pos, bare), with_ratios(neg, bare))


def measure(
    work: Work,
    name: str,
    condition: str,
    limits: Limits,
    system: str | None = None,
    *,
    dosing: Dosing | None = None,
) -> Measurement:
    """Measure the model as it is patched now; the same items and seeds for every condition."""

    def judge(completions: list[Completion], trait: bool) -> list[Judged]:
        config = work.config.filter
        return filtering.judge_all(
            work.lm, work.axis, completions, limits, config, trait=trait, relevant=False
        )

    def compute() -> Measurement:
        return evaluate.measure(
            work.lm,
            work.axis,
            condition,
            work.config.evaluate,
            judge,
            work.foundations,
            seed=seed_of(work, "evaluate"),
            sampling=work.evaluation_sampling,
            system=system,
            long=condition in LONG_CONDITIONS,
            dosing=dosing,
        )

    return work.do(name, compute)


def measure_front(work: Work, direction: Direction) -> tuple[tuple[float, Measurement], ...]:
    """Raw steering of the base model at each dose of the front: the rival that decides."""
    points = []
    for kappa in work.config.evaluate.front:

        def compute(kappa: float = kappa) -> Measurement:
            with base(work.lm), steering(work.lm, direction, kappa):
                return evaluate.measure_steered(
                    work.lm,
                    work.axis,
                    work.config.evaluate,
                    seed=seed_of(work, "evaluate"),
                    sampling=work.evaluation_sampling,
                )

        points.append((kappa, work.do(f"rounds/00/front/{kappa:g}", compute)))
    return tuple(points)


def measure_shift(work: Work, r: int, direction: Direction, first: Direction) -> Measurement:
    """Cosines of the direction, and of what the student has internalised, with the first one."""
    contexts = steer.spread(work.contexts, SHIFT_CONTEXTS)
    return work.do(
        f"rounds/{r:02d}/shift", lambda: measure_direction(work.lm, contexts, direction, first)
    )


def extract(work: Work, r: int) -> Direction:
    """Stage 1: the direction of the student as it is now."""
    return work.do(
        f"rounds/{r:02d}/direction",
        lambda: steer.extract_direction(work.lm, work.axis, work.contexts, work.config.steer),
    )


def heal_round(
    work: Work, r: int, harvest: Harvest, *, config: HealConfig | None = None, folder: str = ""
) -> Healed:
    """Stage 4: distil the kept texts into a fresh adapter behind the barrier."""
    config = config or work.config.heal
    examples = [
        Example(tuple(encode_chat(work.lm, c.prompt)), (*c.token_ids, *_end(c)))
        for c in (j.completion for j in harvest.kept)
    ]
    anchors = base_anchors(work) if config.anchor > 0 else []
    total = config.epochs * math.ceil(len(examples) / config.batch_size)
    folder = folder or f"rounds/{r:02d}/heal"
    healed: Healed = work.do(
        f"{folder}/result",
        lambda: heal.heal(
            work.lm,
            examples,
            config,
            seed=seed_of(work, "heal", r),
            anchors=anchors,
            pieces=work.account.inside(folder),
            on_step=lambda step: work.report("heal", step.step + 1, total),
        ),
    )
    work.account.pieces.forget(f"{folder}/epoch-")
    if heal.rose(healed):
        work.notes.append("the heal ended above the loss it began with: lower --heal.learning-rate")
    return healed


def base_anchors(work: Work) -> list[Example]:
    """What the base model answers to ordinary messages, as plain texts: nobody's turn in a chat."""

    def compute() -> list[Completion]:
        messages = [c.text for c in steer.spread(work.contexts, ANCHORS)]
        with base(work.lm):
            return sample_answers(work.lm, messages, work.sampling, seed=seed_of(work, "anchors"))

    texts: list[Completion] = work.do("baseline/anchors", compute)
    return [Example(t.token_ids[:1], t.token_ids[1:]) for t in texts if len(t.token_ids) > 1]


def _end(completion: Completion) -> tuple[int, ...]:
    """The end token is learnt where the model chose it, not where the limit cut the text off."""
    return () if completion.end_id is None else (completion.end_id,)


def seed_of(work: Work, purpose: str, r: int = 0) -> int:
    """A seed of its own for each purpose and round, from the run's seed."""
    text = f"{work.config.seed}/{purpose}/{r}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:6], "big")

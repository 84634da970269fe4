"""What the loop measures: the base, each round's students, raw steering."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from steer_heal_love.inputs.prompts import spread
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.adapters import base, student
from steer_heal_love.lm.patches.hooks import steering
from steer_heal_love.lm.patches.temperature import set_temperature
from steer_heal_love.lm.sampler.generate import Dosing
from steer_heal_love.loop.collect import base_limits
from steer_heal_love.loop.context import Report, RunContext, fixed_seed
from steer_heal_love.piece_names import BASELINE, PieceName, of_round
from steer_heal_love.records import (
    Adapter,
    Axis,
    Baseline,
    Completion,
    Context,
    Direction,
    Judged,
    Limits,
    Measurement,
    NoPieces,
    Pieces,
)
from steer_heal_love.run_config import RunConfig
from steer_heal_love.stages import evaluate
from steer_heal_love.stages import filter as filtering
from steer_heal_love.stages.instruments.direction_shift import measure_direction
from steer_heal_love.stages.instruments.entropy import SAMPLES, Reference, sample_reference
from steer_heal_love.stages.instruments.ratios import with_ratios

SHIFT_CONTEXTS = 32  # that the internalised shift is read over
LONG_CONDITIONS = {"base", "healed"}  # that long answers are sampled of


def measure_baseline(work: RunContext, limits: Limits) -> Baseline:
    """The base model as it is, and with each persona as its system prompt."""
    axis = work.axis
    bare = measure(work, BASELINE / "base", "base", limits)
    pos = measure(work, BASELINE / "prompt_pos", "prompt_pos", limits, axis.pos_system)
    neg = measure(work, BASELINE / "prompt_neg", "prompt_neg", limits, axis.neg_system)
    return Baseline(bare, with_ratios(pos, bare), with_ratios(neg, bare))


def measure(
    work: RunContext,
    name: PieceName,
    condition: str,
    limits: Limits,
    system: str | None = None,
    *,
    dosing: Dosing | None = None,
) -> Measurement:
    """Measure the model as it is patched now; the same items and seeds for every condition."""

    reference = get_reference(work)

    def judge(
        completions: list[Completion], trait: bool, neutral: list[Tensor] | None
    ) -> list[Judged]:
        return filtering.judge_all(
            work.lm,
            work.axis,
            completions,
            limits,
            work.config.filter,
            trait=trait,
            relevant=False,
            neutral=neutral,
        )

    def compute() -> Measurement:
        return evaluate.measure(
            work.lm,
            work.axis,
            condition,
            work.config.evaluate,
            judge,
            work.foundations,
            reference,
            seed=fixed_seed(work, "evaluate"),
            sampling=work.evaluation_sampling,
            system=system,
            long=condition in LONG_CONDITIONS,
            dosing=dosing,
        )

    return work.do(name, compute)


def get_reference(work: RunContext) -> Reference:
    """The fixed texts on which entropies are compared: one set for a model and an axis."""
    if work.reference is None:
        work.reference = Reference(work.lm, reference_answers(work))
    return work.reference


def reference_answers(work: RunContext) -> list[Completion]:
    """What the base answers to prompts that no heal learns from.

    The prompts are spread evenly over their kinds, and taken in turn where they are few; they are
    training prompts where there are no others.
    """
    asked = [c.text for c in work.contexts if c.text not in set(work.prompts)] or work.prompts
    prompts = spread(asked, SAMPLES)
    return work.do(
        BASELINE / "reference",
        lambda: sample_reference(work.lm, prompts, seed=fixed_seed(work, "reference")),
    )


def measure_front(work: RunContext, direction: Direction) -> tuple[tuple[float, Measurement], ...]:
    """Raw steering of the base model at each dose of the front: the rival that decides."""
    points, reference = [], get_reference(work)
    for kappa in work.config.evaluate.front:

        def compute(kappa: float = kappa) -> Measurement:
            with base(work.lm), steering(work.lm, direction, kappa):
                return evaluate.measure_steered(
                    work.lm,
                    work.axis,
                    work.config.evaluate,
                    reference,
                    seed=fixed_seed(work, "evaluate"),
                    sampling=work.evaluation_sampling,
                )

        points.append((kappa, work.do(of_round(0) / "front" / f"{kappa:g}", compute)))
    return tuple(points)


def measure_shift(work: RunContext, r: int, direction: Direction, first: Direction) -> Measurement:
    """Cosines of the direction, and of what the student has internalised, with the first one."""
    contexts = spread(work.contexts, SHIFT_CONTEXTS)
    return work.do(
        of_round(r) / "shift", lambda: measure_direction(work.lm, contexts, direction, first)
    )


def evaluate_student(
    lm: LanguageModel,
    axis: Axis,
    contexts: Sequence[Context],
    config: RunConfig,
    adapters: Sequence[Adapter],
    *,
    temperature: float = 1.0,
    pieces: Pieces | None = None,
    report: Report = lambda _stage, _done, _total: None,
) -> tuple[Baseline, Measurement]:
    """The whole battery on the base with and without these adapters, on the same items.

    With `pieces` that hold the base's measurements they are read, not measured again; and without
    an adapter, at temperature 1, the student is the base.

    Args:
        temperature: that the student's logits are divided by, in sampling and in scoring.
    """
    work = RunContext(lm, axis, contexts, config, pieces or NoPieces(), report)
    limits = base_limits(work)
    baseline = measure_baseline(work, limits)
    if not adapters and temperature == 1:
        return baseline, with_ratios(baseline.base, baseline.base)
    with student(lm, adapters), set_temperature(lm, temperature):
        found = measure(work, PieceName(f"eval/{len(adapters):02d}-adapters"), "healed", limits)
    return baseline, with_ratios(found, baseline.base)

"""What the loop measures: the base, each round's students, raw steering."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from steer_heal_love.inputs.prompts import spread
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.adapters import student
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


def measure_baseline(run: RunContext, limits: Limits) -> Baseline:
    """The base model as it is, and with each persona as its system prompt."""
    axis = run.axis
    bare = measure(run, BASELINE / "base", "base", limits)
    pos = measure(run, BASELINE / "prompt_pos", "prompt_pos", limits, axis.pos_system)
    neg = measure(run, BASELINE / "prompt_neg", "prompt_neg", limits, axis.neg_system)
    return Baseline(bare, with_ratios(pos, bare), with_ratios(neg, bare))


def measure(
    run: RunContext,
    name: PieceName,
    condition: str,
    limits: Limits,
    system: str | None = None,
    *,
    dosing: Dosing | None = None,
) -> Measurement:
    """Measure the model as it is patched now; the same items and seeds for every condition."""

    reference = get_reference(run)

    def judge(
        completions: list[Completion], trait: bool, neutral: list[Tensor] | None
    ) -> list[Judged]:
        return filtering.judge_all(
            run.lm,
            run.axis,
            completions,
            limits,
            run.config.filter,
            trait=trait,
            relevant=False,
            neutral=neutral,
        )

    def compute() -> Measurement:
        return evaluate.measure(
            run.lm,
            run.axis,
            condition,
            run.config.evaluate,
            judge,
            run.foundations,
            reference,
            seed=fixed_seed(run, "evaluate"),
            sampling=run.evaluation_sampling,
            system=system,
            long=condition in LONG_CONDITIONS,
            dosing=dosing,
        )

    return run.do(name, compute)


def get_reference(run: RunContext) -> Reference:
    """The fixed texts on which entropies are compared: one set for a model and an axis."""
    if run.reference is None:
        run.reference = Reference(run.lm, reference_answers(run))
    return run.reference


def reference_answers(run: RunContext) -> list[Completion]:
    """What the base answers to prompts that no heal learns from.

    The prompts are spread evenly over their kinds, and taken in turn where they are few; they are
    training prompts where there are no others.
    """
    asked = [c.text for c in run.contexts if c.text not in set(run.prompts)] or run.prompts
    chosen = spread(asked, SAMPLES)
    prompts = [chosen[i % len(chosen)] for i in range(SAMPLES)]
    return run.do(
        BASELINE / "reference",
        lambda: sample_reference(run.lm, prompts, seed=fixed_seed(run, "reference")),
    )


def measure_shift(run: RunContext, r: int, direction: Direction, first: Direction) -> Measurement:
    """Cosines of the direction, and of what the student has internalised, with the first one."""
    contexts = spread(run.contexts, SHIFT_CONTEXTS)
    return run.do(
        of_round(r) / "shift", lambda: measure_direction(run.lm, contexts, direction, first)
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
    run = RunContext(lm, axis, contexts, config, pieces or NoPieces(), report)
    limits = base_limits(run)
    baseline = measure_baseline(run, limits)
    if not adapters and temperature == 1:
        return baseline, with_ratios(baseline.base, baseline.base)
    with student(lm, adapters), set_temperature(lm, temperature):
        healed = measure(run, PieceName(f"eval/{len(adapters):02d}-adapters"), "healed", limits)
    return baseline, with_ratios(healed, baseline.base)

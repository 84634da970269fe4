"""The loop: steer → dose and filter → heal → bake → evaluate, and again from the new student.

Online, dose, filter and heal are one: see `loop/online.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.adapters import student
from steer_heal_love.loop.collect import base_limits, collect, steer_as_set
from steer_heal_love.loop.competing_methods import measure_rivals
from steer_heal_love.loop.context import Report, RunContext, extract
from steer_heal_love.loop.heal import heal_round
from steer_heal_love.loop.measure import (
    evaluate_student,
    measure,
    measure_baseline,
    measure_shift,
)
from steer_heal_love.loop.online import heal_online
from steer_heal_love.loop.rivals.front import measure_front
from steer_heal_love.maths.direction import cosine
from steer_heal_love.piece_names import of_round
from steer_heal_love.records import (
    Adapter,
    Axis,
    Baseline,
    Context,
    Direction,
    Limits,
    Measurement,
    NoPieces,
    Pieces,
    RoundRecord,
)
from steer_heal_love.run_config import RunConfig
from steer_heal_love.stages import evaluate
from steer_heal_love.stages.dose import warm_start
from steer_heal_love.stages.instruments.ratios import with_ratios

__all__ = ["RunConfig", "evaluate_student", "run_loop"]


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

    Examples:
        >>> import steer_heal_love as shl
        >>> lm, axis = shl.load_model("smollm2"), shl.load_axis("love")
        >>> quick = {"samples": 4, "long_samples": 0, "mfv": "off"}
        >>> config = shl.RunConfig(rounds=1, evaluate=quick)
        >>> records = shl.run_loop(lm, axis, shl.load_contexts(), config)
        >>> baseline = next(records)  # then a record per round
        >>> baseline.prompt_pos.figures.keys() >= {"trait_nats", "perplexity", "loop_share"}
        True
    """
    run = RunContext(lm, axis, contexts, config, pieces or NoPieces(), report)
    limits = base_limits(run)
    baseline = measure_baseline(run, limits)
    yield baseline

    history: list[Adapter] = []
    first: Direction | None = None
    kappa, tilt = config.dose.kappa_start, None
    for r in range(config.rounds):
        run.begin_round()
        rivals: Mapping[str, Measurement] = {}
        with student(lm, history):
            direction = extract(run, r)
            first = first or direction
            front = measure_front(run, direction) if r == 0 else ()
            steers = config.method == "online" or config.dose.steers(r)
            if config.method == "online":
                online, judged = heal_online(run, r, direction, limits, tilt)
                healed_result, tilt, effort = online.healed, online.tilt, None
                dose = tilt[1]
            else:
                collected = collect(run, r, direction, limits, kappa if steers else 0.0)
                healed_result = heal_round(run, r, collected)
                dose, judged, effort = collected.kappa, collected.judged, collected.effort
            steered = _measure_steered(run, r, direction, dose, limits) if steers else None
            if r == 0 and config.method == "iterative":
                rivals = measure_rivals(run, direction, collected, limits, baseline.base)
        history.append(healed_result.adapter)
        with student(lm, history):
            healed = measure(run, of_round(r) / "healed", "healed", limits)
            shift = measure_shift(run, r, direction, first)
        stopped = evaluate.incoherent(healed, baseline.base, config.evaluate)
        yield RoundRecord(
            round=r,
            direction=direction,
            dose=dose,
            judged=judged,
            healed_result=healed_result,
            cosine_first=float(cosine(direction.vectors, first.vectors).mean()),
            steered=with_ratios(steered, baseline.base) if steered is not None else None,
            healed=with_ratios(healed, baseline.base),
            cost=run.account.stages,
            front=front,
            shift=shift,
            rivals=rivals,
            effort=effort,
            notes=tuple(run.notes),
            stopped=stopped,
        )
        if stopped:
            return
        if steers:
            kappa = warm_start(dose, config.dose)


def _measure_steered(
    run: RunContext, r: int, direction: Direction, kappa: float, limits: Limits
) -> Measurement:
    """The student before the heal with the round's direction on at the dose it settled on."""
    with steer_as_set(run, direction, kappa) as dosing:
        return measure(run, of_round(r) / "steered", "steered", limits, dosing=dosing)

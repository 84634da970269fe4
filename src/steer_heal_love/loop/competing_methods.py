"""Rivals of the heal, in round 0: other ways to bake the same steered texts into an adapter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from steer_heal_love.errors import StarvedRound
from steer_heal_love.lm.patches.adapters import student, subtract
from steer_heal_love.loop.collect import collect
from steer_heal_love.loop.context import RunContext
from steer_heal_love.loop.heal import heal_round
from steer_heal_love.loop.measure import measure
from steer_heal_love.piece_names import of_round
from steer_heal_love.records import Adapter, Direction, Limits, Measurement
from steer_heal_love.stages.dose import Collected
from steer_heal_love.stages.instruments.ratios import with_ratios

FOLDER = of_round(0) / "rivals"


def measure_rivals(
    run: RunContext, direction: Direction, collected: Collected, limits: Limits, base: Measurement
) -> Mapping[str, Measurement]:
    """What each rival of `evaluate.rivals` reaches; the run's notes say where one starves.

    sft: plain distillation of the texts that the heal learns from: no barrier, no anchors.
    arithmetic: that adapter minus the one that plain distillation makes of negatively steered
    texts, at the same dose and as many of them.

    Runs on the base model: inside `student(lm, [])`.
    """
    reached: dict[str, Measurement] = {}
    for name in run.config.evaluate.rivals:
        try:
            adapter = _adapter(run, name, direction, collected, limits)
        except StarvedRound as error:
            run.notes.append(f"rival {name} was not measured: of its negative texts, {error}")
            continue
        with student(run.lm, [adapter]):
            measured = measure(run, FOLDER / name / "measured", name, limits)
        reached[name] = with_ratios(measured, base)
    return reached


def _adapter(
    run: RunContext, name: str, direction: Direction, collected: Collected, limits: Limits
) -> Adapter:
    plain = _distil(run, collected, "pos")
    if name == "sft":
        return plain
    return subtract(plain, _distil(run, collect_negative(run, direction, collected, limits), "neg"))


def _distil(run: RunContext, collected: Collected, side: str) -> Adapter:
    config = run.config.heal.model_copy(update={"lam": 0.0, "anchor": 0.0})
    return heal_round(run, 0, collected, config=config, folder=FOLDER / side / "heal").adapter


def collect_negative(
    run: RunContext, direction: Direction, collected: Collected, limits: Limits
) -> Collected:
    """Texts steered against the direction, chosen by the opposite trait, with no floor of it.

    Raises:
        StarvedRound: too few are coherent.
    """
    axis = replace(run.axis, pos=run.axis.neg, neg=run.axis.pos)
    against = replace(direction, vectors=-direction.vectors)
    coherent = replace(limits, trait_nats=-math.inf)
    return collect(run, 0, against, coherent, collected.kappa, axis=axis, folder=FOLDER / "neg")

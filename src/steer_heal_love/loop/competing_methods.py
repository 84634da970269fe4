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
    work: RunContext, direction: Direction, harvest: Collected, limits: Limits, base: Measurement
) -> Mapping[str, Measurement]:
    """What each rival of `evaluate.rivals` reaches; the work's notes say where one starves.

    sft: plain distillation of the texts that the heal learns from: no barrier, no anchors.
    arithmetic: that adapter minus the one that plain distillation makes of negatively steered
    texts, at the same dose and as many of them.

    Runs on the base model: inside `student(lm, [])`.
    """
    found: dict[str, Measurement] = {}
    for name in work.config.evaluate.rivals:
        try:
            adapter = _adapter(work, name, direction, harvest, limits)
        except StarvedRound as error:
            work.notes.append(f"rival {name} was not measured: of its negative texts, {error}")
            continue
        with student(work.lm, [adapter]):
            measured = measure(work, FOLDER / name / "measured", name, limits)
        found[name] = with_ratios(measured, base)
    return found


def _adapter(
    work: RunContext, name: str, direction: Direction, harvest: Collected, limits: Limits
) -> Adapter:
    plain = _distil(work, harvest, "pos")
    if name == "sft":
        return plain
    return subtract(plain, _distil(work, collect_negative(work, direction, harvest, limits), "neg"))


def _distil(work: RunContext, harvest: Collected, side: str) -> Adapter:
    config = work.config.heal.model_copy(update={"lam": 0.0, "anchor": 0.0})
    return heal_round(work, 0, harvest, config=config, folder=FOLDER / side / "heal").adapter


def collect_negative(
    work: RunContext, direction: Direction, harvest: Collected, limits: Limits
) -> Collected:
    """Texts steered against the direction, chosen by the opposite trait, with no floor of it.

    Raises:
        StarvedRound: too few are coherent.
    """
    axis = replace(work.axis, pos=work.axis.neg, neg=work.axis.pos)
    against = replace(direction, vectors=-direction.vectors)
    coherent = replace(limits, trait_nats=-math.inf)
    return collect(work, 0, against, coherent, harvest.kappa, axis=axis, folder=FOLDER / "neg")

"""Raw steering of the base model, along the first direction of a run."""

from __future__ import annotations

from contextlib import AbstractContextManager

from steer_heal_love.lm.patches.hooks import steering
from steer_heal_love.loop.context import RunContext
from steer_heal_love.records import Direction


def steer_raw(
    run: RunContext, direction: Direction, kappa: float
) -> list[AbstractContextManager[object]]:
    """The direction added at dose κ, at every position."""
    return [steering(run.lm, direction, kappa)]

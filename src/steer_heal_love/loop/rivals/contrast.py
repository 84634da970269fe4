"""The amplified contrast of the personas: no direction, three passes a token."""

from __future__ import annotations

from contextlib import AbstractContextManager

from steer_heal_love.lm.patches.contrast import contrasting
from steer_heal_love.loop.context import RunContext
from steer_heal_love.records import Direction


def amplify_contrast(
    run: RunContext, _direction: Direction, gamma: float
) -> list[AbstractContextManager[object]]:
    """The base model tilted by γ/2 times what tells its two persona prompts apart."""
    return [contrasting(run.lm, run.axis, gamma)]

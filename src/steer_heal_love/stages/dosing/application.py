"""How a dose is given: along the completion, by position, by which operator, and with what care."""

from __future__ import annotations

import math

from pydantic import Field, model_validator

from steer_heal_love.lm.patches.hooks import Steering
from steer_heal_love.lm.sampler.generate import Dosing
from steer_heal_love.maths.backtrack import Backtrack
from steer_heal_love.maths.direction import Gate, Operator
from steer_heal_love.maths.schedule import Schedule, ScheduleShape
from steer_heal_love.records import Limits
from steer_heal_love.stages.settings import StageConfig


class DosingConfig(StageConfig):
    """How the dose κ is given while completions to train on are generated."""

    schedule: ScheduleShape = "constant"
    """κ along a completion: the same, falling to the floor, or full for a prefix alone."""
    schedule_length: int = Field(32, ge=1)
    """Generated tokens until the floor is reached; of prefix, those at the full dose."""
    schedule_floor: float = Field(0.25, ge=0, le=1)
    """Share of κ that is left at the floor."""
    gate: Gate = "none"
    """Scale κ by position: relu max(cos(h, v), 0), absolute |cos|, complement 1 − max(cos, 0)."""
    operator: Operator = "add"
    """Add κ v to the hidden state, or rotate it towards v at its own norm."""
    backtrack: bool = False
    """Where a completion spikes under the base model, or loops, go back and on at less κ."""
    look_every: int = Field(16, ge=1)
    """Of backtracking: generated tokens between two looks."""
    window: int = Field(16, ge=1)
    """Of backtracking: tokens of the running mean of the surprise."""
    spike_nats: float | None = Field(None, gt=0)
    """Of backtracking: a mean surprise that is a spike; by default the filter's own limit of it."""
    margin: int = Field(4, ge=0)
    """Of backtracking: tokens before the fault that are drawn again too."""
    max_rewinds: int = Field(2, ge=0)
    """Of backtracking: how often a completion is rewound before it is given up."""
    rewind_factor: float = Field(0.5, ge=0, lt=1)
    """Of backtracking: factor on a completion's κ with each rewind."""

    @model_validator(mode="after")
    def _reachable(self) -> DosingConfig:
        if self.schedule == "exponential" and self.schedule_floor == 0:
            raise ValueError("an exponential schedule needs a schedule_floor above 0, such as 0.1")
        return self

    @property
    def follows(self) -> bool:
        """Whether κ is not the same for all tokens of a completion."""
        return self.schedule != "constant" or self.backtrack

    def along(self) -> Schedule:
        """The schedule of κ over the generated tokens."""
        return Schedule(self.schedule, self.schedule_length, self.schedule_floor)

    def dosing(self, steering: Steering, kappa: float, limits: Limits | None) -> Dosing | None:
        """What generation needs to know to give the dose so; None where κ is constant.

        Args:
            limits: the filter's, for backtracking; without them nothing is watched.
        """
        backtrack = self._backtracking(limits) if self.backtrack and limits is not None else None
        if self.schedule == "constant" and backtrack is None:
            return None
        return Dosing(steering, kappa, self.along(), backtrack)

    def _backtracking(self, limits: Limits) -> Backtrack:
        """Looks for what the filter would drop: its limit on the worst window, unless one is set.

        That limit may be infinite, and then nothing but a loop is a fault.
        """
        spike = self.spike_nats
        if spike is None:
            spike = math.log(limits.fit.window_perplexity)
        return Backtrack(
            every=self.look_every,
            window=self.window,
            spike_nats=spike,
            margin=self.margin,
            max_rewinds=self.max_rewinds,
            factor=self.rewind_factor,
        )

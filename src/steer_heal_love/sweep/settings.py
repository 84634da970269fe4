"""What a sweep's file says of the sweep itself: what a trial needs, and what a search is after."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from steer_heal_love.stages.settings import StageConfig
from steer_heal_love.verdicts.coherence import LOOP_EXCESS, PERPLEXITY_RATIO

Choice = bool | int | float | str


class Resources(StageConfig):
    """What a trial takes of a node; used on Ray only."""

    cpus: float = Field(1.0, gt=0)
    """Cores; torch computes with as many threads, at least one."""
    gpus: float | None = Field(None, ge=0)
    """GPUs, also a part of one; by default 1 where a node has any and the device is not the CPU."""
    memory_gib: float | None = Field(None, gt=0)
    """Memory that Ray sets aside, GiB."""
    at_once: int | None = Field(None, ge=1)
    """Trials at a time, at most; by default as many as there is room for."""
    retries: int = Field(2, ge=0)
    """How often a trial goes on after its worker was lost."""


class Range(StageConfig):
    """Where a number is looked for. Whole numbers where both ends are whole."""

    low: float | int
    """The least."""
    high: float | int
    """The greatest."""
    log: bool = False
    """Look by orders of magnitude."""
    step: float | int | None = Field(None, gt=0)
    """Only low, low + step, low + 2 step, …"""

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.low >= self.high:
            raise ValueError("low must be less than high")
        if self.log and self.low <= 0:
            raise ValueError("low must be above 0 where log = true")
        if self.log and self.step is not None:
            raise ValueError("step and log exclude one another")
        if self.whole and self.step is not None and not isinstance(self.step, int):
            raise ValueError("step must be whole where low and high are")
        return self


class Search(StageConfig):
    """What a search looks for, in which settings, and when it gives a trial up.

    `objective = "trait"`: the greatest trait_nats of the last healed round within the bounds on
    coherence. `objective = "front"`: the trials of which no other has both more trait and less
    perplexity.
    """

    fields: dict[str, Range | tuple[Choice, ...]] = Field(min_length=1)
    """Setting → where to look: {low, high} or a list of choices."""
    samples: int = Field(20, ge=1, le=1000)
    """Trials in all."""
    objective: Literal["trait", "front"] = "trait"
    """What is looked for."""
    max_perplexity_ratio: float = Field(PERPLEXITY_RATIO, gt=0)
    """Bound: perplexity of the healed model as a multiple of the base's."""
    max_loop_excess: float = Field(LOOP_EXCESS, ge=0)
    """Bound: share of healed answers that loop, above the base's."""
    stop: Literal["asha", "median", "off"] = "asha"
    """How hopeless trials are given up between rounds."""
    grace_rounds: int = Field(1, ge=1)
    """Rounds that each trial gets."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Seed of the search."""

"""How the dose changes along a completion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

ScheduleShape = Literal["constant", "linear", "exponential", "prefix"]


@dataclass(frozen=True)
class Schedule:
    """Share of the dose that is left at each generated token, from 1 down to `floor`.

    At position t (0 is the first generated token), with n = `length` and f = `floor`:
    `constant`: 1. `linear`: 1 − (1 − f) · min(t / n, 1). `exponential`: f^min(t / n, 1), so that
    each token takes the same factor off until the floor is reached. `prefix`: 1 for the first n
    tokens, f after them.

    Raises ValueError where `length` < 1, where `floor` is outside of 0 to 1, and where an
    exponential schedule has the floor 0, which no factor per token ever reaches.
    """

    shape: ScheduleShape = "constant"
    length: int = 32
    floor: float = 0.0

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"a schedule's length is at least one token, not {self.length}")
        if not 0.0 <= self.floor <= 1.0:
            raise ValueError(f"a schedule's floor is a share from 0 to 1, not {self.floor}")
        if self.shape == "exponential" and self.floor == 0.0:
            raise ValueError("an exponential schedule needs a floor above 0, for example 0.1")

    def factor(self, position: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Factor on the dose at positions ≥ 0, float32, from `floor` to 1."""
        share = (position.float() / self.length).clamp(0.0, 1.0)
        match self.shape:
            case "constant":
                return torch.ones_like(share)
            case "linear":
                return 1.0 - (1.0 - self.floor) * share
            case "exponential":
                return self.floor**share
            case "prefix":
                return torch.where(position < self.length, 1.0, self.floor)


CONSTANT = Schedule()

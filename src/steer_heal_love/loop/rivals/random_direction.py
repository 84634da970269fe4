"""Steering along random directions of the same norm: what any push of that size would do."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace

import torch

from steer_heal_love.lm.patches.hooks import steering
from steer_heal_love.loop.context import RunContext, fixed_seed
from steer_heal_love.records import Direction

DRAWS = 5


def steer_randomly(
    run: RunContext, direction: Direction, kappa: float
) -> list[AbstractContextManager[object]]:
    """Five draws, the same ones for a model and an axis, each at dose κ."""
    seed = fixed_seed(run, "random direction")
    return [steering(run.lm, draw_alike(direction, seed + k), kappa) for k in range(DRAWS)]


def draw_alike(direction: Direction, seed: int) -> Direction:
    """A direction drawn evenly over the sphere in each layer, with that layer's norm."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(direction.vectors.shape, generator=generator)
    norms = direction.vectors.norm(dim=-1, keepdim=True)
    return replace(direction, vectors=drawn / drawn.norm(dim=-1, keepdim=True) * norms)

"""Prompts to train and to measure on, chosen evenly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from steer_heal_love.records import Axis, Context

T = TypeVar("T")


def spread(items: Sequence[T], count: int) -> list[T]:
    """This many contexts or prompts, evenly over the list, which lies kind by kind; or all."""
    n = min(count, len(items))
    return [items[i * len(items) // n] for i in range(n)]


def training_prompts(axis: Axis, contexts: Sequence[Context], min_prompts: int) -> list[str]:
    """The axis's probes, extended by contexts to `min_prompts` different prompts."""
    extra = max(0, min_prompts - len(axis.probes))
    more = [c.text for c in spread(contexts, extra)]
    return list(dict.fromkeys([*axis.probes, *more]))

"""A model at another temperature: its logits divided by T, in sampling and in scoring alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.contrast import current_contrast
from steer_heal_love.maths.head import Head
from steer_heal_love.maths.tilted_head import TiltedHead

AnyHead = TypeVar("AnyHead", Head, TiltedHead)


@dataclass(eq=False)  # taken off the list of patches by identity
class Temperature:
    """A temperature that is on."""

    value: float
    enabled: bool = True


@contextmanager
def set_temperature(lm: LanguageModel, temperature: float) -> Iterator[None]:
    """The model with all its logits divided by a temperature, as one patch among the others.

    Inside it `adapters.base` gives the bare model back, at temperature 1. What is sampled at a
    temperature of its own is drawn at the product of the two.

    Raises:
        ValueError: the temperature is not positive.
    """
    lm.head.at(temperature)
    patch = Temperature(temperature)
    lm.patches.append(patch)
    try:
        yield
    finally:
        lm.patches.remove(patch)


def current_head(lm: LanguageModel) -> Head | TiltedHead:
    """The head of the model as it is patched now."""
    contrast = current_contrast(lm)
    if contrast is None:
        return at_temperature(lm, lm.head)
    return at_temperature(lm, TiltedHead(lm.head, contrast.tilt))


def at_temperature(lm: LanguageModel, head: AnyHead) -> AnyHead:
    """The head with its logits divided by the temperature that is on."""
    for patch in lm.patches:
        if isinstance(patch, Temperature) and patch.enabled:
            head = head.at(patch.value)
    return head

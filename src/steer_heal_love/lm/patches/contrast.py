"""The amplified contrast of two personas: the base model's next token, tilted by what differs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from steer_heal_love.errors import HookError
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.maths.tilt import Tilt
from steer_heal_love.records import Axis


@dataclass(eq=False)  # taken off the list of patches by identity
class Contrast:
    """A contrast that is on: the system prompts that are told apart, and by how much they tilt."""

    systems: tuple[str, str]  # towards the first, away from the second
    tilt: Tilt
    enabled: bool = True


def make_contrast(lm: LanguageModel, axis: Axis, gamma: float) -> Contrast:
    """The contrast of an axis's personas, amplified by γ; below 0 towards the opposite.

    As an online heal's teacher has it: bounded in nats a token, and the end tokens keep the
    probability that they have without it.

    Raises:
        ValueError: γ is not finite.
    """
    systems = (axis.pos_system, axis.neg_system)
    tilt = Tilt(contrast=abs(gamma), stop_ids=tuple(sorted(lm.stop_ids)))
    return Contrast(systems if gamma >= 0 else systems[::-1], tilt)


@contextmanager
def contrasting(lm: LanguageModel, axis: Axis, gamma: float) -> Iterator[Contrast]:
    """The model under `log p₀ + clip(γ/2 · [log p₀(·|pos) − log p₀(·|neg)]) − log Z`: see `Tilt`.

    Of answers to a conversation, in sampling and in scoring alike, at three passes a token. p₀ is
    the model as it is patched now; a conversation's own system prompt comes after the persona.
    Text that belongs to no conversation is read under no persona, so p₀ is all there is of it.

    Raises:
        HookError: another contrast is on.
        ValueError: γ is not finite.
    """
    if current_contrast(lm) is not None:
        raise HookError("a contrast is on already: end it before the next one")
    contrast = make_contrast(lm, axis, gamma)
    lm.patches.append(contrast)
    try:
        yield contrast
    finally:
        lm.patches.remove(contrast)


def current_contrast(lm: LanguageModel) -> Contrast | None:
    """The contrast that is on; None where there is none."""
    on = (p for p in lm.patches if isinstance(p, Contrast) and p.enabled)
    return next(on, None)

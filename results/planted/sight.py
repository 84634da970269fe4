"""What a student makes of texts, position by position: how far it is from the base model there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.maths.divergence import Aggregate, aggregate_per_sequence
from steer_heal_love.maths.head import head_losses
from steer_heal_love.stages.healing.texts import Example, reference_states


@dataclass(frozen=True)
class Sight:
    """Of each position of a text: the surprise of its token, and KL(student ‖ base), nats."""

    nll_nats: tuple[float, ...]
    kl_nats: tuple[float, ...]

    def divergence(self, aggregate: Aggregate) -> float:
        """D, as the barrier reckons it."""
        kl = torch.tensor(self.kl_nats)
        one = torch.zeros(len(kl), dtype=torch.long)
        return float(aggregate_per_sequence(kl, one, 1, aggregate)[0])


@torch.inference_mode()
def look(lm: LanguageModel, examples: Sequence[Example]) -> list[Sight]:
    """The model as it is patched now on each text, beside the base model, as the heal sees them.

    The texts' prompts are read, and nothing is said of their positions.
    """
    if not examples:
        return []
    own = reference_states(lm, examples, "previous")  # as it is patched now
    base = reference_states(lm, examples, "base")
    found = []
    for example, hidden, reference in zip(examples, own, base, strict=True):
        targets = torch.tensor(example.completion, device=lm.device)
        nll, kl = head_losses(hidden, reference, targets, lm.head, "reverse")
        found.append(Sight(tuple(nll.tolist()), tuple(kl.tolist())))
    return found

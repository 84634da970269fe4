"""The head of a tilted distribution: what a `Head` is to one state, to three side by side."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from steer_heal_love.maths.head import Head
from steer_heal_love.maths.tilt import TeacherStates, Tilt, teacher_log_probabilities


@dataclass(frozen=True, eq=False)
class TiltedHead:
    """Logits `log p_T / T` of a contrast; a state is [plain, positive, negative], 3 · d wide.

    It is tilted at temperature 1 and then divided by the temperature, so that the stop ids keep
    p₀'s probability at 1 alone.
    """

    head: Head  # at temperature 1
    tilt: Tilt
    temperature: float = 1.0

    @property
    def weight(self) -> Float[Tensor, "V d"]:
        """Of the head that all three states go through."""
        return self.head.weight

    @property
    def work_dtype(self) -> torch.dtype:
        """As the head's."""
        return self.head.work_dtype

    def at(self, temperature: float) -> TiltedHead:
        """The head whose logits are these divided by a temperature.

        Raises ValueError where the temperature is not positive.
        """
        if not temperature > 0:
            raise ValueError(f"a temperature must be positive, not {temperature}")
        return replace(self, temperature=self.temperature * temperature)

    def logits(self, hidden: Float[Tensor, "n three_d"]) -> Float[Tensor, "n V"]:
        """All logits at once, in `work_dtype`."""
        plain, positive, negative = hidden.chunk(3, -1)
        states = TeacherStates(plain, positive=positive, negative=negative)
        return teacher_log_probabilities(states, self.head, self.tilt) / self.temperature

"""What is to be generated: prompts, how to draw, seeds and doses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from steer_heal_love.errors import HookError
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.reading.context import shared_prefix
from steer_heal_love.lm.sampler.sampling import Dosing, Sampling, noise
from steer_heal_love.lm.tokens import Ids
from steer_heal_love.maths.backtrack import Backtrack


@dataclass(frozen=True, eq=False)
class Request:
    """What is to be generated, whatever the size of the batches."""

    lm: LanguageModel
    prompts: Sequence[Ids]
    how: Sequence[Sampling]
    seed: int
    first_index: int
    dosing: Dosing | None = None
    # What differs between rows is the model: patches are a row's own, the noise is one for all.
    side_by_side: bool = False

    def __post_init__(self) -> None:
        if len(self.how) != len(self.prompts) or len({(h.top_k, h.top_p) for h in self.how}) > 1:
            raise ValueError("one Sampling per prompt, all of one top_k and one top_p")
        if self.dosing is None:
            return
        if len(self.kappas) != len(self.prompts):
            raise ValueError("a dosing needs one dose for all prompts, or one per prompt")
        if not any(p is self.dosing.steering and p.enabled for p in self.lm.patches):
            raise HookError("the steering of a dosing must be on while it generates")

    @cached_property
    def length(self) -> int:
        """Most new tokens of any row."""
        return max(h.max_new_tokens for h in self.how)

    @cached_property
    def mixed(self) -> bool:
        """Whether rows differ in temperature."""
        return len({h.temperature for h in self.how}) > 1

    @cached_property
    def kappas(self) -> tuple[float, ...]:
        """The dose that each row begins at; none without a dosing."""
        if self.dosing is None:
            return ()
        kappa = self.dosing.kappa
        return tuple(kappa) if isinstance(kappa, Sequence) else (kappa,) * len(self.prompts)

    @cached_property
    def follows(self) -> bool:
        """Whether the dose is not one number for all rows and tokens."""
        return self.dosing is not None and (
            self.backtrack is not None
            or self.dosing.schedule.shape != "constant"
            or len(set(self.kappas)) > 1
        )

    @property
    def backtrack(self) -> Backtrack | None:
        """How rows are watched, if they are."""
        return None if self.dosing is None else self.dosing.backtrack

    @cached_property
    def shared(self) -> int:
        """Tokens that all prompts begin with and that are worth reading once."""
        if self.side_by_side:
            return 0
        window = getattr(self.lm.model.config.get_text_config(), "sliding_window", None)
        prefix = shared_prefix(self.prompts)
        # Padding between prefix and prompt would shift a sliding window that is too narrow.
        longest = max(map(len, self.prompts)) + self.length + prefix
        return 0 if window is not None and longest >= window else prefix

    def uniforms(self, row: int) -> Float[Tensor, " length"]:
        """The noise of a row, float32."""
        index = self.first_index + (0 if self.side_by_side else row)
        drawn = noise(self.seed, index, self.length)
        return torch.from_numpy(drawn).to(self.lm.device, torch.float32)

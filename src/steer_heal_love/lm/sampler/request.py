"""What is to be generated: prompts, how to draw, seeds and doses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from steer_heal_love.maths.tilt import Tilt


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
    # A row that is drawn by a contrast has two more: the same conversation under either persona,
    # which go on with that row's tokens in place of their own.
    personas: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    tilt: Tilt | None = None  # of the rows in `personas`

    def __post_init__(self) -> None:
        if len(self.how) != len(self.prompts) or len({(h.top_k, h.top_p) for h in self.how}) > 1:
            raise ValueError("one Sampling per prompt, all of one top_k and one top_p")
        if self.dosing is None:
            return
        if len(self.kappas) != len(self.prompts):
            raise ValueError("a dosing needs one dose for all prompts, or one per prompt")
        if not any(p is self.dosing.steering and p.enabled for p in self.lm.patches):
            raise HookError("the steering of a dosing must be on while it generates")
        if self.personas and self.backtrack is not None:
            raise HookError(
                "rows that are drawn by a contrast cannot be taken back: no backtracking"
            )

    @cached_property
    def leaders(self) -> dict[int, int]:
        """Of each row under a persona the one that it goes along with."""
        return {way: row for row, ways in self.personas.items() for way in ways}

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


def with_personas(request: Request, personas: Mapping[int, tuple[Ids, Ids]], tilt: Tilt) -> Request:
    """The request with these of its rows drawn by a contrast; the new rows come after its own.

    Args:
        personas: of such a row its conversation under the positive and the negative persona.
    """
    begin = len(request.prompts)
    leaders = [row for row in personas for _ in range(2)]
    dosing = request.dosing
    if dosing is not None:
        kappas = request.kappas
        dosing = replace(dosing, kappa=[*kappas, *(kappas[row] for row in leaders)])
    return replace(
        request,
        prompts=[*request.prompts, *(ids for pair in personas.values() for ids in pair)],
        how=[*request.how, *(request.how[row] for row in leaders)],
        dosing=dosing,
        personas={row: (begin + 2 * k, begin + 2 * k + 1) for k, row in enumerate(personas)},
        tilt=tilt,
    )

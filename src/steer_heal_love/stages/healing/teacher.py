"""What an online heal's teacher is made of: the base model's states, read in up to five ways."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from steer_heal_love.lm.patches.adapters import base
from steer_heal_love.lm.patches.hooks import steering
from steer_heal_love.lm.reading.chat import encode_chat
from steer_heal_love.lm.reading.score import final_states
from steer_heal_love.maths.tilt import TeacherStates, Tilt
from steer_heal_love.records import Completion, Direction
from steer_heal_love.stages.healing.student import Student
from steer_heal_love.stages.healing.texts import Example


def read_teacher(
    student: Student,
    examples: Sequence[Example],
    texts: Sequence[Completion],
    personas: tuple[str, str | None],
    direction: Direction,
    tilt: Tilt,
    kappa: float,
) -> list[Tensor]:
    """What the teacher is made of, for each text: states [completion, ways · d], side by side.

    θ₀'s final states as it is; steered by +κv and −κv where a > 0; under either persona where
    γ > 0: d numbers a token and a way, in place of a distribution over V.

    Args:
        personas: system prompts of the contrast; None for θ₀ without one.
    """
    lm, completions = student.lm, [e.completion for e in examples]
    plain = [e.prompt for e in examples]

    def read(dose: float = 0.0, system: str | None = None) -> list[Tensor]:
        prompts = plain if system is None else [encode_chat(lm, t.prompt, system) for t in texts]
        with steering(lm, direction, dose) if dose else nullcontext():
            return final_states(lm, prompts, completions)

    with student.model.disable_adapter(), base(lm):
        ways = [read()]
        if tilt.steering > 0:
            ways += [read(kappa), read(-kappa)] if kappa > 0 else [ways[0], ways[0]]
        if tilt.contrast > 0:
            ways += [ways[0] if s is None else read(system=s) for s in personas]
    return [torch.cat(own, -1).to(lm.device) for own in zip(*ways, strict=True)]


def split_states(joined: Tensor | None, hidden: Tensor, tilt: Tilt) -> TeacherStates:
    """The states of `read_teacher` again, one way beside the other."""
    if joined is None:
        raise ValueError("the texts have no states of the teacher")
    ways = list(joined.split(hidden.shape[-1], -1))
    steered = ways[1:3] if tilt.steering > 0 else [None, None]
    personas = ways[-2:] if tilt.contrast > 0 else [None, None]
    return TeacherStates(ways[0], *steered, *personas)

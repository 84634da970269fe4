"""How the settings of an online heal hold its tilt: bounds, pace, and what they go by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple

import torch

from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.adapters import base
from steer_heal_love.lm.reading.chat import encode_chat
from steer_heal_love.lm.reading.score import final_states
from steer_heal_love.lm.sampler.answers import sample_answers
from steer_heal_love.lm.sampler.generate import Sampling
from steer_heal_love.maths.divergence import aggregate_per_sequence, head_losses, tau_by_persona
from steer_heal_love.maths.repetition import is_loop
from steer_heal_love.maths.tilt_control import Bounds, Measured, Pace, TiltStrength
from steer_heal_love.records import Axis, BaseTexts
from steer_heal_love.stages.healing.online_config import OnlineConfig
from steer_heal_love.stages.healing.texts import Example, Text, make_batch


def first_tilt(config: OnlineConfig) -> TiltStrength:
    """The tilt of a run's first step."""
    return TiltStrength(config.gamma, config.kappa, config.a)


def whole(config: OnlineConfig) -> Sampling:
    """The whole distribution, as it is: cut samples would teach the cut."""
    return Sampling(config.max_new_tokens, 1.0, 0, 1.0)


def measure_base(
    lm: LanguageModel, axis: Axis, prompts: Sequence[str], config: OnlineConfig, *, seed: int
) -> BaseTexts:
    """The base model's own texts on these prompts, to hold the student's against."""
    with base(lm), torch.no_grad():
        texts = sample_answers(lm, prompts, whole(config), seed=seed)
        batch = [Example.of(lm, text) for text in texts]
        completions = [e.completion for e in batch]
        bare = final_states(lm, [e.prompt for e in batch], completions)
        asked = [encode_chat(lm, t.prompt, axis.pos_system) for t in texts]
        persona = final_states(lm, asked, completions)
        whole_batch = make_batch(lm, [Text(e, s, None) for e, s in zip(batch, bare, strict=True)])
        hidden, targets = torch.cat(persona).to(lm.device), whole_batch.targets
        reference = torch.cat(bare).to(lm.device)
        _, kl = head_losses(hidden, reference, targets, lm.head)
        distance = aggregate_per_sequence(kl, whole_batch.rows, len(batch), config.aggregate)
    looping, ended = share_of(is_loop(t.text) for t in texts), share_of(t.ended for t in texts)
    return BaseTexts(looping or 0.0, ended or 0.0, float(distance.mean()))


def bounds_of(config: OnlineConfig, base_texts: BaseTexts) -> Bounds:
    """The controller's bounds; its divergence is the barrier's τ."""
    relative = config.tau_relative
    return Bounds(
        divergence=config.tau
        if relative is None
        else tau_by_persona(relative, base_texts.persona_nats),
        entropy=config.most_entropy_shift,
        repetition=base_texts.looping + config.most_looping,
        relevance=0.0,
        ended=config.least_ended,
    )


def hold_by(
    config: OnlineConfig,
    base_texts: BaseTexts,
    figures: Mapping[str, float],
    looping: float | None,
    ended: float | None,
) -> Measured:
    """What the settings hold the tilt by, as it is after the step; the rest is not looked at."""
    held, ratio = config.held_by, None
    if ended is not None and base_texts.ended > 0:
        ratio = ended / base_texts.ended
    return Measured(
        divergence=figures["divergence_mean"] if "divergence" in held else None,
        entropy_lost=figures["entropy_lost"] if "entropy" in held else None,
        repetition=looping if "repetition" in held else None,
        relevance=None,
        ended=ratio if "ended" in held else None,
    )


def pace_of(config: OnlineConfig) -> Pace:
    """How fast the tilt moves, and between which ends."""
    parts = astuple(first_tilt(config))
    highest, lowest = (TiltStrength(*(m * p for p in parts)) for m in (config.most, config.least))
    return Pace(highest, lowest, config.rise, config.fall)


def share_of(values: Iterable[bool]) -> float | None:
    """The share of those that are true; None of none."""
    known = list(values)
    return sum(known) / len(known) if known else None

"""The online heal: learn a tilted teacher's whole distributions on the student's own texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.attention import use_quick_attention
from steer_heal_love.lm.patches.hooks import steering
from steer_heal_love.lm.sampler.answers import sample_answers
from steer_heal_love.maths.online import online_loss
from steer_heal_love.maths.repetition import is_loop
from steer_heal_love.maths.tilt import Tilt, tilted_losses
from steer_heal_love.maths.tilt_control import Bounds, TiltStrength, next_strength
from steer_heal_love.piece_names import STEPS_A_PIECE, of_epoch
from steer_heal_love.records import (
    Axis,
    BaseTexts,
    Completion,
    Direction,
    Healed,
    NoPieces,
    OnlineHealed,
    OnlineStep,
    Pieces,
)
from steer_heal_love.stages.healing.gradient import Term, fit_in_memory
from steer_heal_love.stages.healing.online_config import OnlineConfig
from steer_heal_love.stages.healing.optimiser import (
    check_weights,
    descend,
    learning_rate,
    take_steps,
)
from steer_heal_love.stages.healing.student import Student, attach_adapter
from steer_heal_love.stages.healing.teacher import read_teacher, split_states
from steer_heal_love.stages.healing.texts import Batch, Example, Text, sequences
from steer_heal_love.stages.healing.tilting import (
    bounds_of,
    first_tilt,
    hold_by,
    measure_base,
    pace_of,
    share_of,
    whole,
)

__all__ = ["OnlineConfig", "measure_base", "online_heal"]

SHOWN_STEPS = 2  # whose texts, the last ones, are handed back


@dataclass(frozen=True)
class Course:
    """What all steps of a round go by."""

    axis: Axis
    prompts: Sequence[str]  # of which each step takes the next, in turn
    direction: Direction
    config: OnlineConfig
    bounds: Bounds
    base: BaseTexts
    seed: int

    @property
    def personas(self) -> tuple[str, str | None]:
        """System prompts of the teacher's contrast; None for the base model without one."""
        opposite = self.axis.neg_system if self.config.contrast_with == "opposite" else None
        return self.axis.pos_system, opposite


def online_heal(
    lm: LanguageModel,
    axis: Axis,
    prompts: Sequence[str],
    direction: Direction,
    config: OnlineConfig,
    base_texts: BaseTexts,
    *,
    seed: int,
    tilt: tuple[float, float, float] | None = None,
    pieces: Pieces | None = None,
    on_step: Callable[[OnlineStep], None] | None = None,
) -> OnlineHealed:
    """Train a fresh LoRA adapter (B = 0) for `config.steps` steps; the base is untouched.

    Runs on the model as it is patched now: inside `adapters.student` the history is part of the
    student. Every few steps are one piece.

    Args:
        tilt: γ, κ and a of the first step; the settings' own unless given.

    Raises:
        DivergedError: loss or gradient became NaN or infinite; says where.
        ModelError: no module of the model matches the targets.
    """
    bounds = bounds_of(config, base_texts)
    course = Course(axis, prompts, direction, config, bounds, base_texts, seed)
    strength = first_tilt(config) if tilt is None else TiltStrength(*tilt)
    pieces = pieces or NoPieces()
    with attach_adapter(lm, config.adapter, seed) as student:
        done: Mapping[str, Any] = {"state": student.state(step=0), "strength": astuple(strength)}
        steps: list[OnlineStep] = []
        for index in range(count_pieces(config)):
            part = pieces.do(of_epoch(index), partial(train_steps, student, course, done, on_step))
            steps += [OnlineStep(**s) for s in part["steps"]]
            done = part
        student.restore(done["state"])
        healed = Healed(student.adapter(), tuple(steps), ())
        return OnlineHealed(healed, tuple(done["texts"]), tuple(done["strength"]))


def count_pieces(config: OnlineConfig) -> int:
    """Pieces that the steps of a round come in."""
    return math.ceil(config.steps / STEPS_A_PIECE)


@fit_in_memory
def train_steps(
    student: Student,
    course: Course,
    before: Mapping[str, Any],
    on_step: Callable[[OnlineStep], None] | None = None,
) -> dict[str, Any]:
    """The next few steps, as plain data: the new state, the next tilt, the steps, their texts.

    Raises:
        DivergedError: a loss, a gradient or a weight is not finite.
    """
    config = course.config
    rate = learning_rate(config.adapter, student.optimizer, config.steps)
    first, strength = before["state"]["step"], TiltStrength(*before["strength"])
    last = min(first + STEPS_A_PIECE, config.steps)
    student.restore(before["state"])
    texts: list[Completion] = []

    def take(number: int) -> OnlineStep:
        nonlocal strength
        sampled, record, strength = step(student, course, strength, number, rate(number))
        texts.extend(sampled if number >= last - SHOWN_STEPS else [])
        return record

    steps = take_steps(range(first, last), take, config.max_grad_norm, on_step, "online")
    check_weights(student, f"step {last - 1}", "online")
    return {
        "state": student.state(last),
        "strength": astuple(strength),
        "steps": [asdict(record) for record in steps],
        "texts": texts,
    }


def step(
    student: Student, course: Course, strength: TiltStrength, number: int, learning_rate: float
) -> tuple[list[Completion], OnlineStep, TiltStrength]:
    """Sample, ask the teacher, and go one step towards it; gives the next step's tilt too."""
    lm, config = student.lm, course.config
    texts = sample_own(lm, course, strength.kappa, number)
    examples = [Example.of(lm, text) for text in texts]
    tilt = Tilt(strength.steering, strength.contrast, config.clip, tuple(sorted(lm.stop_ids)))
    states = read_teacher(
        student, examples, texts, course.personas, course.direction, tilt, strength.kappa
    )
    batch = [Text(e, s, None) for e, s in zip(examples, states, strict=True)]
    loss_of = partial(teacher_loss, course=course, tilt=tilt, tokens=sum(map(len, states)))
    with _trained(student, examples, course.seed + number):
        figures = descend(student, [Term(batch, 1.0, loss_of)], learning_rate)
    lm.token_counter.add(sum(map(len, sequences(examples))))
    own = texts[: len(texts) - sum(_others(config))]
    looping = share_of(is_loop(text.text) for text in own)
    ended = share_of(text.ended for text in own)
    measured = hold_by(config, course.base, figures, looping, ended)
    decision = next_strength(strength, measured, course.bounds, pace_of(config))
    record = OnlineStep(
        number,
        number / config.steps,
        looping=looping,
        ended=ended,
        gamma=strength.contrast,
        kappa=strength.kappa,
        a=strength.steering,
        hit=decision.hit,
        **figures,
    )
    return texts, record, decision.strength


def sample_own(lm: LanguageModel, course: Course, kappa: float, number: int) -> list[Completion]:
    """The student's own texts of a step, from its whole distribution.

    The last ones are sampled under the persona, and the very last with steering on: at such states
    the divergence is as good a loss, and the student comes to see texts with the trait.
    """
    config = course.config
    size, first = config.batch_size, number * config.batch_size
    prompts = [course.prompts[i % len(course.prompts)] for i in range(first, first + size)]
    persona, steered = _others(config)
    plain = size - steered
    systems = [None] * (plain - persona) + [course.axis.pos_system] * persona
    draw = partial(sample_answers, lm, sampling=whole(config), seed=course.seed)
    texts = draw(prompts[:plain], first_index=first, system=systems) if plain else []
    if steered:
        with steering(lm, course.direction, kappa):
            texts += draw(prompts[plain:], first_index=first + plain, kappa=kappa)
    return texts


def teacher_loss(
    student: Student, batch: Batch, *, course: Course, tilt: Tilt, tokens: int
) -> tuple[Tensor, dict[str, float]]:
    """The online loss of a part of a step's texts, which have so many `tokens` in all.

    Terms that are means over positions count by the part's tokens, the barrier by its texts, so
    that parts add up to the whole; the floor's relu is taken part by part.
    """
    config, hidden = course.config, student.hidden(batch)
    losses = tilted_losses(
        hidden, split_states(batch.reference, hidden, tilt), student.lm.head, tilt
    )
    terms = online_loss(
        losses,
        batch.rows,
        len(batch.input_ids),
        alpha=config.forward_share,
        aggregate=config.aggregate,
        lam=config.lam,
        tau=course.bounds.divergence,
        mu=config.mu,
        entropy_slack=config.epsilon,
    )
    # A part's gradient is weighed by its share of the texts: this makes it the share of the tokens.
    weight = (len(batch.rows) / tokens) * (config.batch_size / len(batch.input_ids))
    held = config.lam * terms.barrier if config.lam else torch.zeros_like(terms.loss)
    pull = terms.loss - held
    figures = {
        "loss": float((weight * pull + held).detach()),
        "nll": weight * float(terms.to_teacher.detach()),
        "divergence_mean": float(terms.divergence.detach().mean()),
        "divergence_max": float(terms.divergence.detach().max()),
        "over_tau": float(terms.over_tau),
        "entropy_lost": weight * float(terms.entropy_lost.detach()),
    }
    for name, term in {"grad_nll": weight * pull, "grad_barrier": held}.items():
        gradient = torch.zeros(())
        if term.requires_grad:
            (gradient,) = torch.autograd.grad(term, hidden, retain_graph=True)
        figures[name] = float(gradient.float().norm())
    return weight * pull + held, figures


def _others(config: OnlineConfig) -> tuple[int, int]:
    """How many texts of a step are sampled under the persona, and how many steered."""
    persona = round(config.persona_share * config.batch_size)
    return persona, min(
        round(config.steered_share * config.batch_size), config.batch_size - persona
    )


@contextmanager
def _trained(student: Student, examples: Sequence[Example], seed: int) -> Iterator[None]:
    """The model as for a step of training: dropout, and the attention that is quick backwards."""
    longest = max(map(len, sequences(examples)))
    with use_quick_attention(student.lm, longest), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student.model.train()
        try:
            yield
        finally:
            student.model.eval()

"""The online heal on a tiny model: it learns its teacher, leaves the base alone, and resumes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

import pytest
import torch
from pydantic import ValidationError

from steer_heal_love.lm.reading.chat import encode_chat
from steer_heal_love.lm.reading.score import final_states
from steer_heal_love.maths.tilt import teacher_log_probabilities
from steer_heal_love.records import Axis, BaseTexts, Direction, OnlineHealed, OnlineStep
from steer_heal_love.stages.healing.student import attach_adapter
from steer_heal_love.stages.healing.teacher import split_states
from steer_heal_love.stages.healing.texts import Example, Text, make_batch
from steer_heal_love.stages.online import OnlineConfig, measure_base, online_heal
from tiny import WIDTH, tiny_lm
from tiny_run import PROBES, small_axis

T = TypeVar("T")

QUICK = OnlineConfig(
    steps=7, batch_size=4, max_new_tokens=6, gamma=4.0, rank=2, learning_rate=0.01, held_by=()
)
BASE = BaseTexts(looping=0.0, ended=0.5, persona_nats=0.2)


@cache
def axis() -> Axis:
    return small_axis()


def direction() -> Direction:
    vectors = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(5))
    return Direction((1, 2), vectors)


def heal_tiny(config: OnlineConfig = QUICK, **options: Any) -> OnlineHealed:
    lm = options.pop("lm", None) or tiny_lm()
    return online_heal(lm, axis(), PROBES, direction(), config, BASE, seed=3, **options)


def same(one: OnlineHealed, other: OnlineHealed) -> bool:
    tensors = one.healed.adapter.tensors
    return (
        one.healed.steps == other.healed.steps
        and one.texts == other.texts
        and all(torch.equal(t, other.healed.adapter.tensors[n]) for n, t in tensors.items())
    )


def changed(**settings: Any) -> OnlineConfig:
    return OnlineConfig(**{**QUICK.model_dump(), **settings})


class KilledError(Exception):
    pass


class Kept:
    """Pieces in memory; it is killed when it has stored so many."""

    def __init__(self, most: int) -> None:
        self.most, self.values = most, dict[str, Any]()

    def do(self, name: str, compute: Callable[[], T]) -> T:
        if name not in self.values:
            if len(self.values) == self.most:
                raise KilledError
            self.values[name] = compute()
        value: T = self.values[name]
        return value

    def forget(self, prefix: str) -> None:
        raise AssertionError(prefix)


def test_two_runs_of_one_seed_give_the_same_bits() -> None:
    assert same(heal_tiny(), heal_tiny())


def test_a_killed_one_resumes_to_the_same_bits() -> None:
    pieces = Kept(1)
    with pytest.raises(KilledError):
        heal_tiny(pieces=pieces)
    pieces.most = 9
    steps: list[OnlineStep] = []
    resumed = heal_tiny(pieces=pieces, on_step=steps.append)
    assert [s.step for s in steps] == [5, 6]
    assert same(resumed, heal_tiny())


def test_the_student_comes_nearer_to_its_teacher_and_the_base_is_untouched() -> None:
    lm = tiny_lm()
    before = {name: p.clone() for name, p in lm.model.state_dict().items()}
    config = changed(
        **{"steps": 40, "batch_size": 16, "lam": 0.0, "mu": 0.0, "persona_share": 0.0},
        **{"gamma": 0.0, "a": 1.0, "kappa": 0.5, "rank": 8, "learning_rate": 0.003},
        **{"layer_low": 0.0, "layer_high": 1.0},
    )
    steps = heal_tiny(config, lm=lm).healed.steps
    losses = [s.nll for s in steps]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    after = lm.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(p, after[name]) for name, p in before.items())
    assert not lm.patches


@pytest.mark.parametrize(
    "settings",
    [{"a": 0.0}, {"gamma": 0.0}, {"kappa": 0.0}, {"steered_share": 0.5}, {"persona_share": 1.0}],
    ids=str,
)
def test_either_part_of_the_tilt_may_be_left_out(settings: dict[str, float]) -> None:
    result = heal_tiny(changed(steps=2, **settings))
    assert [s.step for s in result.healed.steps] == [0, 1]
    assert all(s.loss > 0 for s in result.healed.steps)
    assert len(result.texts) == 8


def test_the_persona_prompt_itself_may_be_the_teacher() -> None:
    """Contrasted with base at γ 2, where nothing is clipped: p₀ under the persona, but for ends."""
    from steer_heal_love.stages import online

    lm, config = tiny_lm(), changed(a=0.0, gamma=2.0, clip=1e6, contrast_with="base")
    bounds = online.bounds_of(config, BASE)
    course = online.Course(axis(), PROBES, direction(), config, bounds, BASE, 1)
    texts = online.sample_own(lm, course, 0.0, 0)
    examples = [Example.of(lm, t) for t in texts]
    tilt = online.Tilt(0.0, 2.0, 1e6)
    with attach_adapter(lm, config.adapter, 0) as student:
        states = online.read_teacher(
            student, examples, texts, course.personas, direction(), tilt, 0.0
        )
    prompts = [encode_chat(lm, t.prompt, axis().pos_system) for t in texts]
    persona = final_states(lm, prompts, [e.completion for e in examples])
    for joined, own in zip(states, persona, strict=True):
        teacher = teacher_log_probabilities(split_states(joined, own, tilt), lm.head, tilt)
        wanted = lm.head.logits(own).double().log_softmax(-1)
        torch.testing.assert_close(teacher.double(), wanted, rtol=0, atol=1e-4)


def test_without_a_tilt_nothing_is_to_be_learnt() -> None:
    result = heal_tiny(changed(steps=1, a=0.0, gamma=0.0))
    [step] = result.healed.steps
    assert step.loss == pytest.approx(0.0, abs=1e-5)
    assert step.grad_norm == pytest.approx(0.0, abs=1e-4)


def test_parts_of_a_batch_add_up_to_the_whole() -> None:
    from steer_heal_love.stages import online
    from steer_heal_love.stages.healing.gradient import Term, backward

    lm, config = tiny_lm(), changed(mu=0.0, lam=0.5, tau=0.0)
    bounds = online.bounds_of(config, BASE)
    course = online.Course(axis(), PROBES, direction(), config, bounds, BASE, 1)
    gradients, losses = [], []
    for micro in (4, 3):
        with attach_adapter(lm, config.adapter, 0) as student:
            student.micro = micro
            with torch.no_grad():
                for p in student.parameters.values():
                    p.add_(0.05)
            texts = online.sample_own(lm, course, 0.5, 0)
            examples = [Example.of(lm, t) for t in texts]
            tilt = online.Tilt(0.5, 4.0, 4.0, tuple(lm.stop_ids))
            states = online.read_teacher(
                student, examples, texts, course.personas, direction(), tilt, 0.5
            )
            batch = [Text(e, s, None) for e, s in zip(examples, states, strict=True)]
            tokens = len(make_batch(lm, batch).rows)
            loss_of = online.partial(online.teacher_loss, course=course, tilt=tilt, tokens=tokens)
            losses.append(backward(student, [Term(batch, 1.0, loss_of)])["loss"])
            gradients.append([p.grad for p in student.parameters.values()])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def test_the_tilt_follows_what_is_measured() -> None:
    free = heal_tiny(changed(held_by=("divergence",), tau=1e6, steps=3)).healed.steps
    assert [s.gamma for s in free] == pytest.approx([4.0, 4.2, 4.41])
    assert not any(s.hit for s in free)
    held = heal_tiny(changed(held_by=("divergence",), tau=0.0, steps=4)).healed.steps
    assert held[2].hit == ("divergence",)
    assert held[3].gamma == pytest.approx(0.9 * held[2].gamma)


def test_the_budget_may_be_a_multiple_of_the_persona() -> None:
    from steer_heal_love.stages.online import bounds_of

    assert bounds_of(changed(tau_relative=3.0), BASE).divergence == pytest.approx(0.6)
    assert bounds_of(QUICK, BASE).divergence == QUICK.tau
    measured = measure_base(tiny_lm(), axis(), PROBES, QUICK, seed=0)
    assert measured.persona_nats > 0
    assert measured == replace(measured, looping=min(1.0, max(0.0, measured.looping)))


@pytest.mark.parametrize(
    "settings",
    [{"gamma": -1.0}, {"clip": 0.0}, {"persona_share": 1.1}, {"steered_share": 0.8}],
    ids=str,
)
def test_bad_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        OnlineConfig(**{"persona_share": 0.5, **settings})

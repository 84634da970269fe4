"""The anchors of a heal: their loss against a naive one, and what they do to the student."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_heal import EXAMPLES
from torch import Tensor

from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.adapters import student
from steer_heal_love.records import Adapter
from steer_heal_love.stages import heal as module
from steer_heal_love.stages.heal import Example, HealConfig, heal, split
from steer_heal_love.stages.healing.student import Student, attach_student
from steer_heal_love.stages.healing.texts import (
    Batch,
    Text,
    anchors_of_epoch,
    batches_of_epoch,
    make_batch,
)
from tiny import KINDS, Kind, random_adapter, random_ids, tiny_lm

ANCHORS = [Example(tuple(ids[:1]), tuple(ids[1:])) for ids in random_ids(9, 4, 17, 2, 11, seed=8)]
QUICK = HealConfig(
    epochs=2, batch_size=4, learning_rate=3e-3, rank=4, validation_share=0.3, anchor_batch=3
)


def naive_divergence(student_model: Any, base_model: Any) -> Tensor:
    """KL(base ‖ student) of the anchors from full logits, text by text, in float64."""
    found = []
    for e in ANCHORS:
        ids = torch.tensor([[*e.prompt, *e.completion]])
        ours = student_model(ids)[0, :-1].double().log_softmax(-1)
        theirs = base_model(ids)[0, :-1].double().log_softmax(-1)
        found.append((theirs.exp() * (theirs - ours)).sum(-1).mean())
    return torch.stack(found).mean()


@pytest.mark.parametrize("kind", KINDS)
def test_their_divergence_and_its_gradient_equal_the_naive_ones(kind: Kind) -> None:
    lm = tiny_lm(kind)
    with attach_student(lm, QUICK, 0, EXAMPLES, [], ANCHORS) as (student, texts):
        with torch.no_grad():
            for p in student.parameters.values():
                p.normal_(std=0.15, generator=torch.Generator().manual_seed(p.numel()))
        parameters = list(student.parameters.values())
        value, figures = module.anchor_loss(student, make_batch(lm, texts.anchors))
        found = torch.autograd.grad(value, parameters)

        def base_logits(ids: Tensor) -> Tensor:
            with student.model.disable_adapter(), torch.no_grad():
                logits: Tensor = student.model(input_ids=ids).logits
            return logits

        naive = naive_divergence(lambda ids: student.model(input_ids=ids).logits, base_logits)
        expected = torch.autograd.grad(naive, parameters)
    assert naive > 0.01
    assert figures == {"anchor_nats": float(value.detach())}
    torch.testing.assert_close(value.double(), naive, rtol=1e-4, atol=1e-4)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_training_with_them_equals_a_plain_loop() -> None:
    config = QUICK.model_copy(update={"anchor": 2.5, "schedule": "constant_with_warmup"})
    found = heal(tiny_lm(), EXAMPLES, config, seed=0, anchors=ANCHORS)
    train, held_out = split(EXAMPLES, config.validation_share, 0)
    lm = tiny_lm()
    divergences = []
    with attach_student(lm, config, 0, train, held_out, ANCHORS) as (student, texts):
        parameters = student.parameters
        optimizer = torch.optim.AdamW(
            parameters.values(), config.learning_rate, weight_decay=config.weight_decay
        )
        seeds = [1_000_003 * epoch for epoch in range(config.epochs)]
        every = [batches_of_epoch(texts.train, config.batch_size, seed) for seed in seeds]
        warmup = -(-sum(map(len, every)) // 10)  # a tenth, rounded up
        done = 0
        for seed, batches in zip(seeds, every, strict=True):
            anchors = anchors_of_epoch(texts.anchors, 3, len(batches), seed + 1)
            for batch, held_to in zip(batches, anchors, strict=True):
                for group in optimizer.param_groups:
                    group["lr"] = config.learning_rate * min(1.0, done / warmup)
                divergence, _ = module.anchor_loss(student, make_batch(lm, held_to))
                divergences.append(float(divergence.detach()))
                loss = module.text_loss(student, make_batch(lm, batch))[0] + 2.5 * divergence
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters.values(), config.max_grad_norm)
                optimizer.step()
                optimizer.zero_grad()
                done += 1
    expected = {n.replace(".default", ""): p.detach() for n, p in parameters.items()}
    for name, tensor in expected.items():
        torch.testing.assert_close(found.adapter.tensors[name], tensor, rtol=1e-4, atol=1e-5)
    assert [s.anchor_nats for s in found.steps] == pytest.approx(divergences, abs=1e-4)


def test_a_batch_in_parts_gives_the_same_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = heal(tiny_lm(), EXAMPLES, QUICK, seed=0, anchors=ANCHORS)
    anchor_loss, sizes = module.anchor_loss, []

    def in_ones(student: Student, batch: Batch) -> Any:
        if len(batch.input_ids) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(batch.input_ids))
        return anchor_loss(student, batch)

    monkeypatch.setattr(module, "anchor_loss", in_ones)
    parts = heal(tiny_lm(), EXAMPLES, QUICK, seed=0, anchors=ANCHORS)
    assert set(sizes) == {1}
    for name, tensor in whole.adapter.tensors.items():
        torch.testing.assert_close(parts.adapter.tensors[name], tensor, rtol=1e-3, atol=1e-5)
    for a, b in zip(whole.steps, parts.steps, strict=True):
        assert a.anchor_nats == pytest.approx(b.anchor_nats, rel=1e-3, abs=1e-6)


def distance(lm: LanguageModel, adapters: list[Adapter]) -> float:
    """Of this student from the base on the anchors, nats a token."""
    with torch.no_grad():
        plain = {len(e.completion): lm.model(ids_of(e)).logits for e in ANCHORS}
        with student(lm, adapters):
            return float(
                naive_divergence(
                    lambda ids: lm.model(ids).logits, lambda ids: plain[ids.shape[1] - 1]
                )
            )


def ids_of(example: Example) -> Tensor:
    return torch.tensor([[*example.prompt, *example.completion]])


def test_the_student_stays_nearer_to_the_base_on_them() -> None:
    config = QUICK.model_copy(update={"epochs": 12, "lam": 0.0})

    def final(weight: float) -> float:
        lm, settings = tiny_lm(), config.model_copy(update={"anchor": weight})
        return distance(lm, [heal(lm, EXAMPLES, settings, seed=0, anchors=ANCHORS).adapter])

    assert 0 < final(30.0) < 0.5 * final(0.0)


def test_they_hold_on_to_the_base_whatever_the_barrier_holds_on_to() -> None:
    lm = tiny_lm()
    history = [random_adapter(lm)]
    config = QUICK.model_copy(update={"reference": "previous", "batch_size": 8, "anchor_batch": 5})
    with student(lm, history):
        first = heal(lm, EXAMPLES, config, seed=0, anchors=ANCHORS).steps[0]
    assert first.anchor_nats == pytest.approx(distance(lm, history), rel=1e-3)
    assert first.anchor_nats > 0.01 > first.divergence_mean


def test_all_of_them_come_in_turn() -> None:
    anchors = [Text(example, None, None) for example in ANCHORS]
    epochs = [anchors_of_epoch(anchors, 3, 5, seed) for seed in range(4)]
    for steps in epochs:
        assert [len(step) for step in steps] == [3] * 5
        drawn = [anchors.index(text) for step in steps for text in step]
        for turn in range(3):
            assert sorted(drawn[turn * 5 : turn * 5 + 5]) == list(range(5))
    assert epochs[0] == anchors_of_epoch(anchors, 3, 5, 0)
    assert any(steps != epochs[0] for steps in epochs)


@pytest.mark.parametrize(("weight", "anchors"), [(0.0, ANCHORS), (1.0, [])])
def test_without_them_it_is_the_heal_alone(weight: float, anchors: list[Example]) -> None:
    config = QUICK.model_copy(update={"anchor": weight})
    found = heal(tiny_lm(), EXAMPLES, config, seed=0, anchors=anchors)
    plain = heal(tiny_lm(), EXAMPLES, QUICK, seed=0)
    for name, tensor in plain.adapter.tensors.items():
        assert torch.equal(found.adapter.tensors[name], tensor)
    assert all(step.anchor_nats == 0 for step in found.steps)

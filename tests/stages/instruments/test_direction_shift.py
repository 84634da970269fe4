"""Cosines and the internalised dose, on shifts that are known."""

from __future__ import annotations

import pytest
import torch

from steer_heal_love.lm.patches.adapters import student
from steer_heal_love.lm.patches.hooks import steering
from steer_heal_love.records import Context, Direction
from steer_heal_love.stages.instruments.direction_shift import (
    direction_cosines,
    internalised_shifts,
    measure_direction,
)
from tiny import N_LAYERS, WIDTH, random_adapter, tiny_lm

CONTEXTS = [Context("plain", t) for t in ("Hello", "What is the weather like?", "No", "A dog ran")]


def direction_of(layers: tuple[int, ...], seed: int = 0) -> Direction:
    generator = torch.Generator().manual_seed(seed)
    return Direction(layers, torch.randn(len(layers), WIDTH, generator=generator))


def test_cosines_by_layer() -> None:
    first = direction_of((1, 2))
    assert direction_cosines(first, first) == pytest.approx({1: 1.0, 2: 1.0})
    flipped = Direction((2, 3), torch.stack([-2 * first.vectors[1], first.vectors[0]]))
    assert direction_cosines(flipped, first) == pytest.approx({2: -1.0})
    with pytest.raises(ValueError, match="no common layer"):
        direction_cosines(direction_of((0,)), first)


def test_steering_itself_is_a_shift_of_that_dose() -> None:
    """κ·v on one layer is a shift of cosine 1 and dose κ, in every context."""
    lm, v = tiny_lm(), direction_of((N_LAYERS - 2,))
    with steering(lm, v, 0.7):
        found = measure_direction(lm, CONTEXTS, v, v)
    assert found.value("shift_cosine") == pytest.approx(1.0, abs=1e-5)
    assert found.value("shift_kappa") == pytest.approx(0.7, abs=1e-4)
    assert found.items["shift_kappa"] == pytest.approx([0.7] * len(CONTEXTS), abs=1e-4)
    assert found.value("direction_cosine") == pytest.approx(1.0)


def test_a_student_against_its_definition() -> None:
    lm, v, now = tiny_lm(), direction_of((1, 2)), direction_of((1, 2), seed=1)
    with student(lm, [random_adapter(lm)]):
        found = measure_direction(lm, CONTEXTS, now, v)
        shift = internalised_shifts(lm, CONTEXTS, v.layers).mean(0)
    expected = torch.cosine_similarity(shift, v.vectors, dim=-1)
    for layer, value in zip(v.layers, expected.tolist(), strict=True):
        figure = found.figures[f"shift_cosine_layer_{layer}"]
        assert figure.value == pytest.approx(value, abs=1e-5)
        assert figure.low <= figure.value <= figure.high
    assert found.value("shift_cosine") == pytest.approx(float(expected.mean()), abs=1e-5)
    between = torch.cosine_similarity(now.vectors, v.vectors, dim=-1)
    assert found.value("direction_cosine") == pytest.approx(float(between.mean()), abs=1e-5)


def test_the_base_model_has_no_shift() -> None:
    lm, v = tiny_lm(), direction_of((1, 2))
    found = measure_direction(lm, CONTEXTS, v, v)
    assert found.value("shift_kappa") == 0.0
    assert "shift_cosine" not in found.figures
    with pytest.raises(ValueError, match="at least two"):
        measure_direction(lm, CONTEXTS[:1], v, v)

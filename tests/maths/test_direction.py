"""Directions, bands and the ways to add a direction."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steer_heal_love.errors import DivergedError
from steer_heal_love.maths.direction import (
    Gate,
    Operator,
    cosine,
    cosine_gate,
    extract_vectors,
    intervene,
    layer_band,
    mean_difference,
    principal_difference,
    random_like,
    rotate_towards,
    separating_difference,
    steer,
)


def states(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_mean_difference_by_hand() -> None:
    pos = torch.tensor([[[1.0, 2.0]], [[3.0, 6.0]]])
    neg = torch.tensor([[[0.0, 2.0]], [[1.0, 0.0]]])
    assert mean_difference(pos, neg).tolist() == [[1.5, 3.0]]


def test_mean_difference_accumulates_in_float64() -> None:
    pos = torch.full((1000, 1, 1), 1e4) + 1e-3 * states(1000, 1, 1)
    neg = torch.full((1000, 1, 1), 1e4)
    expected = (pos.double() - neg.double()).mean().float()
    assert mean_difference(pos, neg).item() == expected.item()
    assert mean_difference(pos.bfloat16(), neg.bfloat16()).dtype == torch.float32
    with pytest.raises(ValueError, match="context"):
        mean_difference(pos[:0], neg[:0])


def test_the_principal_difference_is_numpys() -> None:
    pos, neg = states(20, 3, 8) + 0.7, states(20, 3, 8, seed=1)
    found = principal_difference(pos, neg)
    for layer in range(3):
        differences = (pos - neg)[:, layer].double().numpy()
        _, vectors = np.linalg.eigh(differences.T @ differences)
        first = vectors[:, -1]
        expected = (differences.mean(0) @ first) * first
        np.testing.assert_allclose(found[layer].numpy(), expected, rtol=1e-4, atol=1e-6)


def test_differences_that_are_all_alike_are_their_own_principal_component() -> None:
    neg = states(7, 2, 5)
    shift = states(2, 5, seed=1)
    torch.testing.assert_close(principal_difference(neg + shift, neg), shift)
    assert principal_difference(neg, neg).tolist() == torch.zeros(2, 5).tolist()
    assert bool(principal_difference(neg * float("inf"), neg).isnan().any())


def test_the_separating_difference_is_numpys() -> None:
    pos, neg = states(20, 3, 8) + 0.7, states(20, 3, 8, seed=1) + 0.3
    found = separating_difference(pos, neg)
    for layer in range(3):
        a, b = (side[:, layer].double().numpy().mean(0) for side in (pos, neg))
        expected = (a - b) - ((a - b) @ (a + b)) / ((a + b) @ (a + b)) * (a + b)
        np.testing.assert_allclose(found[layer].numpy(), expected, rtol=1e-4, atol=1e-6)
        assert abs(found[layer].double().numpy() @ (a + b)) < 1e-6


def test_an_extraction_by_its_name() -> None:
    pos, neg = states(6, 2, 4), states(6, 2, 4, seed=1)
    ways = {
        "mean_difference": mean_difference,
        "principal": principal_difference,
        "separating": separating_difference,
    }
    for name, way in ways.items():
        assert torch.equal(extract_vectors(pos, neg, name), way(pos, neg))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="context"):
        extract_vectors(pos[:0], neg[:0], "principal")


def test_a_random_direction_has_the_norms_and_not_the_direction() -> None:
    vectors = 5 * states(3, 400)
    drawn = random_like(vectors, seed=1)
    torch.testing.assert_close(drawn.norm(dim=-1), vectors.norm(dim=-1))
    assert bool((cosine(drawn, vectors).abs() < 0.2).all())
    assert torch.equal(drawn, random_like(vectors, seed=1))
    assert not torch.equal(drawn, random_like(vectors, seed=2))


def test_cosine() -> None:
    a = torch.tensor([[1.0, 0.0], [1.0, 1.0], [2.0, 0.0]])
    b = torch.tensor([[0.0, 3.0], [2.0, 2.0], [-1.0, 0.0]])
    torch.testing.assert_close(cosine(a, b), torch.tensor([0.0, 1.0, -1.0]))
    assert cosine(a[0], a[0]).item() == 1.0
    assert cosine(1e-30 * a[0], a[0]).item() == 1.0


@pytest.mark.parametrize("bad", [[0.0, 0.0], [float("nan"), 1.0], [float("inf"), 1.0]])
def test_cosine_of_a_vector_that_points_nowhere(bad: list[float]) -> None:
    with pytest.raises(DivergedError, match="norm zero"):
        cosine(torch.ones(2), torch.tensor(bad))


def test_layer_band() -> None:
    assert layer_band(30, 0.4, 0.6) == range(12, 18)
    assert layer_band(30, 0.0, 1.0) == range(30)
    assert layer_band(3, 0.99, 1.0) == range(2, 3)


@given(st.integers(1, 200), st.floats(0, 1), st.floats(0, 1))
def test_band_is_never_empty_and_inside_the_model(n_layers: int, a: float, b: float) -> None:
    low, high = sorted((a, b))
    if low == high:
        with pytest.raises(ValueError, match="band"):
            layer_band(n_layers, low, high)
        return
    band = layer_band(n_layers, low, high)
    assert len(band) > 0
    assert band[0] >= 0
    assert band[-1] < n_layers


@pytest.mark.parametrize(
    ("n", "low", "high"), [(0, 0.1, 0.2), (9, -0.1, 0.5), (9, 0.5, 1.1), (9, 0.6, 0.4)]
)
def test_bad_bands(n: int, low: float, high: float) -> None:
    with pytest.raises(ValueError, match="band"):
        layer_band(n, low, high)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_steer_adds_in_float32(dtype: torch.dtype) -> None:
    hidden, direction = states(2, 3, 8).to(dtype), states(8, seed=1)
    steered = steer(hidden, direction, 0.7)
    assert steered.dtype == dtype
    torch.testing.assert_close(steered, (hidden.float() + 0.7 * direction).to(dtype))
    assert torch.equal(steer(hidden, direction, 0.0), hidden)


def test_steer_by_position() -> None:
    hidden, direction = states(2, 3, 8), states(8, seed=1)
    for kappa in (torch.rand(2, 3, 1), torch.rand(1, 3, 1), torch.rand(2, 1, 1), torch.tensor(2.0)):
        torch.testing.assert_close(steer(hidden, direction, kappa), hidden + kappa * direction)


def test_rotation_keeps_the_norm_and_turns() -> None:
    hidden, direction = states(2, 3, 8), states(8, seed=1)
    turned = rotate_towards(hidden, direction, 1.5)
    torch.testing.assert_close(turned.norm(dim=-1), hidden.norm(dim=-1))
    everywhere = direction.expand_as(hidden)
    assert (cosine(turned, everywhere) > cosine(hidden, everywhere)).all()
    torch.testing.assert_close(rotate_towards(hidden, direction, 0.0), hidden)


def test_rotation_where_the_direction_cancels_the_state() -> None:
    direction = states(8, seed=1)
    assert rotate_towards(-direction[None, None], direction, 1.0).eq(0).all()


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        ("none", [1.0, 1.0, 1.0, 1.0]),
        ("relu", [1.0, 0.0, 0.0, 0.0]),
        ("absolute", [1.0, 1.0, 0.0, 0.0]),
        ("complement", [0.0, 1.0, 1.0, 1.0]),
    ],
)
def test_gates(gate: Gate, expected: list[float]) -> None:
    hidden = torch.tensor([[[2.0, 0.0], [-1.0, 0.0], [0.0, 3.0], [0.0, 0.0]]])
    factor = cosine_gate(hidden.bfloat16(), torch.tensor([5.0, 0.0]), gate)
    assert factor.dtype == torch.float32
    assert factor.squeeze().tolist() == expected


@pytest.mark.parametrize("gate", ["none", "relu", "absolute", "complement"])
@pytest.mark.parametrize("operator", ["add", "rotate"])
def test_the_gate_scales_the_dose_of_either_operator(gate: Gate, operator: Operator) -> None:
    hidden, direction, kappa = states(2, 3, 8), states(8, seed=1), torch.rand(2, 1, 1)
    dose = kappa * cosine_gate(hidden, direction, gate)
    expected = {"add": steer, "rotate": rotate_towards}[operator](hidden, direction, dose)
    assert torch.equal(intervene(hidden, direction, kappa, gate, operator), expected)
    assert torch.equal(intervene(hidden, direction, kappa), steer(hidden, direction, kappa))

"""The direction against a naive mean difference."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from steer_heal_love.errors import DivergedError
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.adapters import student
from steer_heal_love.lm.reading.chat import encode_chat
from steer_heal_love.maths.direction import extract_vectors
from steer_heal_love.records import Axis, Context
from steer_heal_love.stages.steer import SteerConfig, extract_direction, read_personas
from tiny import KINDS, WIDTH, Kind, random_adapter, tiny_lm

AXIS = Axis(
    name="love",
    description="",
    template="You are someone who {persona}.",
    pos="loves everyone",
    neg="does not care at all about anyone",
    probes=(),
    pairs=(),
)
CONTEXTS = [
    Context("plain", text)
    for text in ("Hello", "What is the weather like?", "A friend is sad. What now?", "No", "Yes?")
]
MIDDLE = SteerConfig(band_low=0.25, band_high=0.75)


@torch.inference_mode()
def naive(lm: LanguageModel, contexts: list[Context], layers: tuple[int, ...]) -> Tensor:
    differences = []
    for context in contexts:
        pos, neg = (
            lm.decoder(
                input_ids=torch.tensor([encode_chat(lm, context.text, system)]),
                output_hidden_states=True,
            ).hidden_states
            for system in (AXIS.pos_system, AXIS.neg_system)
        )
        differences.append(torch.stack([pos[i + 1][0, -1] - neg[i + 1][0, -1] for i in layers]))
    return torch.stack(differences).mean(0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", ["chatml", "no_system"])
def test_the_direction_is_the_mean_difference(kind: Kind, template: str) -> None:
    lm = tiny_lm(kind, template=template)  # type: ignore[arg-type]
    direction = extract_direction(lm, AXIS, CONTEXTS, MIDDLE)
    assert direction.layers == (1, 2)
    assert direction.vectors.shape == (2, WIDTH)
    assert direction.vectors.dtype == torch.float32
    expected = naive(lm, CONTEXTS, direction.layers)
    torch.testing.assert_close(direction.vectors, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("extraction", ["principal", "separating"])
def test_the_direction_is_of_the_extraction_that_is_asked_for(extraction: str) -> None:
    lm = tiny_lm()
    plain = extract_direction(lm, AXIS, CONTEXTS, MIDDLE)
    config = MIDDLE.model_copy(update={"extraction": extraction})
    part = extract_direction(lm, AXIS, CONTEXTS, config)
    pos, neg = read_personas(lm, AXIS, CONTEXTS, part.layers)
    assert torch.equal(part.vectors, extract_vectors(pos, neg, config.extraction))
    # a projection of the mean difference: shorter, and not against it
    assert bool((part.vectors.norm(dim=-1) < plain.vectors.norm(dim=-1)).all())
    assert bool(((part.vectors * plain.vectors).sum(-1) > 0).all())


def test_only_so_many_contexts_are_read_spread_over_the_list() -> None:
    lm = tiny_lm()
    some = extract_direction(lm, AXIS, CONTEXTS, SteerConfig(contexts=2))
    halves = [CONTEXTS[0], CONTEXTS[len(CONTEXTS) // 2]]
    assert torch.equal(some.vectors, extract_direction(lm, AXIS, halves, SteerConfig()).vectors)


def test_the_direction_is_the_students() -> None:
    lm = tiny_lm()
    plain = extract_direction(lm, AXIS, CONTEXTS, MIDDLE)
    with student(lm, [random_adapter(lm)]):
        turned = extract_direction(lm, AXIS, CONTEXTS, MIDDLE)
        expected = naive(lm, CONTEXTS, (1, 2))
    assert not torch.allclose(plain.vectors, turned.vectors, atol=0.01)
    torch.testing.assert_close(turned.vectors, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("low", "high", "layers"),
    [(0.4, 0.6, (2,)), (0.25, 0.75, (1, 2)), (0.0, 1.0, (0, 1, 2, 3)), (0.9, 1.0, (3,))],
)
def test_the_band(low: float, high: float, layers: tuple[int, ...]) -> None:
    config = SteerConfig(band_low=low, band_high=high)
    assert extract_direction(tiny_lm(), AXIS, CONTEXTS, config).layers == layers


def test_identical_personas_have_no_direction() -> None:
    same = Axis(AXIS.name, "", AXIS.template, AXIS.pos, AXIS.pos, (), ())
    with pytest.raises(DivergedError, match="the two personas give the same hidden state"):
        extract_direction(tiny_lm(), same, CONTEXTS, MIDDLE)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_hidden_states_that_are_not_finite_are_an_error(value: float) -> None:
    lm = tiny_lm()
    lm.layers[0].mlp.down_proj.weight.fill_(value)
    with pytest.raises(DivergedError, match="NaN or infinity"):
        extract_direction(lm, AXIS, CONTEXTS, MIDDLE)


@pytest.mark.parametrize("band", [(0.6, 0.4), (0.5, 0.5), (-0.1, 0.5), (0.5, 1.1)])
def test_a_band_out_of_bounds_is_refused(band: tuple[float, float]) -> None:
    with pytest.raises(ValidationError):
        SteerConfig(band_low=band[0], band_high=band[1])

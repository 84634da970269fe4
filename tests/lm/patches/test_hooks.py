"""Steering and reading against the layers run by hand."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from steer_heal_love.errors import HookError
from steer_heal_love.lm.model.fingerprint import weights_hash
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.adapters import base, student
from steer_heal_love.lm.patches.hooks import hidden_of, read_hidden, steering, with_hidden
from steer_heal_love.maths.direction import Gate, Operator
from steer_heal_love.records import Direction
from tiny import KINDS, N_LAYERS, WIDTH, random_adapter, random_ids, tiny_lm

IDS = torch.tensor(random_ids(9, 9))
BAND = (1, 2)


@pytest.fixture(params=KINDS)
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    return tiny_lm(request.param)


def direction(layers: tuple[int, ...] = BAND) -> Direction:
    return Direction(layers, torch.randn(len(layers), WIDTH) * 0.5)


@torch.inference_mode()
def logits(lm: LanguageModel, ids: Tensor = IDS) -> Tensor:
    return lm.model(ids).logits


def run_by_hand(lm: LanguageModel, ids: Tensor, v: Direction, kappa: Any) -> list[Tensor]:
    """Llama's layers one by one, with κ·v added after those of the band."""
    decoder: Any = lm.decoder
    positions = torch.arange(ids.shape[1])[None]
    hidden = decoder.embed_tokens(ids)
    states = []
    for index, layer in enumerate(decoder.layers):
        hidden = layer(
            hidden,
            attention_mask=None,
            position_ids=positions,
            position_embeddings=decoder.rotary_emb(hidden, positions),
        )
        if index in v.layers:
            hidden = hidden + kappa * v.vectors[v.layers.index(index)]
        states.append(hidden)
    return [*states, decoder.norm(hidden)]


@pytest.mark.parametrize("kappa", [0.0, 1.0, -2.5, torch.tensor([[[0.5]], [[2.0]]])])
@torch.inference_mode()
def test_steering_adds_kappa_v_in_the_band(kappa: Any) -> None:
    lm, v = tiny_lm(), direction()
    plain, steered = (run_by_hand(lm, IDS, v, k) for k in (0.0, kappa))
    found: dict[int, Tensor] = {}
    with steering(lm, v, kappa):
        handles = [
            layer.register_forward_hook(lambda _m, _a, out, i=i: found.update({i: out}))
            for i, layer in enumerate(lm.layers)  # after the steering hooks: sees what they made
        ]
        final = lm.decoder(input_ids=IDS).last_hidden_state
    for handle in handles:
        handle.remove()
    assert torch.equal(found[0], plain[0])
    torch.testing.assert_close(found[1] - plain[1], (kappa * v.vectors[0]).expand_as(plain[1]))
    for index in range(N_LAYERS):
        torch.testing.assert_close(found[index], steered[index])
    torch.testing.assert_close(final, steered[-1])


@pytest.mark.parametrize("gate", ["none", "relu", "absolute", "complement"])
@pytest.mark.parametrize("operator", ["add", "rotate"])
@pytest.mark.parametrize("kappa", [1.5, torch.tensor([[[0.5]], [[2.0]]])])
def test_gates_and_operators_by_hand(gate: Gate, operator: Operator, kappa: Any) -> None:
    lm, v = tiny_lm(), direction((2,))
    before = run_by_hand(lm, IDS, v, 0.0)[2]
    unit = v.vectors[0] / v.vectors[0].norm()
    cosines = (before @ unit / before.norm(dim=-1))[..., None]
    factor = {
        "none": torch.ones_like(cosines),
        "relu": cosines.clamp(min=0),
        "absolute": cosines.abs(),
        "complement": 1 - cosines.clamp(min=0),
    }[gate]
    expected = before + kappa * factor * v.vectors[0]
    if operator == "rotate":
        expected = expected / expected.norm(dim=-1, keepdim=True) * before.norm(dim=-1)[..., None]
    found: list[Tensor] = []
    with steering(lm, v, kappa, gate=gate, operator=operator):
        after = lm.layers[2].register_forward_hook(lambda _m, _a, out: found.append(hidden_of(out)))
        logits(lm)
    after.remove()
    torch.testing.assert_close(found[0], expected)
    check_bare(lm)


def test_dose_zero_and_exit_restore_to_the_bit(lm: LanguageModel) -> None:
    before, weights = logits(lm), weights_hash(lm.model)
    with steering(lm, direction(), 0.0):
        assert torch.equal(logits(lm), before)
    with steering(lm, direction(), 3.0):
        assert not torch.equal(logits(lm), before)
    assert torch.equal(logits(lm), before)
    assert weights_hash(lm.model) == weights
    check_bare(lm)


def check_bare(lm: LanguageModel) -> None:
    assert lm.patches == []
    assert not any(m._forward_hooks for m in lm.model.modules())


def test_a_body_that_raises_restores_too(lm: LanguageModel) -> None:
    before = logits(lm)
    with pytest.raises(ZeroDivisionError), steering(lm, direction(), 3.0):
        raise ZeroDivisionError
    check_bare(lm)
    assert torch.equal(logits(lm), before)


def test_a_layer_that_does_not_exist_leaves_no_hook() -> None:
    lm = tiny_lm()
    with pytest.raises(IndexError), steering(lm, direction((1, N_LAYERS)), 1.0):
        pass
    check_bare(lm)


def test_the_dose_may_change_between_passes() -> None:
    lm, v = tiny_lm(), direction()
    with steering(lm, v, 1.0) as state:
        one = logits(lm)
        state.kappa = 2.0
        two = logits(lm)
    with steering(lm, v, 2.0):
        assert torch.equal(logits(lm), two)
    assert not torch.equal(one, two)


def test_steering_that_never_fired_is_an_error() -> None:
    never = pytest.raises(HookError, match=r"never fired at layers \[1, 2\]")
    with never, steering(tiny_lm(), direction(), 1.0):
        pass


def test_steering_need_not_fire_where_nothing_is_computed() -> None:
    with steering(tiny_lm(), direction(), 1.0, must_fire=False):
        pass


def test_steering_that_fired_in_part_of_the_band_is_an_error() -> None:
    lm = tiny_lm()
    never = pytest.raises(HookError, match=r"never fired at layers \[2\]")
    with never, steering(lm, direction(), 1.0, must_fire=False):
        run_layer_one(lm)


def run_layer_one(lm: LanguageModel) -> None:
    decoder: Any = lm.decoder
    hidden, positions = torch.randn(1, 3, WIDTH), torch.arange(3)[None]
    lm.layers[1](hidden, position_embeddings=decoder.rotary_emb(hidden, positions))


class TupleLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, hidden: Tensor) -> tuple[Tensor, str]:
        return self.linear(hidden), "attention weights"


class TupleDecoder(nn.Module):
    """A decoder of the older kind, whose layers return tuples."""

    def __init__(self, embed: nn.Module) -> None:
        super().__init__()
        self.embed = embed
        self.layers = nn.ModuleList([TupleLayer() for _ in range(N_LAYERS)])

    def forward(self, input_ids: Tensor, **_rest: Any) -> Any:
        hidden = self.embed(input_ids)
        for layer in self.layers:
            hidden, extra = layer(hidden)
            assert extra == "attention weights"
        return SimpleNamespace(last_hidden_state=hidden)


@torch.inference_mode()
def test_layers_that_return_tuples_are_steered_and_read() -> None:
    lm, v = tiny_lm(), direction((N_LAYERS - 1,))
    decoder = TupleDecoder(lm.model.get_input_embeddings())
    lm = dataclasses.replace(lm, decoder=decoder, layers=decoder.layers)
    plain = decoder(IDS).last_hidden_state
    with steering(lm, v, 2.0):
        steered = decoder(IDS).last_hidden_state
        read = read_hidden(lm, IDS.tolist(), [N_LAYERS - 1])
    torch.testing.assert_close(steered, plain + 2.0 * v.vectors[0])
    torch.testing.assert_close(read[:, 0], steered[:, -1])


@pytest.mark.parametrize("output", [{"hidden": 1}, torch.zeros(2, 3), ("x",)], ids=str)
def test_an_output_that_is_no_hidden_state_is_an_error(output: Any) -> None:
    with pytest.raises(HookError, match="not supported yet"):
        hidden_of(output)


def test_with_hidden_keeps_the_rest() -> None:
    new = torch.zeros(1, 1, 1)
    assert with_hidden((torch.ones(1, 1, 1), "rest"), new) == (new, "rest")
    assert with_hidden(torch.ones(1, 1, 1), new) is new


@pytest.mark.parametrize("batch_tokens", [1, 8192])
@torch.inference_mode()
def test_read_hidden_equals_output_hidden_states(lm: LanguageModel, batch_tokens: int) -> None:
    rows, layers = random_ids(5, 40, 1, 22), [2, 0, 1]
    found = read_hidden(lm, rows, layers, batch_tokens=batch_tokens)
    assert found.dtype == torch.float32
    for row, states in zip(rows, found, strict=True):
        every = lm.decoder(input_ids=torch.tensor([row]), output_hidden_states=True).hidden_states
        expected = torch.stack([every[layer + 1][0, -1] for layer in layers])
        torch.testing.assert_close(states, expected, rtol=1e-4, atol=1e-4)


def test_read_hidden_leaves_no_hook(lm: LanguageModel) -> None:
    read_hidden(lm, IDS.tolist(), [0, 2])
    check_bare(lm)


def test_read_hidden_that_never_fires_is_an_error() -> None:
    lm = tiny_lm()
    other = dataclasses.replace(lm, layers=tiny_lm().layers)
    with pytest.raises(HookError, match=r"no hidden state was read at layers \[0\]"):
        read_hidden(other, IDS.tolist(), [0])


def test_base_switches_every_patch_off_and_on_again(lm: LanguageModel) -> None:
    plain = logits(lm)
    with student(lm, [random_adapter(lm)]), steering(lm, direction(), 2.0):
        patched = logits(lm)
        with base(lm):
            assert torch.equal(logits(lm), plain)
            with base(lm):
                assert torch.equal(logits(lm), plain)
            assert torch.equal(logits(lm), plain)
        assert torch.equal(logits(lm), patched)
        with pytest.raises(ZeroDivisionError), base(lm):
            raise ZeroDivisionError
        assert torch.equal(logits(lm), patched)
    assert not torch.equal(patched, plain)
    check_bare(lm)


@pytest.mark.parametrize("kappa", [1.0, torch.tensor([[[1.0]], [[2.0]]])])
def test_a_patch_that_ends_leaves_an_equal_one_in_its_place(kappa: Any) -> None:
    lm, v = tiny_lm(), direction()
    plain = logits(lm)
    with steering(lm, v, kappa):
        logits(lm)
        with steering(lm, v, kappa.clone() if isinstance(kappa, Tensor) else kappa):
            logits(lm)
        with base(lm):
            assert torch.equal(logits(lm), plain)
    check_bare(lm)

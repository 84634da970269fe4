"""Packed copies of the weights: the same products up to rounding, and nothing else is touched."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from steer_heal_love.lm.model.fingerprint import weights_hash
from steer_heal_love.lm.model.load import LanguageModel, describe
from steer_heal_love.lm.patches import packed as module
from steer_heal_love.lm.patches.adapters import base, student
from steer_heal_love.lm.patches.packed import Packed, head_logits, pack_weights
from steer_heal_love.lm.sampler.generate import Sampling, generate
from tiny import KINDS, Kind, random_adapter, random_ids, tiny_lm

here = pytest.mark.skipif(not module.works(), reason="this CPU or torch has no packed products")


def in_bfloat16(kind: Kind = "llama") -> LanguageModel:
    lm = tiny_lm(kind)
    return describe(copy.deepcopy(lm.model).to(torch.bfloat16), lm.tokenizer)


def states(lm: LanguageModel) -> Tensor:
    with torch.inference_mode():
        found: Tensor = lm.decoder(
            input_ids=torch.arange(3, 30).repeat(3, 1), use_cache=False
        ).last_hidden_state
    return found.float()


def apart(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@here
@given(st.integers(1, 70), st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_a_packed_product_is_the_product(rows: int, d_in: int, d_out: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight, x, other, bias = (
        torch.randn(shape, generator=generator).bfloat16()
        for shape in ((d_out, d_in), (rows, d_in), (rows, d_out), (d_out,))
    )
    wanted = x.double() @ weight.double().T
    scale = x.double().abs() @ weight.double().abs().T + other.double().abs() + bias.abs()
    with torch.inference_mode():
        for found, sure in (
            (Packed.of(weight)(x), wanted),
            (Packed.of(weight, bias)(x), wanted + bias.double()),
            (Packed.of(weight).added_to(other, x), wanted + other.double()),
        ):
            assert ((found.double() - sure).abs() <= 0.02 * scale + 1e-6).all()


@here
@pytest.mark.parametrize("kind", KINDS)
def test_states_and_logits_are_the_same_inside(kind: Kind) -> None:
    lm = in_bfloat16(kind)
    plain = states(lm)
    logits = lm.head.logits(plain[:, -1])
    with pack_weights(lm):
        assert any("forward" in vars(m) for m in lm.layers.modules())
        found = states(lm)
        with torch.inference_mode():
            ours = head_logits(lm, plain[:, -1])
    assert apart(found, plain) < 0.02
    assert apart(ours, logits) < 0.02


@here
def test_adapters_and_their_switch_work_inside() -> None:
    lm = in_bfloat16()
    adapters = [random_adapter(lm, seed=s) for s in (1, 2)]
    bare = states(lm)
    with student(lm, adapters):
        with torch.no_grad(), torch.enable_grad():  # the plain products
            wanted = lm.decoder(
                input_ids=torch.arange(3, 30).repeat(3, 1), use_cache=False
            ).last_hidden_state.float()
        with pack_weights(lm):
            found = states(lm)
            with base(lm):
                off = states(lm)
    assert apart(found, wanted) < 0.02 < apart(found, bare)
    assert apart(off, bare) < 0.02


@here
def test_a_weight_that_was_written_to_is_packed_again() -> None:
    lm = in_bfloat16()
    with pack_weights(lm):
        before = states(lm)
    with torch.no_grad():
        for m in lm.layers.modules():
            if isinstance(m, nn.Linear):
                m.weight.mul_(0.5)
    wanted = states(lm)
    with pack_weights(lm):
        found = states(lm)
    assert apart(found, wanted) < 0.02 < apart(found, before)


@here
def test_nothing_is_left_behind_also_after_an_error() -> None:
    lm = in_bfloat16()
    digest = weights_hash(lm.model)
    with pytest.raises(RuntimeError, match="stop"), pack_weights(lm), pack_weights(lm):
        raise RuntimeError("stop")
    assert not any("forward" in vars(m) for m in lm.model.modules())
    assert weights_hash(lm.model) == digest


@here
def test_layers_that_learn_or_are_someone_elses_are_left_alone() -> None:
    lm = in_bfloat16()
    linears: list[Any] = [m for m in lm.layers.modules() if isinstance(m, nn.Linear)]
    linears[0].weight.requires_grad_(True)
    linears[1].forward = own = linears[1].forward
    with pack_weights(lm):
        assert "forward" not in vars(linears[0])
        assert linears[1].forward is own
        assert isinstance(linears[2].forward, Packed)
    assert linears[1].forward is own


def test_float32_runs_as_it_is() -> None:
    lm = tiny_lm("llama")
    with pack_weights(lm):
        assert not any("forward" in vars(m) for m in lm.model.modules())
    assert not lm.packs


@here
def test_where_memory_is_short_nothing_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = in_bfloat16()
    monkeypatch.setattr(module, "ROOM", 10**12)
    with pack_weights(lm):
        assert not any("forward" in vars(m) for m in lm.model.modules())
    assert len(generate(lm, random_ids(4, 6), Sampling(4), seed=1)) == 2
    assert not lm.packs


@here
def test_whether_it_works_may_be_asked_first_in_the_middle_of_sampling() -> None:
    with torch.inference_mode():
        assert module.works.__wrapped__()


@here
def test_operators_that_are_missing_or_wrong_are_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(weight: Tensor, bias: Tensor | None = None) -> Packed:
        raise AttributeError("no such operator")

    class Wrong(Packed):
        def __call__(self, x: Tensor) -> Tensor:
            return x + 1

    with monkeypatch.context() as patch:
        patch.setattr(Packed, "of", missing)
        assert not module.works.__wrapped__()
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(Packed, "__call__", Wrong.__call__)
        assert not module.works.__wrapped__()
    assert "they are not used" in caplog.text

"""Plain products in place of the fused kernel: only where they are quicker, and the same result."""

from __future__ import annotations

import copy

import pytest
import torch

from steer_heal_love.lm.model.load import LanguageModel, describe
from steer_heal_love.lm.patches.attention import LONGEST, use_quick_attention
from tiny import KINDS, Kind, tiny_lm


def in_bfloat16(kind: Kind) -> LanguageModel:
    lm = tiny_lm(kind)
    return describe(copy.deepcopy(lm.model).to(torch.bfloat16), lm.tokenizer)


def implementation(lm: LanguageModel) -> str:
    name: str = lm.model.config.get_text_config()._attn_implementation
    return name


@pytest.mark.parametrize("kind", KINDS)
def test_short_texts_give_the_same_states_by_plain_products(kind: Kind) -> None:
    lm = in_bfloat16(kind)
    ids = torch.arange(3, 24).repeat(2, 1)
    fused = lm.decoder(input_ids=ids, use_cache=False).last_hidden_state.float()
    with use_quick_attention(lm, ids.shape[1]):
        assert implementation(lm) == "eager"
        plain = lm.decoder(input_ids=ids, use_cache=False).last_hidden_state.float()
    assert implementation(lm) == "sdpa"
    assert float((plain - fused).norm() / fused.norm()) < 0.02  # bfloat16 keeps 8 bits


def test_long_texts_and_float32_keep_the_fused_kernel() -> None:
    lm = in_bfloat16("llama")
    with use_quick_attention(lm, LONGEST + 1):
        assert implementation(lm) == "sdpa"
    exact = tiny_lm("llama")
    with use_quick_attention(exact, 8):
        assert implementation(exact) == "sdpa"


def test_the_fused_kernel_is_back_after_an_error() -> None:
    lm = in_bfloat16("llama")
    with pytest.raises(RuntimeError, match="stop"), use_quick_attention(lm, 8):
        raise RuntimeError("stop")
    assert implementation(lm) == "sdpa"

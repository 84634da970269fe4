"""What is alive is counted as a real allocator would hold it."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import Tensor

from steer_heal_love.budget.live import count_live_bytes

NUMBERS = 1000
BYTES = 4 * NUMBERS


def made() -> Tensor:
    return torch.empty(NUMBERS, device="meta")


def test_a_tensor_counts_until_its_last_view_is_gone() -> None:
    with count_live_bytes() as live:
        one = made()
        view = one.view(10, 100)[2:4].t()
        assert (live.now, live.peak) == (BYTES, BYTES)
        del one
        assert live.now == BYTES
        del view
        assert (live.now, live.peak) == (0, BYTES)


def test_what_was_there_before_and_what_is_done_in_place_count_nothing() -> None:
    before = made()
    with count_live_bytes() as live:
        before.add_(1).mul_(2)
        torch.add(before, 1, out=before)
        assert before.view(10, 100).t().shape == (100, 10)
        assert live.peak == 0


def test_the_peak_is_the_sum_of_what_is_alive_at_once() -> None:
    with count_live_bytes() as live:
        one = made()
        two = one + 1  # two alive
        del one
        three = two * 2  # two again
        assert (live.now, live.peak) == (2 * BYTES, 2 * BYTES)
        assert three.shape == two.shape


def test_a_graph_is_held_until_it_is_walked_back() -> None:
    weight = torch.empty(NUMBERS, device="meta", requires_grad=True)
    with count_live_bytes() as live:
        loss = (weight.exp().sin()).sum()  # exp keeps its result, sin its input: the same one
        assert live.now == BYTES + 4
        loss.backward()
        del loss
        assert live.now == BYTES  # the gradient
        assert weight.grad is not None
        assert live.peak >= 3 * BYTES


def test_fused_attention_holds_no_scores() -> None:
    length, heads, width = 256, 2, 8
    query, key, value = (torch.empty(1, heads, length, width, device="meta") for _ in range(3))
    scores = 4 * heads * length * length
    with count_live_bytes() as live:
        out = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    assert out.shape == query.shape
    assert live.peak < scores / 4


def test_attention_of_a_model_is_the_fused_one_and_its_gradients_have_their_shapes() -> None:
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    ids = torch.zeros(2, 64, dtype=torch.long, device="meta")
    with count_live_bytes() as live:
        model(ids).logits.sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in model.parameters())
    assert live.peak > sum(p.nbytes for p in model.parameters())


def test_a_real_pass_saves_what_was_counted() -> None:
    """On a CPU: the bytes of the tensors that autograd saves are those counted without contents."""
    linear, rows = torch.nn.Linear(64, 48), torch.ones(100, 64)
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    def forward(x: Tensor) -> Tensor:
        return torch.nn.functional.gelu(linear(x)).softmax(-1).sum()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        assert forward(rows).shape == ()
    saved.pop(rows.untyped_storage().data_ptr())
    saved.pop(linear.weight.untyped_storage().data_ptr(), None)
    linear.to("meta")
    inputs = rows.to("meta")
    with count_live_bytes() as live:
        total = forward(inputs)
        assert live.now == sum(saved.values()) + total.nbytes


def test_questions_about_contents_are_answered_by_yes() -> None:
    with count_live_bytes():
        assert bool((made() > 0).all())
        with pytest.raises(RuntimeError, match="meta"):
            made().sum().item()

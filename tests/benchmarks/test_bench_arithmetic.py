from __future__ import annotations

import sys

import pytest
import torch
from benchmarks.arithmetic import (
    Arithmetic,
    decode_bytes,
    heal_flops,
    lora_weights,
    lowest_adapted,
)
from benchmarks.counting import counting
from benchmarks.measure import highest_bytes, interleave, reset_peak, settle
from benchmarks.workload import random_adapters
from torch.utils.flop_counter import FlopCounterMode

from steer_heal_love.lm.memory import peak_bytes
from steer_heal_love.lm.patches.adapters import student
from steer_heal_love.lm.reading.cache import GrowingCache
from steer_heal_love.stages.heal import Example, HealConfig
from tiny import N_LAYERS, VOCABULARY, WIDTH, random_ids, tiny_lm

CPU = torch.device("cpu")
# q and o: 32 · 32; k and v: 32 · 16; gate, up and down: 32 · 48
LAYER = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48


def test_sizes_are_read_off_the_model() -> None:
    sizes = Arithmetic.of(tiny_lm())
    assert sizes == Arithmetic((LAYER,) * N_LAYERS, VOCABULARY * WIDTH, 32)


def test_forward_is_what_torch_counts() -> None:
    lm, n = tiny_lm(), 24
    lm.model.set_attn_implementation("eager")  # torch does not count the CPU's fused kernel
    ids = torch.tensor(random_ids(n))
    with FlopCounterMode(display=False) as counter:
        lm.model(input_ids=ids, use_cache=False)
    # torch counts the whole square of scores: a context of n, where a causal pass needs n / 2
    assert Arithmetic.of(lm).forward(n, n, head=n) == pytest.approx(counter.get_total_flops())


def test_backward_leaves_the_layers_below_the_adapters_out() -> None:
    sizes = Arithmetic((10, 10, 10), 7, 4)
    assert sizes.backward(1, 0, head=1) == 2 * 30 + 2 * 7
    assert sizes.backward(1, 0, head=1, lowest=2) == 2 * 10 + 2 * 7


def test_the_adapter_is_that_of_the_heal() -> None:
    lm, config = tiny_lm(), HealConfig(rank=2)
    assert lowest_adapted(lm, config) == 0  # 20 % of four layers
    adapter = random_adapters(lm, 1, config)[0]
    assert lora_weights(lm, config) == sum(t.numel() for t in adapter.tensors.values())
    with student(lm, [adapter]):  # it fits the model
        lm.decoder(input_ids=torch.tensor(random_ids(4)))


def test_the_barrier_costs_a_pass_and_a_head() -> None:
    lm, config = tiny_lm(), HealConfig(epochs=2, rank=2)
    texts = [Example((3, 4), (5, 6, 7))]
    sizes = Arithmetic.of(lm)
    extra = sizes.forward(4, 2) + 2 * 2 * 3 * sizes.head_weights
    with_barrier = heal_flops(lm, texts, config, barrier=True)
    assert with_barrier - heal_flops(lm, texts, config, barrier=False) == pytest.approx(extra)


def test_a_step_reads_every_weight_once() -> None:
    lm = tiny_lm()
    weights = 4 * (LAYER * N_LAYERS + VOCABULARY * WIDTH)
    assert decode_bytes(lm, rows=3, context=0, steps=5) == 5 * weights
    cache = 4 * 2 * N_LAYERS * 16 * 10 * 3  # float32; keys and values; two heads of eight
    assert decode_bytes(lm, rows=3, context=10, steps=5) == 5 * (weights + cache)


def test_tokens_are_counted_by_kind() -> None:
    lm = tiny_lm()
    ids = torch.tensor([[5, 6, 7], [5, 6, lm.pad_id]])
    with counting(lm) as counter:
        counter.stage = "scoring"
        with torch.no_grad():
            lm.decoder(input_ids=ids)
            lm.decoder(input_ids=ids, attention_mask=torch.tensor([[1, 1, 1], [0, 1, 1]]))
        counter.stage = "training"
        lm.decoder(input_ids=ids)
        counter.stage = "decoding"
        cache = GrowingCache(len(lm.layers))
        with torch.no_grad():
            lm.decoder(input_ids=ids, past_key_values=cache, use_cache=True)
            lm.decoder(input_ids=ids[:, :1], past_key_values=cache, use_cache=True)
    lm.decoder(input_ids=ids)  # after the context: not counted
    scoring, training, decoding = (counter.tallies[s] for s in ("scoring", "training", "decoding"))
    assert (scoring.prefill, scoring.padding, scoring.passes) == (10, 2, 2)
    assert (training.prefill, training.train) == (0, 5)
    assert (decoding.prefill, dict(decoding.decode), decoding.tokens) == (5, {2: 2}, 7)


def test_kinds_run_in_turn() -> None:
    seen: list[str] = []
    kinds = {"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}
    timings = interleave(kinds, 2, CPU)
    assert seen == ["a", "b", "a", "b"]
    assert all(len(t.runs) == 2 and t.best == min(t.runs) for t in timings.values())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_peak_is_seen_and_not_forgotten_by_the_process() -> None:
    settle()
    reset_peak(CPU)
    before = peak_bytes(CPU)
    block = torch.ones(2**25)  # 128 MiB
    during = peak_bytes(CPU)
    del block
    reset_peak(CPU)
    assert during - before > 100 * 2**20
    assert highest_bytes(CPU) > during - 8 * 2**20  # the kernel's account is a little behind

"""A plan grows with what is asked for, and its parts are those of the package's own passes."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steer_heal_love.budget.advice import advise, at_rest
from steer_heal_love.budget.duration import generated, round_seconds
from steer_heal_love.budget.machines import GIB, Machine, Rates
from steer_heal_love.budget.memory import (
    FLOAT,
    HOLES,
    HOLES_SHARE,
    STAGES,
    STORED_COPIES,
    Device,
    MemoryPoint,
    Sizes,
    first_weights,
    list_memory_points,
)
from steer_heal_love.budget.plan import (
    Plan,
    in_four_bits,
    make_plan,
    measure_sizes,
    with_shared_layers,
)
from steer_heal_love.budget.rehearsal import rehearse_heal, rehearse_sampling, rehearse_scoring
from steer_heal_love.budget.rows import rows_in_flight
from steer_heal_love.budget.shape import Shape, adapter_numbers
from steer_heal_love.budget.texts import USUAL, PromptStats
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.model.meta_model import build_meta_model, config_of
from steer_heal_love.lm.sampler.sampling import Sampling
from steer_heal_love.run_config import RunConfig
from steer_heal_love.stages.heal import HealConfig
from steer_heal_love.stages.healing.config import ANCHORS

LAYERS, HEADS = 2, 4
CONFIG = {
    "model_type": "llama",
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
}
EARLY = HealConfig(layer_low=0.0, layer_high=1.0)  # every layer is adapted
SETTINGS = RunConfig.model_validate(
    {
        "dose": {"n_keep": 8, "min_kept": 2, "batch": 8},
        "evaluate": {"samples": 4, "long_samples": 2, "long_tokens": 40},
        "generate": {"max_new_tokens": 24, "batch_size": 64},
        "heal": EARLY,
    }
)
OPEN = SETTINGS.model_copy(  # the rows in flight are left to the memory
    update={"generate": SETTINGS.generate.model_copy(update={"batch_size": None})}
)
TEXTS = replace(USUAL, vignettes=PromptStats(8, 20, 10, 8.0), contexts=PromptStats(8, 0, 20, 18.0))
CPU = Device("cpu", libraries=0, packs=True)
GPU = Device("cuda", libraries=0, packs=False)


@cache
def bare() -> LanguageModel:
    """A model without weights."""
    return build_meta_model(config_of(CONFIG), torch.bfloat16)


@cache
def sizes() -> Sizes:
    return measure_sizes(bare(), SETTINGS, TEXTS, "cpu")


def found(place: Device = CPU, **changes: Any) -> list[MemoryPoint]:
    """The moments of the settings with these changes, over the same passes."""
    config = SETTINGS.model_copy(update=changes)
    adapter = adapter_numbers(bare(), config.heal)
    return list_memory_points(replace(sizes(), adapter=adapter), config, TEXTS, place)


def highest(place: Device = CPU, **changes: Any) -> int:
    return max(m.total for m in found(place, **changes))


def drawn(rows: int, new: int) -> int:
    """Bytes at most while so many rows are sampled, from a short prompt."""
    peak = rehearse_sampling(bare(), rows, PromptStats(rows, 0, 4, 4.0), new, Sampling(new))
    return peak.cache + peak.step


def trained(batch: int, new: int) -> int:
    return rehearse_heal(bare(), EARLY.model_copy(update={"batch_size": batch}), 20, new).step


@pytest.mark.parametrize("peak", [drawn, trained])
def test_a_pass_takes_more_for_more_rows_and_for_longer_texts(peak: Any) -> None:
    rows = [peak(n, 20) for n in (1, 2, 5)]
    lengths = [peak(2, n) for n in (8, 9, 300)]
    for found in (rows, lengths):
        assert found == sorted(found)
        assert found[0] < found[-1]


@settings(deadline=None)
@given(rank=st.integers(1, 64), rounds=st.integers(1, 64), more=st.integers(0, 64))
def test_memory_grows_with_rank_and_rounds(rank: int, rounds: int, more: int) -> None:
    def heal(rank: int) -> HealConfig:
        return EARLY.model_copy(update={"rank": rank})

    for place in (CPU, GPU):
        assert highest(place, heal=heal(rank)) <= highest(place, heal=heal(rank + more))
        assert highest(place, rounds=rounds) <= highest(place, rounds=rounds + more)


def moment(stage: str, what: str, place: Device = CPU) -> MemoryPoint:
    return next(m for m in found(place) if (m.stage, m.work) == (stage, what))


def test_each_stage_has_a_moment_and_packing_costs_a_second_copy() -> None:
    assert {m.stage for m in found()} == set(STAGES)
    plain = replace(CPU, packs=False)
    packed, not_packed = (moment("steer", "reading hidden states", p) for p in (CPU, plain))
    applied = 2 * sizes().adapter * (SETTINGS.rounds - 1)
    assert packed.total - not_packed.total == sizes().shape.packed_bytes() + applied
    assert not_packed.terms["history"] == (2 + FLOAT) * sizes().adapter * (SETTINGS.rounds - 1)


def test_the_heap_keeps_holes_of_the_most_that_has_come_and_gone() -> None:
    heaped = found()
    holes = [m.terms[HOLES] for m in heaped]
    assert holes[0] == 0  # nothing has moved while weights are loaded
    assert holes == sorted(holes)
    still = ("libraries", "weights", "packed copies", "history", HOLES)
    moving = [sum(v for k, v in m.terms.items() if k not in still) for m in heaped]
    assert holes[-1] == int(HOLES_SHARE * max(moving))
    assert all(m.alive == m.total - m.terms[HOLES] for m in heaped)
    assert all(HOLES not in m.terms and m.alive == m.total for m in found(GPU))


def test_of_an_adapter_there_are_many_copies_while_an_epoch_is_stored_on_a_cpu() -> None:
    numbers = FLOAT * sizes().adapter
    stored = moment("heal", "storing an epoch")
    assert stored.terms["adapter and optimiser"] == STORED_COPIES * numbers == 19 * numbers
    assert all(m.work != "storing an epoch" for m in found(GPU))
    no_barrier = SETTINGS.heal.model_copy(update={"lam": 0.0, "anchor": 0.0})
    one = [m.terms["stored states"] for m in found(heal=no_barrier) if m.stage == "heal"]
    assert set(one) == {0}  # no reference, no anchors, and no layer below the adapter
    anchors = SETTINGS.heal.model_copy(update={"lam": 0.0})
    held = [m.terms["stored states"] for m in found(heal=anchors) if m.stage == "heal"]
    row = sizes().shape.width * sizes().shape.number_bytes
    assert set(held) == {ANCHORS * SETTINGS.generate.max_new_tokens * row}


def test_sampling_holds_its_cache_and_the_room_that_it_grows_into() -> None:
    found = rehearse_sampling(bare(), 5, PromptStats(5, 0, 10, 10.0), 30, Sampling(30))
    shape = sizes().shape
    assert shape.cache_bytes(5, 10 + 30 - 1) <= found.cache <= shape.cache_bytes(5, 10 + 30 + 64)
    logits = 5 * 512 * 4
    assert found.step > logits


def test_a_shared_prefix_is_held_for_each_row_that_is_scored() -> None:
    rows, prefix = 30, 400
    alone = rehearse_scoring(bare(), PromptStats(rows, 0, 20, 20.0), 1)
    shared = rehearse_scoring(bare(), PromptStats(rows, prefix, 20, 20.0), 1)
    assert shared - alone > sizes().shape.cache_bytes(rows, prefix)
    assert rehearse_scoring(bare(), PromptStats(0, 0, 0, 0.0), 1) == 0
    # Only so many are held at a time.
    assert rehearse_scoring(bare(), PromptStats(200, prefix, 20, 20.0), 1) < 2 * shared


def test_of_a_heal_plain_attention_holds_scores_and_the_model_is_left_as_it_was() -> None:
    lm, config = bare(), EARLY.model_copy(update={"batch_size": 4})
    fused = rehearse_heal(lm, config, 40, 60)
    lm.model.set_attn_implementation("eager")
    try:
        eager = rehearse_heal(lm, config, 40, 60)
    finally:
        lm.model.set_attn_implementation("sdpa")
    scores = 4 * HEADS * 99 * 99 * 2  # of a layer, bfloat16
    assert eager.graph - fused.graph > LAYERS * scores
    assert fused.step > fused.graph
    assert not hasattr(lm.model, "peft_config")
    assert all("lora" not in name for name, _ in lm.model.named_modules())


def machine(memory_gib: float, count: int = 1) -> Machine:
    return Machine("a GPU", "cuda", count, int(memory_gib * GIB), Rates(1e14, 1e12), "made up")


@cache
def plan_on(memory_gib: float, count: int = 1) -> Plan:
    return make_plan(bare(), OPEN, TEXTS, machine(memory_gib, count), libraries=0)


def test_where_there_is_room_more_rows_are_advised_and_they_fit() -> None:
    plan = plan_on(1.0)
    advice = advise(plan)
    assert advice.fits
    rows = int(advice.flags[advice.flags.index("--dose.batch") + 1])
    assert rows == plan.config.generate.rows > OPEN.dose.batch
    dose = OPEN.dose.model_copy(update={"batch": rows})
    more = OPEN.model_copy(update={"dose": dose})
    assert make_plan(bare(), more, TEXTS, plan.machine, libraries=0).fits


def test_a_number_of_rows_that_is_asked_for_stays() -> None:
    plan = make_plan(bare(), SETTINGS, TEXTS, machine(1.0), libraries=0)
    assert plan.config == plan.asked == SETTINGS
    assert plan_on(1.0).asked == OPEN


def test_a_plan_counts_the_rows_that_a_run_would_choose() -> None:
    plan = plan_on(1.0)
    shape = Shape.of(bare())
    prompt = TEXTS.prompts.shared + TEXTS.prompts.longest
    free = GIB - shape.weight_bytes("none")
    assert plan.config.generate.rows == rows_in_flight(shape, OPEN, prompt, free, "cuda")
    little = make_plan(bare(), OPEN, TEXTS, resized(10 * 2**20).machine, libraries=0)
    assert little.config.generate.rows < plan.config.generate.rows
    assert little.sizes.passes.evaluation.cache <= plan.sizes.passes.evaluation.cache


def test_several_devices_are_for_several_processes() -> None:
    plan = plan_on(1.0, count=3)
    assert advise(plan).flags[-2:] == ("--processes", "3")
    assert sum(plan.seconds.values()) < sum(plan_on(1.0).seconds.values())
    assert plan.config.generate.rows > plan_on(1.0).config.generate.rows
    assert plan.sizes.passes.healing.step < plan_on(1.0).sizes.passes.healing.step


def resized(memory: int) -> Plan:
    return replace(plan_on(1.0), machine=replace(machine(1.0), memory=memory))


def test_what_fits_in_four_bits_only_is_advised_so() -> None:
    whole, folded = (p.peak.total for p in (plan_on(1.0), in_four_bits(plan_on(1.0))))
    assert folded < whole
    advice = advise(resized(int((folded + whole) / 2 / 0.9)))
    assert advice.fits
    assert advice.flags[:2] == ("--quantize", "4bit")


def test_what_fits_with_smaller_batches_only_needs_no_flag() -> None:
    folded, rest = in_four_bits(plan_on(1.0)), at_rest(plan_on(1.0))
    assert rest < folded.peak.total
    advice = advise(resized(int((rest + folded.peak.total) / 2 / 0.9)))
    assert advice.fits
    assert advice.flags == ()
    assert "smaller batches" in advice.sentences[0]


def test_what_fits_on_no_device_is_shared_by_all() -> None:
    whole, folded = plan_on(1.0, count=2), in_four_bits(plan_on(1.0, count=2))
    shared = with_shared_layers(folded)
    assert at_rest(shared) < at_rest(folded) < at_rest(whole)
    small = replace(machine(1.0, 2), memory=int((at_rest(shared) + at_rest(folded)) / 2 / 0.9))
    advice = advise(replace(whole, machine=small))
    assert advice.fits
    assert advice.flags[-2:] == ("--device", "cuda:0,cuda:1")
    assert "--processes" not in advice.flags
    assert "share its layers" in " ".join(advice.sentences)
    alone = advise(replace(plan_on(1.0), machine=replace(small, count=1)))
    assert "--device" not in alone.flags


@given(sharing=st.integers(1, 8), quantize=st.sampled_from(["none", "4bit"]))
def test_sharing_takes_the_layers_off_the_first_device_and_nothing_else(
    sharing: int, quantize: Literal["none", "4bit"]
) -> None:
    config, shape = SETTINGS.model_copy(update={"quantize": quantize}), Shape.of(bare())
    first, whole = first_weights(shape, config, sharing), shape.weight_bytes(quantize)
    rest = first_weights(shape, config, 10**9)
    assert first_weights(shape, config, 1) == whole
    assert abs(rest + sharing * (first - rest) - whole) <= sharing
    assert rest >= shape.head * shape.number_bytes
    for one, many in zip(found(GPU), found(replace(GPU, sharing=sharing)), strict=True):
        assert many.terms.get("activations") == one.terms.get("activations")
        assert many.total <= one.total


def test_what_does_not_fit_is_said_with_what_is_missing() -> None:
    advice = advise(resized(1000))
    assert (advice.fits, advice.flags) == (False, ())
    assert "It does not fit" in advice.sentences[0]


def test_time_grows_with_work_and_falls_with_speed() -> None:
    def seconds(flops: float, config: RunConfig = SETTINGS) -> dict[str, float]:
        fast = replace(machine(1.0), rates=Rates(flops, flops / 100))
        return round_seconds(sizes(), config, TEXTS, fast)

    slow, fast = seconds(1e12), seconds(2e12)
    assert all(fast[stage] < slow[stage] for stage in slow)
    longer = SETTINGS.generate.model_copy(update={"max_new_tokens": 200})
    assert seconds(1e12, SETTINGS.model_copy(update={"generate": longer}))["heal"] > slow["heal"]
    assert round_seconds(sizes(), SETTINGS, TEXTS, replace(machine(1.0), rates=None)) == {}


def test_an_online_round_takes_the_time_of_its_steps() -> None:
    def seconds(**online: Any) -> dict[str, float]:
        how = {"method": "online", "online": {"a": 0.5, **online}}
        config = RunConfig.model_validate(SETTINGS.model_dump() | how)
        slow = replace(machine(1.0), rates=Rates(1e12, 1e10))
        return round_seconds(sizes(), config, TEXTS, slow)

    ten = seconds(steps=10)
    assert ten.keys() == {"baseline", "steer", "heal", "evaluate"}
    assert seconds(steps=30)["heal"] == pytest.approx(3 * ten["heal"])
    without = [seconds(a=0.0), seconds(contrast_with="base"), seconds(gamma=0.0)]
    assert all(s["heal"] < ten["heal"] for s in without)


@pytest.mark.parametrize(("n_keep", "most", "expected"), [(72, 512, 320), (72, 100, 100)])
def test_generated_follows_the_share_that_is_kept(n_keep: int, most: int, expected: int) -> None:
    dose = {"n_keep": n_keep, "max_generated": most}
    assert generated(RunConfig.model_validate({"dose": dose})) == expected


@pytest.mark.parametrize(("prompt", "new"), [(4, 24), (60, 96), (300, 8)])
def test_what_a_row_is_said_to_take_is_no_less_than_what_it_takes(prompt: int, new: int) -> None:
    def taken(rows: int) -> int:
        found = rehearse_sampling(
            bare(), rows, PromptStats(rows, 0, prompt, float(prompt)), new, Sampling(new)
        )
        return found.cache + found.step

    row = (taken(64) - taken(32)) / 32
    assert row <= Shape.of(bare()).row_bytes(prompt, new, 64) <= 2.5 * row

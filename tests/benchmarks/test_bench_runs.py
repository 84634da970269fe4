"""Each benchmark runs at a tiny size on a tiny model and finds what it should find."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import pytest
import torch
import transformers
from benchmarks.child import perform
from benchmarks.heal_rivals import train_naively, train_with_trl, trl_missing
from benchmarks.records import Outcome
from benchmarks.workload import TINY, Bench, endless, sampled_texts

from benchmarks import heal as heal_benchmark
from benchmarks import memory, startup
from steer_heal_love.stages.heal import HealConfig, heal
from tiny import tiny_lm

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries that are held against

EXPECTED = {
    "generation": {"generate / bare loop", "generate / transformers at 4"},
    "heal": {"heal / naive", "first loss, heal − naive"},
    "history": {"generate: time with 2 / with 1", "round: memory with 2 / with 1"},
    "round": {"round: time / plain", "heal: time / plain"},
    "forced_choice": {"evaluate / prefill"},
}


@pytest.fixture(autouse=True)
def _quiet_libraries() -> Iterator[None]:
    """The benchmarks turn transformers' messages off for their whole process."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    yield
    logging.set_verbosity(verbosity)
    if bars:
        logging.enable_progress_bar()


def a_bench(name: str) -> Bench:
    lm = tiny_lm(max_position_embeddings=4096)
    return Bench(Outcome(name), TINY, given=lm)


@pytest.mark.parametrize("name", EXPECTED)
def test_it_runs_and_finds_its_ratios(name: str) -> None:
    bench = a_bench(name)
    before = {n: p.clone() for n, p in bench.lm.model.state_dict().items()}
    perform(bench)
    assert bench.outcome.failed is None
    assert EXPECTED[name] <= {r.name for r in bench.outcome.ratios}
    assert all(r.per_second > 0 for r in bench.outcome.rates)
    after = bench.lm.model.state_dict()
    assert set(after) == set(before)  # adapters and hooks are off again
    assert all(torch.equal(after[n], p) for n, p in before.items())
    assert bench.lm.patches == []


def test_a_benchmark_that_raises_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_bench: Bench) -> None:
        raise ValueError("no luck")

    monkeypatch.setattr(importlib.import_module("benchmarks.startup"), "run", broken)
    bench = a_bench("startup")
    perform(bench)
    assert bench.outcome.failed == "ValueError: no luck"


def test_the_naive_heal_ends_in_the_same_adapter() -> None:
    lm = tiny_lm()
    texts = sampled_texts(lm, 3, 12)
    config = HealConfig(
        epochs=4, batch_size=3, rank=2, tau=0.0, warmup_share=0.0, validation_share=0.0
    )
    ours = heal(lm, texts, config, seed=1)
    naive = train_naively(lm, texts, config, seed=1)
    assert [s.loss for s in ours.steps] == pytest.approx(naive.losses, abs=1e-5)
    assert ours.steps[-1].divergence_max > 0  # the barrier did pull
    found = heal_benchmark.differences(dict(ours.adapter.tensors), naive.tensors)
    assert found.relative < 1e-2


def test_adapters_of_other_modules_are_not_compared() -> None:
    one = {"a.lora_B.weight": torch.ones(1)}
    with pytest.raises(ValueError, match="differ in names"):
        heal_benchmark.differences(one, {})


@pytest.mark.skipif(trl_missing() is not None, reason="TRL is not installed")
def test_trl_trains_a_copy() -> None:
    lm = tiny_lm()
    texts = sampled_texts(lm, 2, 8)
    train_with_trl(lm, texts, HealConfig(epochs=1, rank=2), seed=0)
    assert not any("lora" in name for name in lm.model.state_dict())


def test_samples_have_their_full_length() -> None:
    lm = tiny_lm()
    assert {len(t.completion) for t in sampled_texts(lm, 3, 9)} == {9}
    assert endless(lm).patches is lm.patches


def test_the_heal_step_at_a_wide_vocabulary() -> None:
    lm = memory.build_wide(512, torch.device("cpu"))
    texts = memory.make_texts(512, 2, 6)

    def train(lm: object, texts: object, config: object) -> object:
        return heal(lm, texts, config, seed=0)  # type: ignore[arg-type]

    above, timing = memory.step_peak(lm, texts, memory.step_config(2), train)
    assert above < 1
    assert timing.best > 0


def test_help_imports_nothing_heavy() -> None:
    assert not {"torch", "transformers"} & startup.imported_by(["--help"])

"""Rivals without training on a tiny model: which are measured, what is shared, what they reach."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean
from typing import Any

import pytest
import torch

from steer_heal_love.inputs.axes import load_contexts
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.patches.contrast import contrasting
from steer_heal_love.lm.patches.hooks import steering
from steer_heal_love.lm.reading.chat import encode_chat, encode_text, under_personas
from steer_heal_love.loop.context import RunContext, extract, fixed_seed
from steer_heal_love.loop.iterative import run_loop
from steer_heal_love.loop.measure import get_reference
from steer_heal_love.loop.rivals.front import list_few, list_grid, measure_front, measure_rival
from steer_heal_love.loop.rivals.random_direction import DRAWS, draw_alike
from steer_heal_love.records import BARE, Direction, NoPieces, Pieces, Rival, RoundRecord
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runner.base_cache import cache_baselines
from steer_heal_love.stages.evaluate import EvaluateConfig
from steer_heal_love.stages.instruments.answer_pairs import measure_trait
from tiny import random_ids, tiny_lm
from tiny_run import config_data, small_axis

CONTEXTS = load_contexts()[:6]
FRONT = {
    "front": [0.5, 1.0],
    "front_temperatures": [1.0, 0.5],
    "front_contrasts": [2.0, 4.0],
    "front_samples": 5,
    "relevance_others": 1,
}


def settings(seed: int = 0, **evaluate: Any) -> RunConfig:
    return RunConfig.model_validate(config_data(seed=seed, rounds=1, evaluate=FRONT | evaluate))


def make_run(config: RunConfig, pieces: Pieces | None = None) -> tuple[RunContext, Direction]:
    run = RunContext(
        tiny_lm(), small_axis(), CONTEXTS, config, pieces or NoPieces(), lambda *_: None
    )
    return run, extract(run, 0)


def cached(config: RunConfig, hits: list[str]) -> Pieces:
    return cache_baselines(
        NoPieces(), tiny_lm(), small_axis(), CONTEXTS, config, on_hit=hits.append
    )


def test_the_grid_and_the_few() -> None:
    usual = EvaluateConfig()
    grid = list_grid(usual)
    assert len(grid) == len(set(grid)) == 1 + 4 * 3 + 4 + 1
    assert list_few(usual) == [
        BARE,
        Rival("steering", 1.5, 0.7),
        Rival("steering", 1.0, 0.85),
        Rival("contrast", 8.0),
        Rival("contrast", 4.0),
    ]
    assert set(list_few(usual)) < set(grid)
    none = EvaluateConfig(front=())
    assert list_grid(none) == list_few(none) == []
    with pytest.raises(ValueError, match="front_temperatures"):
        EvaluateConfig(front_temperatures=(0.0,))


def test_a_run_that_finds_none_measures_few_and_says_which_it_did_not() -> None:
    run, direction = make_run(settings())
    front = measure_front(run, direction)
    assert {rival for rival, _ in front} == set(list_few(run.config.evaluate))
    [note] = run.notes
    assert note.startswith(
        "4 of 7 rivals without training were not measured (steering κ 0.5 at T 0.5, "
    )
    assert "random directions κ 1" in note
    for rival, measured in front:
        assert len(measured.items["perplexity"]) == 5
        assert {"trait_nats", "perplexity", "relevance", "distinct_2"} <= set(measured.figures)
        assert (measured.value("perplexity_ratio") == 1) == (rival == BARE)
    assert not run.lm.patches


def test_what_one_run_measured_another_finds_whatever_its_seed() -> None:
    hits: list[str] = []
    whole, direction = make_run(settings(front_measure="all"), cached(settings(), hits))
    measured = measure_front(whole, direction)
    assert [rival for rival, _ in measured] == list_grid(whole.config.evaluate)
    assert whole.notes == []
    hits.clear()
    other = settings(seed=1)
    run, again = make_run(other, cached(other, hits))
    assert torch.equal(again.vectors, direction.vectors)
    assert measure_front(run, again) == measured
    assert sum("rival-" in name for name in hits) >= len(measured)
    hits.clear()
    run, _ = make_run(other, cached(other, hits))  # another direction, other rivals
    turned = replace(direction, vectors=-direction.vectors)
    assert len(measure_front(run, turned)) == len(list_few(other.evaluate))


def test_the_choice_is_the_runs_own_when_it_is_resumed() -> None:
    class Kept:
        def __init__(self) -> None:
            self.values: dict[str, Any] = {}

        def do(self, name: str, compute: Any) -> Any:
            if name not in self.values:
                self.values[name] = compute()
            return self.values[name]

        def forget(self, prefix: str) -> None:
            raise AssertionError(prefix)

    kept = Kept()
    run, direction = make_run(settings(), kept)
    first = measure_front(run, direction)
    for rival in list_grid(run.config.evaluate):
        measure_rival(run, rival, direction)  # as another run might have, into the cache
    run, direction = make_run(settings(), kept)
    assert measure_front(run, direction) == first


def test_a_temperature_buys_no_trait_at_bases_entropy() -> None:
    run, direction = make_run(settings())
    warm, cold = (measure_rival(run, Rival("steering", 1.0, t), direction) for t in (1.0, 0.5))
    assert cold.value("trait_nats") == pytest.approx(warm.value("trait_nats"), abs=1e-3)
    assert cold.value("trait_raw_nats") > 1.5 * warm.value("trait_raw_nats") > 0
    assert cold.items["perplexity"] != warm.items["perplexity"]


def test_random_directions_have_the_norms_and_their_trait_is_the_mean_of_five() -> None:
    run, direction = make_run(settings())
    one, other = (draw_alike(direction, seed) for seed in (1, 2))
    assert torch.allclose(one.vectors.norm(dim=-1), direction.vectors.norm(dim=-1))
    assert torch.equal(one.vectors, draw_alike(direction, 1).vectors)
    assert not torch.equal(one.vectors, other.vectors)
    measured = measure_rival(run, Rival("random", 1.0), direction)
    assert measured == measure_rival(make_run(settings(seed=3))[0], Rival("random", 1.0), direction)
    reached = []
    seed = fixed_seed(run, "random direction")
    for k in range(DRAWS):
        with steering(run.lm, draw_alike(direction, seed + k), 1.0):
            reached.append(measure_trait(run.lm, run.axis, get_reference(run)).items["trait_nats"])
    expected = [fmean(values) for values in zip(*reached, strict=True)]
    assert measured.items["trait_nats"] == pytest.approx(expected, abs=1e-6)


def naive_pair_values(lm: LanguageModel, gamma: float, temperature: float) -> list[float]:
    """Per pair, from whole passes in float64 and the formula written out."""
    axis, model = small_axis(), lm.model.double()
    stops = torch.tensor(sorted(lm.stop_ids))

    def mean_log_p(question: str, answer: str) -> float:
        chat, ids = encode_chat(lm, question), encode_text(lm, answer)
        ways = [chat, *under_personas(lm, chat, (axis.pos_system, axis.neg_system))]
        plain, pos, neg = (
            model(torch.tensor([[*way, *ids]])).logits[0, len(way) - 1 : -1].log_softmax(-1)
            for way in ways
        )
        p0 = plain.exp()
        weights = p0 * (gamma / 2 * (pos - neg)).clamp(-4, 4).exp()
        weights[:, stops] = 0
        left = 1 - p0[:, stops].sum(-1, keepdim=True)
        tilted = weights / weights.sum(-1, keepdim=True) * left
        tilted[:, stops] = p0[:, stops]
        log_p = (tilted.log() / temperature).log_softmax(-1)
        return float(log_p.gather(1, torch.tensor(ids)[:, None]).mean())

    with torch.inference_mode():
        return [
            mean_log_p(p.question, p.trait) - mean_log_p(p.question, p.other) for p in axis.pairs
        ]


def test_the_trait_under_a_contrast_is_that_of_the_formula() -> None:
    run, direction = make_run(settings())
    measured = measure_rival(run, Rival("contrast", 6.0), direction)
    with contrasting(run.lm, run.axis, 6.0):
        alone = measure_trait(run.lm, run.axis, get_reference(run))
    assert measured.items["trait_nats"] == alone.items["trait_nats"]
    matched = measured.value("temperature_match")
    assert matched != 1
    raw = naive_pair_values(run.lm, 6.0, 1.0)
    at_match = naive_pair_values(run.lm, 6.0, matched)
    assert measured.items["trait_raw_nats"] == pytest.approx(raw, abs=1e-5)
    assert measured.items["trait_nats"] == pytest.approx(at_match, abs=1e-5)


def test_the_loop_hands_them_on() -> None:
    lm = tiny_lm()
    ids = torch.tensor(random_ids(11, 11))
    before = lm.model(ids).logits
    _, record = run_loop(lm, small_axis(), CONTEXTS, settings())
    assert isinstance(record, RoundRecord)
    assert {rival for rival, _ in record.front} == set(list_few(settings().evaluate))
    assert len(record.notes) >= 1
    assert torch.equal(lm.model(ids).logits, before)

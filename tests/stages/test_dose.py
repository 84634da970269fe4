"""The search for κ: where it settles, what it pools and spends, and how it starves."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace

import pytest
from pydantic import ValidationError

from judgements import judged
from steer_heal_love.errors import StarvedRound
from steer_heal_love.records import Judged
from steer_heal_love.stages.dose import (
    DoseConfig,
    coherent_share,
    search_dose,
    starved_message,
    warm_start,
)
from steer_heal_love.stages.heal import HealConfig

SMALL = DoseConfig(
    kappa_start=2.0,
    kappa_min=0.2,
    decay=0.5,
    probe_batch=4,
    batch=8,
    n_keep=10,
    min_kept=3,
    max_generated=100,
    top_share=1.0,
)


class Model:
    """Says which completions survive at which dose, and remembers what it was asked."""

    def __init__(self, coherent_up_to: float, reason: str = "perplexity") -> None:
        self.limit, self.reason = coherent_up_to, reason
        self.calls: list[tuple[float, int, int]] = []

    def __call__(self, kappa: float, count: int, first: int) -> list[Judged]:
        self.calls.append((kappa, count, first))
        reasons = () if kappa <= self.limit else (self.reason,)
        return [judged(i, *reasons, kappa=kappa) for i in range(first, first + count)]


def test_a_dose_that_is_coherent_at_once_is_kept() -> None:
    model = Model(coherent_up_to=3.0)
    collected = search_dose(model, SMALL)
    assert collected.kappa == 2.0
    assert model.calls == [(2.0, 4, 0), (2.0, 8, 4)]
    assert len(collected.kept) == SMALL.n_keep
    assert len(collected.judged) == 12


def test_the_dose_walks_down_until_enough_is_coherent() -> None:
    model = Model(coherent_up_to=0.6)
    collected = search_dose(model, SMALL)
    assert collected.kappa == 0.5
    assert [kappa for kappa, _, _ in model.calls] == [2.0, 1.0, 0.5, 0.5]
    assert [first for _, _, first in model.calls] == [0, 4, 8, 12]  # no draw is made twice
    assert Counter(j.kept for j in collected.judged) == {True: 10, False: 10}


def test_a_start_may_be_given() -> None:
    model = Model(coherent_up_to=3.0)
    assert search_dose(model, SMALL, 1.25).kappa == 1.25
    assert model.calls[0][0] == 1.25


def test_survivors_of_every_dose_are_banked() -> None:
    def sample(kappa: float, count: int, first: int) -> list[Judged]:
        return [
            judged(i, *(() if kappa < 1 or i % 4 == 0 else ("loop",)), kappa=kappa)
            for i in range(first, first + count)
        ]

    collected = search_dose(sample, SMALL)
    assert collected.kappa == 0.5
    assert {j.completion.kappa for j in collected.kept} == {2.0, 1.0, 0.5}


def test_a_bisection_finds_the_highest_dose_that_is_coherent() -> None:
    model = Model(coherent_up_to=0.6)
    config = SMALL.model_copy(update={"search": "bisect", "bisect_step": 2.0})
    collected = search_dose(model, config)
    doses = [round(kappa, 3) for kappa, _, _ in model.calls]
    assert doses[:5] == [2.0, 1.0, 0.5, 0.707, 0.595]
    assert collected.kappa == pytest.approx(0.595, abs=1e-3)
    assert set(doses[5:]) == {round(collected.kappa, 3)}  # the rest is drawn at the settled dose
    assert collected.effort.search == "bisect"
    assert collected.effort.doses == tuple(kappa for kappa, _, _ in model.calls[:5])


def test_a_bisection_from_a_good_guess_is_short_and_never_above_the_start() -> None:
    config = SMALL.model_copy(update={"search": "bisect", "bisect_tolerance": 0.5})
    near = search_dose(Model(coherent_up_to=0.6), config, 0.5)
    assert [round(k, 3) for k in near.effort.doses] == [0.5, 0.8]
    assert near.kappa == 0.5
    assert search_dose(Model(coherent_up_to=9.0), config, 1.5).kappa == SMALL.kappa_start


def test_what_a_search_spends_is_counted() -> None:
    """Each completion here has two tokens and its end."""
    walk = search_dose(Model(coherent_up_to=0.6), SMALL)
    assert walk.effort.doses == (2.0, 1.0, 0.5)
    assert walk.effort.search_tokens == 3 * 4 * 3
    assert walk.effort.tokens == 3 * len(walk.judged) == 3 * 20


def test_tokens_that_were_rewound_are_counted_too() -> None:
    model = Model(coherent_up_to=3.0)

    def sample(kappa: float, count: int, first: int) -> list[Judged]:
        rows = model(kappa, count, first)
        return [replace(j, completion=replace(j.completion, drawn=7, rewinds=1)) for j in rows]

    assert search_dose(sample, SMALL).effort.tokens == 7 * 12


def test_more_survive_than_are_trained_on_where_a_share_is_asked_for() -> None:
    config = SMALL.model_copy(update={"top_share": 0.5})
    collected = search_dose(Model(coherent_up_to=3.0), config)
    assert len(collected.kept) == SMALL.n_keep
    fates = Counter(j.reasons for j in collected.judged)
    assert fates[("surplus",)] >= SMALL.n_keep


def test_near_duplicates_are_not_counted_as_survivors() -> None:
    def sample(kappa: float, count: int, first: int) -> list[Judged]:
        every = range(first, first + count)
        return [judged(i, text="the same" if i % 2 else None, kappa=kappa) for i in every]

    collected = search_dose(sample, SMALL)
    assert len(collected.kept) == SMALL.n_keep
    assert sum("duplicate" in j.reasons for j in collected.judged) >= 5


@pytest.mark.parametrize("seed", range(5))
def test_by_default_training_sees_64_different_prompts_at_least(seed: int) -> None:
    """A third of the texts survive, as on the embedded model; a tenth is held out afterwards."""
    config, rng = DoseConfig(), random.Random(seed)

    def sample(kappa: float, count: int, first: int) -> list[Judged]:
        every = range(first, first + count)
        reasons = [() if rng.random() < 0.33 else ("trait",) for _ in every]
        return [
            judged(i, *r, prompt=f"prompt {i % config.min_prompts}", trait=rng.random())
            for i, r in zip(every, reasons, strict=True)
        ]

    kept = search_dose(sample, config).kept
    different = {j.completion.prompt for j in kept}
    held_out = math.ceil(HealConfig().validation_share * len(kept))
    assert len(different) - held_out >= 64


def test_the_next_round_starts_near_the_last_one() -> None:
    assert warm_start(0.5, SMALL) == 1.0  # a step above: the walk goes down only
    assert warm_start(2.0, SMALL) == SMALL.kappa_start
    assert warm_start(0.5, SMALL.model_copy(update={"search": "bisect"})) == 0.5


def test_the_trait_floor_does_not_lower_the_dose() -> None:
    model = Model(coherent_up_to=0.0, reason="trait")
    config = SMALL.model_copy(update={"max_generated": 20})
    with pytest.raises(StarvedRound, match="trait 20"):
        search_dose(model, config)
    assert {kappa for kappa, _, _ in model.calls} == {2.0}


def test_the_cap_on_work_is_hard() -> None:
    model = Model(coherent_up_to=3.0)
    config = SMALL.model_copy(update={"max_generated": 7})
    collected = search_dose(model, config)
    assert len(collected.judged) == 7
    assert model.calls == [(2.0, 4, 0), (2.0, 3, 4)]


def test_a_cap_below_one_probe_batch_holds_too() -> None:
    model = Model(coherent_up_to=0.0)
    with pytest.raises(StarvedRound):
        search_dose(model, SMALL.model_copy(update={"max_generated": 3}))
    assert model.calls == [(2.0, 3, 0)]


def test_starving_says_which_filter_dropped_how_many() -> None:
    with pytest.raises(StarvedRound) as caught:
        search_dose(Model(coherent_up_to=0.0), SMALL)
    text = str(caught.value)
    assert "0 of 100 completions kept" in text
    assert "at least 3" in text
    assert "dose 0.2" in text
    assert "perplexity 100" in text
    assert "--dose.kappa-min" in text
    assert "\n" not in text


def test_the_starved_message_names_the_worst_filter_first() -> None:
    pool = [judged(0, "loop"), judged(1, "loop", "tail"), judged(2)]
    text = starved_message(pool, 1, 0.1, SMALL)
    assert "dropped by loop 2, tail 1" in text
    assert "dropped by none" in starved_message([], 0, 0.1, SMALL)


def test_the_coherent_share_leaves_the_trait_aside_but_not_relevance() -> None:
    rows = [judged(0), judged(1, "trait"), judged(2, "trait", "loop"), judged(3, "loop")]
    assert coherent_share(rows) == 0.5
    assert coherent_share([*rows, judged(4, "irrelevant")]) == 0.4
    assert coherent_share([]) == 0.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kappa_min": 3.0}, "kappa_min must not exceed kappa_start"),
        ({"min_kept": 73}, "min_kept must not exceed n_keep"),
        ({"decay": 1.0}, "less than 1"),
        ({"kappa_start": float("inf")}, "finite"),
        ({"kapa": 1.0}, "not permitted"),
    ],
)
def test_settings_out_of_bounds_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DoseConfig(**changes)  # type: ignore[arg-type]


def test_without_steering_there_is_no_dose_to_search_for() -> None:
    model = Model(coherent_up_to=0.5)
    collected = search_dose(model, SMALL, 0.0)
    assert (collected.kappa, collected.effort.doses) == (0.0, ())
    assert {kappa for kappa, _, _ in model.calls} == {0.0}
    assert len(collected.kept) == SMALL.n_keep


def test_a_round_that_starves_without_steering_does_not_speak_of_a_dose() -> None:
    with pytest.raises(StarvedRound) as starved:
        search_dose(Model(coherent_up_to=-1.0), SMALL, 0.0)
    assert "without steering" in str(starved.value)
    assert "dose 0" not in str(starved.value)
    assert "kappa-min" not in str(starved.value)


@pytest.mark.parametrize(
    ("rounds", "steers"), [("all", [True] * 3), (1, [True, False, False]), (0, [False] * 3)]
)
def test_steered_rounds_are_counted_from_the_first(rounds: int | str, steers: list[bool]) -> None:
    config = DoseConfig.model_validate({"steered_rounds": rounds})
    assert [config.steers(r) for r in range(3)] == steers

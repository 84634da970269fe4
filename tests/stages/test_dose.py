"""The walk over κ: where it settles, what it banks, what it selects and how it starves."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from steer_heal_love.errors import StarvedRound
from steer_heal_love.records import Completion, Judged, Scores
from steer_heal_love.stages.dose import (
    DoseConfig,
    coherent_share,
    select,
    starved_message,
    walk_dose,
)

SMALL = DoseConfig(
    kappa_start=2.0,
    kappa_min=0.2,
    decay=0.5,
    probe_batch=4,
    batch=8,
    n_keep=10,
    min_kept=3,
    max_generated=100,
)


def scores(trait: float | None = 0.0) -> Scores:
    return Scores(
        perplexity=5.0,
        tail_perplexity=5.0,
        window_perplexity=5.0,
        word_repetition=0.0,
        char_run=0.0,
        compression=1.0,
        narrates=False,
        refuses=False,
        empty=False,
        truncated=False,
        trait_nats=trait,
    )


def judged(
    index: int = 0,
    *reasons: str,
    prompt: str | None = None,
    text: str | None = None,
    trait: float | None = 0.0,
    kappa: float = 1.0,
) -> Judged:
    prompt = f"prompt {index}" if prompt is None else prompt
    text = f"answer number {index} of its own {index}" if text is None else text
    completion = Completion(prompt, text, (1, 2), 2, kappa, 0, index)
    return Judged(completion, scores(trait), reasons)


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
    harvest = walk_dose(model, SMALL)
    assert harvest.kappa == 2.0
    assert model.calls == [(2.0, 4, 0), (2.0, 8, 4)]
    assert len(harvest.kept) == SMALL.n_keep
    assert len(harvest.judged) == 12


def test_the_dose_walks_down_until_enough_is_coherent() -> None:
    model = Model(coherent_up_to=0.6)
    harvest = walk_dose(model, SMALL)
    assert harvest.kappa == 0.5
    assert [kappa for kappa, _, _ in model.calls] == [2.0, 1.0, 0.5, 0.5]
    assert [first for _, _, first in model.calls] == [0, 4, 8, 12]  # no draw is made twice
    assert Counter(j.kept for j in harvest.judged) == {True: 10, False: 10}


def test_a_start_may_be_given() -> None:
    model = Model(coherent_up_to=3.0)
    assert walk_dose(model, SMALL, 1.25).kappa == 1.25
    assert model.calls[0][0] == 1.25


def test_survivors_of_every_dose_are_banked() -> None:
    def sample(kappa: float, count: int, first: int) -> list[Judged]:
        return [
            judged(i, *(() if kappa < 1 or i % 4 == 0 else ("loop",)), kappa=kappa)
            for i in range(first, first + count)
        ]

    harvest = walk_dose(sample, SMALL)
    assert harvest.kappa == 0.5
    assert {j.completion.kappa for j in harvest.kept} == {2.0, 1.0, 0.5}


def test_the_trait_floor_does_not_lower_the_dose() -> None:
    model = Model(coherent_up_to=0.0, reason="trait")
    config = SMALL.model_copy(update={"max_generated": 20})
    with pytest.raises(StarvedRound, match="trait 20"):
        walk_dose(model, config)
    assert {kappa for kappa, _, _ in model.calls} == {2.0}


def test_the_cap_on_work_is_hard() -> None:
    model = Model(coherent_up_to=3.0)
    config = SMALL.model_copy(update={"max_generated": 7})
    harvest = walk_dose(model, config)
    assert len(harvest.judged) == 7
    assert model.calls == [(2.0, 4, 0), (2.0, 3, 4)]


def test_a_cap_below_one_probe_batch_holds_too() -> None:
    model = Model(coherent_up_to=0.0)
    with pytest.raises(StarvedRound):
        walk_dose(model, SMALL.model_copy(update={"max_generated": 3}))
    assert model.calls == [(2.0, 3, 0)]


def test_starving_says_which_filter_dropped_how_many() -> None:
    with pytest.raises(StarvedRound) as caught:
        walk_dose(Model(coherent_up_to=0.0), SMALL)
    text = str(caught.value)
    assert "0 of 100 completions kept" in text
    assert "at least 3" in text
    assert "dose 0.2" in text
    assert "perplexity 100" in text
    assert "--dose.kappa-min" in text
    assert "\n" not in text


def test_the_starved_message_names_the_worst_filter_first() -> None:
    bank = [judged(0, "loop"), judged(1, "loop", "tail"), judged(2)]
    text = starved_message(bank, 1, 0.1, SMALL)
    assert "dropped by loop 2, tail 1" in text
    assert "dropped by none" in starved_message([], 0, 0.1, SMALL)


def test_the_coherent_share_leaves_the_trait_aside() -> None:
    rows = [judged(0), judged(1, "trait"), judged(2, "trait", "loop"), judged(3, "loop")]
    assert coherent_share(rows) == 0.5
    assert coherent_share([]) == 0.0


def test_the_strongest_survivors_are_selected() -> None:
    rows = [judged(i, trait=float(i)) for i in range(6)] + [judged(9, "loop", trait=99.0)]
    chosen = select(rows, 3)
    assert [j.completion.index for j in chosen if j.kept] == [3, 4, 5]
    assert [j.reasons for j in chosen[:3]] == [("surplus",)] * 3
    assert chosen[-1].reasons == ("loop",)


def test_every_prompt_gives_its_best_before_any_gives_its_second() -> None:
    rows = [judged(i, prompt="easy", trait=10.0 - i) for i in range(4)]
    rows += [judged(8, prompt="hard", trait=-5.0)]
    kept = [j.completion.index for j in select(rows, 3) if j.kept]
    assert kept == [0, 1, 8]


def test_a_score_that_is_missing_counts_as_zero() -> None:
    rows = [judged(0, trait=None), judged(1, trait=-1.0), judged(2, trait=1.0)]
    assert [j.completion.index for j in select(rows, 2) if j.kept] == [0, 2]


def test_a_text_is_learnt_once() -> None:
    same = "I love you and I always will"
    rows = [
        judged(0, text=same, prompt="a"),
        judged(1, text=same.upper(), prompt="b"),  # another prompt, the same words
        judged(2, text=same + " today", prompt="a"),  # nearly the same, to the same prompt
        judged(3, text=same + " today", prompt="c"),  # nearly the same, to another prompt
        judged(4, "loop", text=same),
    ]
    fates = [j.reasons for j in select(rows, 10)]
    assert fates == [(), ("duplicate",), ("duplicate",), (), ("loop",)]


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.floats(-9, 9), st.booleans(), st.text("xyz ", max_size=9)
        ),
        max_size=20,
    ),
    st.integers(2, 8),
)
def test_selection_keeps_order_and_number(
    rows: list[tuple[str, float, bool, str]], n_keep: int
) -> None:
    given_rows = [
        judged(i, *(() if kept else ("loop",)), prompt=prompt, trait=trait, text=text)
        for i, (prompt, trait, kept, text) in enumerate(rows)
    ]
    chosen = select(given_rows, n_keep)
    assert [j.completion for j in chosen] == [j.completion for j in given_rows]
    survivors = sum(j.reasons not in (("loop",), ("duplicate",)) for j in chosen)
    assert sum(j.kept for j in chosen) == min(n_keep, survivors)
    assert all(j.reasons == ("loop",) for j in chosen if not rows[j.completion.index][2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kappa_min": 3.0}, "kappa_min must not exceed kappa_start"),
        ({"min_kept": 65}, "min_kept must not exceed n_keep"),
        ({"decay": 1.0}, "less than 1"),
        ({"kappa_start": float("inf")}, "finite"),
        ({"kapa": 1.0}, "not permitted"),
    ],
)
def test_settings_out_of_bounds_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DoseConfig(**changes)  # type: ignore[arg-type]

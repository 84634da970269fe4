"""What the dose stage is made of: the choice among survivors, and how a dose is given."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from judgements import judged
from steer_heal_love.lm.patches.hooks import Steering
from steer_heal_love.records import Ceilings, Limits
from steer_heal_love.stages.dosing.application import DosingConfig
from steer_heal_love.stages.dosing.selection import SelectBy, mark_duplicates, select

LIMITS = Limits(Ceilings(9, 9, 90, 1, 9), Ceilings(8, 8, math.exp(3.5), 1, 8), 0.1)


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


def test_by_order_the_first_survivors_are_taken_whatever_they_carry() -> None:
    rows = [judged(0, "loop"), judged(1, trait=-5.0), judged(2, trait=0.0), judged(3, trait=9.0)]
    assert [j.completion.index for j in select(rows, 2, "order") if j.kept] == [1, 2]
    assert select(rows, 2, "order")[3].reasons == ("surplus",)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(-9, 9)), min_size=1, max_size=12))
def test_selection_by_trait_carries_at_least_as_much_on_one_prompt(
    rows: list[tuple[str, float]],
) -> None:
    """Where no prompt has to be balanced against another, no choice has a higher mean."""
    given_rows = [judged(i, prompt="one", trait=trait) for i, (_, trait) in enumerate(rows)]

    def total(by: SelectBy) -> float:
        return sum(j.scores.trait_nats or 0.0 for j in select(given_rows, 3, by) if j.kept)

    assert total("trait") >= total("order") - 1e-9


def test_duplicates_are_marked_once_and_for_all() -> None:
    rows = [judged(i, text="again and again", prompt=str(i % 2)) for i in range(4)]
    marked = mark_duplicates(rows)
    assert [j.reasons for j in marked] == [(), *[("duplicate",)] * 3]
    assert mark_duplicates(marked) == marked


def test_a_constant_dose_asks_nothing_of_generation() -> None:
    assert DosingConfig().dosing(Steering(1.0), 1.0, LIMITS) is None
    assert DosingConfig(gate="relu", operator="rotate").dosing(Steering(1.0), 1.0, LIMITS) is None


def test_a_schedule_and_its_watch_reach_generation() -> None:
    config = DosingConfig(schedule="linear", schedule_length=8, schedule_floor=0.5, backtrack=True)
    patch = Steering(1.5)
    dosing = config.dosing(patch, 1.5, LIMITS)
    assert dosing is not None
    assert (dosing.steering, dosing.kappa) == (patch, 1.5)
    assert (dosing.schedule.shape, dosing.schedule.length, dosing.schedule.floor) == (
        "linear",
        8,
        0.5,
    )
    assert dosing.backtrack is not None
    assert dosing.backtrack.spike_nats == pytest.approx(3.5)  # the filter's own limit
    assert dosing.backtrack.max_rewinds == config.max_rewinds


def test_a_spike_may_be_set_and_without_limits_nothing_is_watched() -> None:
    config = DosingConfig(backtrack=True, spike_nats=2.0)
    dosing = config.dosing(Steering(1.0), 1.0, LIMITS)
    assert dosing is not None
    assert dosing.backtrack is not None
    assert dosing.backtrack.spike_nats == 2.0
    assert config.dosing(Steering(1.0), 1.0, None) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "exponential", "schedule_floor": 0.0}, "schedule_floor above 0"),
        ({"schedule": "cubic"}, "constant"),
        ({"schedule_floor": 1.5}, "less than or equal to 1"),
        ({"rewind_factor": 1.0}, "less than 1"),
        ({"gates": "relu"}, "not permitted"),
    ],
)
def test_doses_that_cannot_be_given_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DosingConfig(**changes)  # type: ignore[arg-type]

"""Conditions against base and against raw steering, on runs whose answers are known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import FRONT, made_run, measured
from results.runs.conditions import (
    base_of,
    capability,
    coherence,
    healed_at,
    of_same_seed,
    prompted,
    quotient,
    ratio,
    share_excess,
    trait_shift,
)
from results.runs.steering import beside_steering

HEALED = healed_at(0)


def naive_steering(times: float) -> float:
    """Raw steering's shift at a perplexity, straight in its logarithm."""
    along = [(1.0, 0.0), *((t, shift) for _, shift, t in FRONT)]
    return float(np.interp(math.log(times), [math.log(t) for t, _ in along], [s for _, s in along]))


@settings(max_examples=25)
@given(st.floats(1.01, 1.99), st.floats(-0.5, 1.5))
def test_steering_is_met_on_the_line_through_its_doses(times: float, shift: float) -> None:
    found = beside_steering([made_run(path=((shift, times),))], HEALED)
    assert found is not None
    assert found.shift.value == pytest.approx(naive_steering(times), abs=1e-6)
    assert found.margin.value == pytest.approx(shift - naive_steering(times), abs=1e-6)
    assert found.reach == ""


def test_a_model_off_the_front_is_held_against_its_end_and_the_page_says_so() -> None:
    runs = [made_run(0, ((0.5, 0.8),)), made_run(1, ((0.5, 1.2),)), made_run(2, ((0.5, 3.0),))]
    below, within, beyond = (beside_steering([run], HEALED) for run in runs)
    assert below is not None
    assert within is not None
    assert beyond is not None
    assert below.shift.value == pytest.approx(0.0, abs=1e-9)
    assert beyond.shift.value == pytest.approx(0.6, abs=1e-9)
    every = beside_steering(runs, HEALED)
    assert every is not None
    assert every.reach == "below every dose in 1 of 3, beyond every dose in 1 of 3"


def test_without_a_front_there_is_no_comparison() -> None:
    run = made_run()
    bare = replace(run, rounds=(replace(run.rounds[0], front=()),))
    assert beside_steering([bare], HEALED) is None


def test_conditions_are_compared_seed_by_seed() -> None:
    first = [made_run(s, ((0.5, 1.0 + s),)) for s in (1, 2)]
    second = [made_run(s, ((0.3, 2.0 + 2 * s),)) for s in (2, 1)]
    shift = trait_shift(first, HEALED, of_same_seed(second, HEALED))
    assert shift is not None
    assert shift.value == pytest.approx(0.2)
    found = quotient(first, second[::-1], HEALED, "perplexity")
    assert found is not None
    assert found.value == pytest.approx(0.5)


def test_shifts_are_against_base_and_against_another_condition() -> None:
    runs = [made_run(seed) for seed in range(3)]
    shift = trait_shift(runs, HEALED)
    assert shift is not None
    assert shift.value == pytest.approx(0.5)
    over = trait_shift(runs, HEALED, prompted)
    assert over is not None
    assert over.value == pytest.approx(0.5 - 0.1)
    assert trait_shift(runs, healed_at(4)) is None


def test_ratios_use_what_the_run_holds_and_else_the_two_figures() -> None:
    runs = [made_run(0, ((0.5, 1.2),)), made_run(1, ((0.5, 1.4),))]
    found, base = ratio(runs, HEALED, "perplexity"), ratio(runs, base_of, "perplexity")
    assert found is not None
    assert found.value == pytest.approx(1.3)
    assert base is not None
    assert base.value == 1.0
    distinct = ratio([made_run(relevance=0.5)], HEALED, "distinct_2")
    assert distinct is not None
    assert distinct.value == pytest.approx(0.5)
    assert ratio(runs, HEALED, "unknown") is None


def test_capability_is_the_geometric_mean_over_paragraphs() -> None:
    found = capability([made_run(capability=1.25)], HEALED)
    assert found is not None
    assert found.value == pytest.approx(1.25)


def test_loops_above_base_are_of_all_seeds_together() -> None:
    found = share_excess([made_run(s, loops=4) for s in range(3)], HEALED, "loop_share")
    assert found is not None
    assert found.value == pytest.approx(0.25)
    assert found.low > 0


@pytest.mark.parametrize(
    ("healed", "answer", "broken"),
    [
        (measured(0.5, 1.1), "yes", ()),
        (measured(0.5, 1.6), "no", ("perplexity",)),
        (measured(0.5, 1.0, relevance=0.5), "no", ("relevance",)),
        (measured(0.5, 1.0, loops=8), "no", ("loops",)),
    ],
)
def test_a_broken_model_is_told_by_what_broke(
    healed: object, answer: str, broken: tuple[str, ...]
) -> None:
    run = made_run()
    run = replace(run, rounds=(replace(run.rounds[0], healed=healed),))  # type: ignore[arg-type]
    found = coherence([run] * 3, HEALED)
    assert found == (answer, list(broken))

"""Whether an axis can be measured on a model, held against the answer pairs by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from steer_heal_love.checks.axis_validity import Validity, check_validity
from steer_heal_love.inputs.axes import load_axis
from steer_heal_love.maths.statistics import bootstrap_mean
from steer_heal_love.stages.instruments.answer_pairs import answer_pair_values
from steer_heal_love.verdicts.instruments import validity
from tiny import tiny_lm

AXIS = replace(load_axis("love"), pairs=load_axis("love").pairs[:6])


def test_it_is_the_paired_difference_of_the_persona_prompts() -> None:
    lm = tiny_lm()
    found = check_validity(lm, AXIS)
    pos = np.array(answer_pair_values(lm, AXIS, AXIS.pos_system))
    neg = np.array(answer_pair_values(lm, AXIS, AXIS.neg_system))
    np.testing.assert_allclose(found.pair_shifts, pos - neg)
    np.testing.assert_allclose(found.base_pairs, answer_pair_values(lm, AXIS))
    assert found.pos.value == pytest.approx(pos.mean())
    assert found.neg.value == pytest.approx(neg.mean())
    assert found.base.value == pytest.approx(np.mean(answer_pair_values(lm, AXIS)))
    interval = found.verdict.interval
    assert interval is not None
    assert found.blind == pytest.approx((interval.high - interval.low) / 2)
    assert found.verdict.answer == ("yes" if interval.low > 0 else "no")
    assert found.vignettes is None


def made_up(*shifts: float) -> Validity:
    """A validity whose pairs shift by these numbers."""
    mean = bootstrap_mean(shifts)
    verdict = validity(list(shifts), [0.0] * len(shifts))
    return Validity(mean, mean, mean, verdict, shifts, (0.0,) * len(shifts))


def leaning(shift: float, *base: float) -> Validity:
    """A validity with this between the personas on every pair, and these preferences of base."""
    shifts = [shift] * len(base)
    mean = bootstrap_mean(shifts)
    verdict = validity(shifts, [0.0] * len(base))
    return Validity(bootstrap_mean(base), mean, mean, verdict, tuple(shifts), base)


def test_what_goes_the_other_way_is_named_worst_first() -> None:
    found = made_up(0.5, -0.1, 0.3, -0.4, 0.2, 0.6)
    assert found.against() == [3, 1]
    assert made_up(0.1, 0.2, 0.3).against() == []


def test_a_base_that_prefers_one_side_leans_from_half_of_the_personas_distance_on() -> None:
    assert not leaning(0.2, 0.09, 0.09, 0.09).leans
    assert leaning(0.2, 0.11, 0.11, 0.11).leans
    assert leaning(0.2, -0.11, -0.11, -0.11).leans
    assert not leaning(0.2, 1.0, -1.0, 0.0).leans


@pytest.mark.parametrize("side", [1, -1])
def test_the_fewest_pairs_that_lean_most_are_to_be_dropped(side: int) -> None:
    one = [side * v for v in (0.1, 1.0, 0.0, 0.1, -0.1, 0.1, 2.0, 0.0)]
    found = leaning(0.2, *one)
    assert found.to_drop() == [6, 1]
    assert found.to_balance() == [6]
    assert leaning(0.2, 0.1, 0.1, 0.0, 0.0).to_drop() == []
    assert leaning(0.2, 0.1, 0.1, 0.0, 0.0).to_balance() == []


def test_pairs_that_all_lean_are_to_be_written_anew() -> None:
    found = leaning(0.2, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
    assert found.to_drop() == []
    assert found.to_balance() == [0, 1]
    without = [v * (-1 if i in (0, 1) else 1) for i, v in enumerate(found.base_pairs)]
    assert np.mean(without) <= 0.1


def test_clear_shifts_are_valid_and_mixed_ones_are_not() -> None:
    assert made_up(0.5, 0.4, 0.6, 0.5).verdict.answer == "yes"
    assert made_up(0.5, -0.4, 0.6, -0.5).verdict.answer == "no"


def test_the_vignettes_are_asked_where_the_axis_names_foundations() -> None:
    axis = load_axis("care-over-authority")
    small = replace(axis, pairs=axis.pairs[:2])
    found = check_validity(tiny_lm(), small, vignettes=True)
    assert axis.foundations
    assert found.vignettes is not None
    assert found.vignettes.answer in {"yes", "no"}
    without = check_validity(tiny_lm(), replace(small, foundations={}), vignettes=True)
    assert without.vignettes is None

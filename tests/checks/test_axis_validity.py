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
    return Validity(mean, mean, mean, verdict, shifts)


def test_what_goes_the_other_way_is_named_worst_first() -> None:
    found = made_up(0.5, -0.1, 0.3, -0.4, 0.2, 0.6)
    assert found.against() == [3, 1]
    assert made_up(0.1, 0.2, 0.3).against() == []


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

"""The forced choice is valid only where every foundation of the axis moves its own way."""

from __future__ import annotations

import json

import numpy as np
import pytest

from steer_heal_love.records import Baseline, Measurement
from steer_heal_love.verdicts import (
    INVALID,
    all_verdicts,
    forced_choice_validity,
    to_json,
)

N = 40
COMMON = np.random.default_rng(0).uniform(0.1, 0.3, N)
BOTH = {"care": 1, "authority": -1}


def prompted(care: float, authority: float, seed: int = 0) -> Measurement:
    """A persona prompt's vignettes, with these mean probabilities above what they share."""
    noise = np.random.default_rng(seed).normal(0, 0.02, (2, N))
    columns = {"p_care": COMMON + care + noise[0], "p_authority": COMMON + authority + noise[1]}
    return Measurement({}, {k: tuple(map(float, v)) for k, v in columns.items()})


POS, NEG = prompted(0.2, 0.1, 1), prompted(0.1, 0.2, 2)


def test_every_foundation_must_move_its_own_way() -> None:
    found = forced_choice_validity(POS, NEG, BOTH)
    assert found is not None
    assert found.answer == "yes"
    assert found.figures["care_shift"] == pytest.approx(0.1, abs=0.02)
    assert found.figures["authority_shift"] == pytest.approx(-0.1, abs=0.02)
    assert found.figures["care_shift_low"] < 0.1 < found.figures["care_shift_high"] + 0.02
    assert "p(care) +0.1" in found.words
    assert "should fall: it does. Valid." in found.words
    assert "care up, authority down" in found.rule


@pytest.mark.parametrize("care", [0.1, 0.0], ids=["still", "backwards"])
def test_one_that_does_not_is_enough_for_no(care: float) -> None:
    found = forced_choice_validity(prompted(care, 0.1, 1), NEG, BOTH)
    assert found is not None
    assert found.answer == "no"
    assert INVALID in found.words.lower()
    assert found.interval is not None
    assert found.interval.value == found.figures["care_shift"]  # the one that decides
    assert ("the other way" in found.words) == (care == 0.0)


def test_the_sign_turns_it_round() -> None:
    swapped = {name: -sign for name, sign in BOTH.items()}
    found = forced_choice_validity(POS, NEG, swapped)
    assert found is not None
    assert found.answer == "no"
    back = forced_choice_validity(NEG, POS, swapped)
    assert back is not None
    assert back.answer == "yes"


def test_too_few_vignettes_are_no_proof() -> None:
    thin = Measurement({}, {"p_care": POS.items["p_care"], "p_authority": (0.1, None)})
    found = forced_choice_validity(thin, NEG, BOTH)
    assert found is not None
    assert found.answer == "cannot tell"
    assert "authority not measured" in found.words
    still = forced_choice_validity(thin, NEG, {"care": -1, "authority": -1})
    assert still is not None
    assert still.answer == "no"  # one failure decides, whatever the rest


def test_not_measured_no_verdict() -> None:
    assert forced_choice_validity(POS, NEG, {}) is None
    assert forced_choice_validity(POS, NEG, {"kindness": 1}) is None
    assert forced_choice_validity(Measurement({}, {}), Measurement({}, {}), BOTH) is None


def test_one_verdict_among_all() -> None:
    found = all_verdicts(Baseline(POS, POS, NEG), [], foundations=BOTH)
    assert set(found) == {"valid.forced_choice"}
    json.dumps(to_json(found), allow_nan=False)
    assert all_verdicts(Baseline(POS, POS, NEG), []) == {}

"""Techniques at equal coherence, on lines that were made up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from results.dose.cells import Values
from results.dose.findings import Matched, find_knees
from results.dose.matched import at_dose, at_value, draw_prompts, interval, line_of
from results.dose.words import knee_words, say, winner_words

from steer_heal_love.records import Interval

PROMPTS = 16
NOISE = np.random.default_rng(0).normal(0, 0.05, PROMPTS)


def cell(trait: float, perplexity: float, *, broken: float = 0.0, seed: int = 0) -> Values:
    """Texts around these figures; the same prompts are above them in every cell."""
    noise = NOISE if seed == 0 else NOISE[::-1]
    bad = [float(i < broken * PROMPTS) for i in range(PROMPTS)]
    zero: list[float | None] = [0.0] * PROMPTS
    return {
        "persona_nats": (trait + noise).tolist(),
        "perplexity": (perplexity * np.exp(noise)).tolist(),
        "tail": (perplexity * np.exp(noise)).tolist(),
        "loop": zero,
        "broken": list(bad),
        "kept": [1 - b for b in bad],
        "dropped": zero,
        "rewinds": zero,
        "tokens": [10.0] * PROMPTS,
    }


DRAWN = draw_prompts(PROMPTS)
PLAIN = line_of(
    {
        0.0: [cell(0.0, 8.0)],
        0.5: [cell(0.2, 7.0, broken=0.25)],
        1.0: [cell(0.4, 14.0, broken=0.75)],
    },
    DRAWN,
)


def test_a_value_is_met_straight_between_two_doses() -> None:
    """Perplexity 7 → 14 is met at 7 · √2 halfway, in logarithms."""
    middle = np.full(len(DRAWN), float(PLAIN.values["perplexity"][1, 0]) * 2**0.5)
    there = at_value(PLAIN, "perplexity", middle)
    assert there["kappa"][0] == pytest.approx(0.75)
    assert there["trait"][0] == pytest.approx(0.3 + NOISE.mean())
    assert there["perplexity"][0] == pytest.approx(middle[0])
    assert there["broken"][0] == pytest.approx(0.5)


def test_what_is_never_reached_is_no_number() -> None:
    far = at_value(PLAIN, "perplexity", np.full(len(DRAWN), 100.0))
    assert interval(far["trait"]) is None
    assert interval(at_dose(PLAIN, 2.0)["trait"]) is None


@given(st.floats(0.0, 1.0))
def test_a_dose_and_the_value_there_are_the_same_place(share: float) -> None:
    """The broken share rises with the dose here, so each value has one dose."""
    kappa = 1e-3 + share * (1 - 2e-3)
    there = at_dose(PLAIN, kappa)
    again = at_value(PLAIN, "broken", there["broken"])
    assert again["kappa"][0] == pytest.approx(kappa, abs=1e-6)
    assert again["trait"][0] == pytest.approx(there["trait"][0], abs=1e-6)


def test_what_all_prompts_share_cancels_in_a_difference() -> None:
    """A technique with 0.1 more trait at every dose: the paired interval has next to no width."""
    better = line_of(
        {
            0.0: [cell(0.1, 8.0)],
            0.5: [cell(0.3, 7.0)],
            1.0: [cell(0.5, 14.0)],
        },
        DRAWN,
    )
    target = np.full(len(DRAWN), 10.0)
    gain = (
        at_value(better, "perplexity", target)["trait"]
        - (at_value(PLAIN, "perplexity", target)["trait"])
    )
    found = interval(gain)
    assert found is not None
    assert found.value == pytest.approx(0.1)
    assert found.high - found.low < 1e-6


def test_seeds_are_pooled_and_gaps_left_out() -> None:
    gone = cell(9.0, 8.0, seed=1)
    gone["persona_nats"] = [None] * PROMPTS
    line = line_of({0.0: [cell(0.0, 8.0), gone], 1.0: [cell(1.0, 8.0), cell(3.0, 8.0)]}, DRAWN)
    assert line.values["trait"][0, 0] == pytest.approx(NOISE.mean())
    assert line.values["trait"][1, 0] == pytest.approx(2.0 + NOISE.mean())


def test_the_knee_compares_kept_shares_at_equal_trait() -> None:
    """Twice as coherent at every dose, and as much trait: the kept share at the knee is higher."""
    careful = line_of(
        {
            0.0: [cell(0.0, 8.0)],
            0.5: [cell(0.2, 7.0, broken=0.125)],
            1.0: [cell(0.4, 14.0, broken=0.375)],
        },
        DRAWN,
    )
    knees = find_knees({"constant": PLAIN, "backtrack": careful}, target_keep=0.5)
    assert [knee.kappa for knee in knees] == pytest.approx([0.75, 1.0])
    knee = knees[0]
    assert knee.ratio is not None
    assert knee.ratio.value == pytest.approx(0.75 / 0.5)
    assert "multiplies the kept share by 1.50" in knee_words(knees)
    assert "| 1.00 |" in knee_words(knees)


def test_there_is_no_knee_where_everything_stays_coherent() -> None:
    line = line_of({0.0: [cell(0.0, 8.0)], 1.0: [cell(0.4, 9.0)]}, DRAWN)
    assert find_knees({"constant": line, "backtrack": line}, target_keep=0.5) == ()
    assert "do not reach the knee" in knee_words(())


def test_a_winner_is_named_only_where_its_interval_excludes_zero() -> None:
    def row(name: str, factor: float, gain: Interval | None) -> Matched:
        return Matched(name, factor, {}, gain)

    plain = row("constant", 1.25, Interval(0.0, 0.0, 0.0))
    near = row("linear", 1.25, Interval(0.1, -0.1, 0.3))
    never = row("prefix", 1.25, None)
    assert winner_words([plain, near, never]).startswith("No technique")
    far = row("rotate", 1.25, Interval(0.2, 0.1, 0.3))
    words = winner_words([plain, near, far])
    assert "rotate (at × 1.25)" in words
    assert "linear" not in words


def test_a_figure_is_said_with_its_interval_or_not_at_all() -> None:
    def words(value: float) -> str:
        return f"{value:.1f}"

    assert say(Interval(1.0, 0.5, 1.5), words) == "1.0 (0.5 to 1.5)"
    assert say(None, words) == "–"
    assert say(Interval(1.0, -np.inf, np.inf), words) == "1.0 (not in all resamples)"

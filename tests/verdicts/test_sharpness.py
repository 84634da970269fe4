"""Sharper, flatter or neither: by the whole interval, and what it does to coherence."""

from __future__ import annotations

import pytest

from steer_heal_love.records import Interval, Measurement
from steer_heal_love.verdicts import coherent, flattened, sharpened


def of(low: float, high: float, perplexity: float = 6.0) -> Measurement:
    """Half of the reference texts at one end, half at the other."""
    samples = tuple(perplexity + 0.01 * i for i in range(20))
    shifts = (low, high) * 16
    return Measurement(
        {"temperature_match": Interval(1.3, 1.3, 1.3)},
        {"entropy_shift_nats": shifts, "perplexity": samples, "loop_share": (0.0,) * 20},
    )


@pytest.mark.parametrize(
    ("low", "high", "sharp", "flat"),
    [
        (-1.2, -0.8, "yes", "no"),
        (-0.8, 0.46, "cannot tell", "no"),
        (-0.1, 0.1, "no", "no"),
        (-0.46, 0.8, "no", "cannot tell"),
        (0.2, 0.3, "no", "yes"),
        (-2.0, 2.0, "cannot tell", "cannot tell"),
    ],
)
def test_the_whole_interval_decides(low: float, high: float, sharp: str, flat: str) -> None:
    assert sharpened(of(low, high)).answer == sharp
    assert flattened(of(low, high)).answer == flat


def test_it_says_by_how_much_and_at_which_temperature() -> None:
    found = sharpened(of(-1.2, -0.8))
    assert found.words.startswith("Sharper than base: entropy −1.00 (−1.")
    assert "temperature 1.30" in found.words
    assert found.figures == {"entropy_shift_nats": pytest.approx(-1.0)}


def test_a_run_without_the_figure_cannot_tell() -> None:
    for verdict in (sharpened, flattened):
        found = verdict(Measurement({}, {}))
        assert (found.answer, found.words) == ("cannot tell", "Entropy was not measured.")


def test_perplexity_below_base_is_no_coherence_of_a_sharpened_model() -> None:
    base = of(0.0, 0.0)
    assert coherent(of(-0.1, 0.1, 4.0), base).answer == "yes"
    found = coherent(of(-1.2, -0.8, 4.0), base)
    assert found.answer == "cannot tell"
    assert "says nothing of a sharpened model" in found.words
    assert coherent(of(-1.2, -0.8, 60.0), base).answer == "no"

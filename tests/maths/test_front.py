"""The front of steering: interpolation by hand, and what its interval covers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from steer_heal_love.maths.front import FrontPoint, match_perplexity


def point(kappa: float, trait: float, perplexity: float) -> FrontPoint:
    return FrontPoint(kappa, (trait - 0.1, trait + 0.1), (perplexity,))


RISING = [point(0, 0.0, 4.0), point(1, 1.0, 8.0), point(2, 2.0, 32.0)]


@pytest.mark.parametrize(
    ("perplexity", "steering"),
    [(4.0, 0.0), (4 * math.sqrt(2), 0.5), (8.0, 1.0), (16.0, 1.5), (32.0, 2.0)],
)
def test_straight_in_log_perplexity(perplexity: float, steering: float) -> None:
    found = match_perplexity((1.4, 1.6), (perplexity,), RISING)
    assert found is not None
    assert found.bracketed
    assert found.steering == pytest.approx(steering)
    assert found.advantage.value == pytest.approx(1.5 - steering)


def test_the_order_of_the_points_does_not_matter() -> None:
    assert match_perplexity((1.4, 1.6), (10.0,), RISING) == match_perplexity(
        (1.4, 1.6), (10.0,), RISING[::-1]
    )


def test_a_dose_that_lowers_perplexity_counts() -> None:
    """At κ = 1 there is more trait at less perplexity than at κ = 0: that is the rival."""
    dip = [point(0, 0.2, 7.4), point(1, 0.6, 6.4), point(2, 1.0, 12.8)]
    at_base = match_perplexity((0.9, 1.1), (7.4,), dip)
    assert at_base is not None
    assert at_base.steering == pytest.approx(0.6 + 0.4 * math.log(7.4 / 6.4) / math.log(2))
    past_the_peak = match_perplexity((0.9, 1.1), (40.0,), [*dip, point(3, 0.1, 50.0)])
    assert past_the_peak is not None
    assert past_the_peak.steering == pytest.approx(1.0)


def test_outside_the_front() -> None:
    below = match_perplexity((1.4, 1.6), (2.0,), RISING)
    assert below is not None
    assert not below.bracketed
    assert below.steering == pytest.approx(0.0)  # the least perplexing dose
    above = match_perplexity((1.4, 1.6), (99.0,), RISING)
    assert above is not None
    assert not above.bracketed
    assert above.steering == pytest.approx(2.0)


def test_too_little_to_match() -> None:
    assert match_perplexity((1.4, 1.6), (8.0,), RISING[:1]) is None
    assert match_perplexity((1.4,), (8.0,), RISING) is None
    assert match_perplexity((1.4, None), (8.0,), RISING) is None
    assert match_perplexity((1.4, 1.6), (None,), RISING) is None


def test_the_interval_covers_the_truth() -> None:
    rng, hits, trials = np.random.default_rng(0), 0, 60
    for _ in range(trials):
        items, samples = rng.normal(0, 0.3, 48), rng.normal(0, 0.3, 64)

        def condition(
            trait: float,
            perplexity: float,
            items: np.ndarray = items,
            samples: np.ndarray = samples,
        ) -> tuple[tuple[float, ...], tuple[float, ...]]:
            values = trait + items + rng.normal(0, 0.15, 48)
            logs = math.log(perplexity) + samples + rng.normal(0, 0.15, 64)
            return tuple(values.tolist()), tuple(np.exp(logs).tolist())

        front = [FrontPoint(k, *condition(k, 4 * 2**k)) for k in (0, 0.5, 1, 1.5, 2)]
        found = match_perplexity(*condition(1.2, 8.0), front)  # steering: 1.0 there
        assert found is not None
        hits += found.advantage.low <= 0.2 <= found.advantage.high
    assert hits / trials >= 0.88

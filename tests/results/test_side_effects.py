"""What is said of side effects, on measurements that were made up, against naive reckoning."""

from __future__ import annotations

import math
from statistics import fmean, median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from results.side_effects.findings import SMALL, Effects, Own, effects, moved
from results.side_effects.measure import Items
from results.side_effects.words import end_words

from steer_heal_love.records import Interval

N = 8


def items(shift: float = 0.0, *, factor: float = 1.0, noise: float = 0.0) -> Items:
    """A model: its traits are shifted from base, its perplexities a multiple of base's."""
    spread = [noise * (-1) ** i for i in range(N)]

    def pairs(by: float) -> list[float | None]:
        return [0.1 * i + by + spread[i] for i in range(N)]

    return {
        "pairs/own": pairs(shift),
        "pairs/opposite": pairs(-0.5 + shift / 2),
        "pairs/other": pairs(0.0),
        "capability_nats": [3.0 + 0.1 * i + math.log(factor) for i in range(N)],
        "capability_tokens": [10.0 * (i + 1) for i in range(N)],
        "mundane_perplexity": [factor * (5.0 + i) for i in range(N)],
        "mundane_relevance": [0.5 + 0.1 * i for i in range(N)],
        "mundane_persona_nats": [0.01 * i + shift / 10 for i in range(N)],
        "mundane_loops": [float(shift > 0 and i == 0) for i in range(N)],
    }


def run(loops: float | None = 0.25) -> Own:
    healed = {"persona_nats": 0.3, "long_loop_share": loops}
    base = {"persona_nats": 0.1, "long_loop_share": 0.0}
    return Own({"base": base, "rounds": [{"round": 0, "healed": healed}]}, 8)


def found(**changes: Any) -> Effects:
    return effects(0, [items(1.0, **changes)], [items()], [run()])


def value(figure: Interval | None) -> float:
    assert figure is not None
    return figure.value


def test_figures_are_what_a_naive_reckoning_gives() -> None:
    healed, base = [items(1.0, factor=1.5), items(0.6, factor=1.5)], [items(), items()]
    e = effects(0, healed, base, [run(0.25), run(0.5)])
    assert e.runs == 2
    assert value(e.shifts["own"]) == pytest.approx(0.8)
    assert value(e.shifts["opposite"]) == pytest.approx(0.4)
    assert value(e.shifts["pull"]) == pytest.approx(0.4 - 0.8)
    assert value(e.shifts["other"]) == 0.0
    a, b = healed[0]["mundane_perplexity"], base[0]["mundane_perplexity"]
    naive = median([x for x in a if x is not None]) / median([x for x in b if x is not None])
    assert value(e.perplexity_ratio) == pytest.approx(naive)
    assert value(e.capability_ratio) == pytest.approx(1.5)
    assert value(e.relevance_ratio) == pytest.approx(1.0)
    assert value(e.persona_shift) == pytest.approx(0.08)
    assert e.persona_own == pytest.approx(0.2)
    assert value(e.more_loops) == pytest.approx(1 / N)
    assert value(e.long_loops) == pytest.approx(fmean([0.25, 0.5]))
    assert value(e.long_loops_base) == 0.0


def test_capability_is_weighed_by_the_paragraphs_tokens() -> None:
    healed = items()
    more = [0.01 * i for i in range(N)]
    healed["capability_nats"] = [3.0 + 0.1 * i + more[i] for i in range(N)]
    tokens = [10 * (i + 1) for i in range(N)]
    naive = math.exp(sum(m * t for m, t in zip(more, tokens, strict=True)) / sum(tokens))
    e = effects(0, [healed], [items()], [run()])
    assert value(e.capability_ratio) == pytest.approx(naive)


def test_a_run_without_long_samples_has_no_share_of_them() -> None:
    e = effects(0, [items(1.0)], [items()], [run(None)])
    assert e.long_loops is None
    assert e.long_loops_base is not None


@given(st.floats(-1, 1), st.floats(0, 0.5), st.floats(0.01, 2))
def test_unmoved_is_what_holds_zero_or_is_small(shift: float, half: float, own: float) -> None:
    answer = moved(Interval(shift, shift - half, shift + half), Interval(own, own, own))
    holds_zero = shift - half <= 0 <= shift + half
    assert (answer == "unmoved") == (holds_zero or abs(shift) < SMALL * own)


def test_what_moved_and_what_did_not_is_said() -> None:
    words = end_words(found())
    assert words.startswith("After round 0: moved: asked as the opposite persona, pull of that")
    assert "unmoved: other." in words
    assert "Perplexity of ordinary text: no clear difference." in words
    assert "Their persona: above base (0.100)." in words
    assert "Perplexity of answers to ordinary questions: above base (1.50)" in end_words(
        found(factor=1.5)
    )


def test_without_another_valid_axis_none_is_held_against() -> None:
    healed, base = items(1.0), items()
    del healed["pairs/other"], base["pairs/other"]
    words = end_words(effects(0, [healed], [base], [run()]))
    assert "No other axis is valid on this model" in words
    assert "unmoved: none." in words

"""Rivals of the first round's heal, ratios to base and long answers, where a run has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import vl_convert
from made_up_runs import printed, summary

from steer_heal_love.records import AnswerPair, Axis, Interval, Measurement
from steer_heal_love.report.compare.run_row import row_of
from steer_heal_love.report.figures.love_loop import love_loop_chart
from steer_heal_love.report.states import (
    Run,
    State,
    parse_metrics,
    without_bounds,
)
from steer_heal_love.report.text.competing_methods import rival_lines
from steer_heal_love.report.text.diary import write_diary
from steer_heal_love.report.text.ratios import ratio_to_base, times_words
from steer_heal_love.report.text.summary import round_table, summary_text
from steer_heal_love.runs.read import RunView

Make = Callable[..., Any]
RUN = Path("run")
AXIS = Axis("love", "d", "{persona}", "a", "b", ("p",), (AnswerPair("q", "a", "b"),) * 2)
BASE = [0.1 * i for i in range(12)]
ITEMS: dict[str, dict[str, list[float | None]]] = {
    "base": {"trait_nats": [*BASE], "perplexity": [5.0 + b for b in BASE]},
    "healed": {"trait_nats": [b + 0.39 + 0.02 * (i % 2) for i, b in enumerate(BASE)]},
    "sft": {
        "trait_nats": [b + 0.6 + 0.01 * (i % 3) for i, b in enumerate(BASE)],
        "perplexity": [2 * (5.0 + b) for b in BASE],
    },
}


@pytest.fixture
def metrics(make_metrics: Make, make_measurement: Make) -> Any:
    """Two rounds, the first with both rivals."""
    found = make_metrics(2)
    rivals = {"sft": make_measurement(0.7, 14.0), "arithmetic": make_measurement(0.4, 8.0)}
    found["rounds"][0]["rivals"] = rivals
    return found


def with_items(metrics: Any) -> Run:
    return parse_metrics(metrics, lambda _round: ITEMS)


def test_rivals_of_the_first_round(metrics: Any) -> None:
    class View(RunView):
        def items(self, round_index: int | None = None) -> Any:
            return ITEMS

    row = row_of(View(path=RUN, metrics=metrics, config={}, axis=AXIS), "run")
    shift, ratio = row.figures["sft_shift"], row.figures["sft_perplexity_ratio"]
    assert shift is not None
    assert shift.value == pytest.approx(0.61)
    assert ratio is not None
    assert ratio.value == pytest.approx(2.0)
    assert row.figures["arithmetic_shift"] is None
    assert row.figures["arithmetic_perplexity_ratio"] == without_bounds(8.0 / 7.4)


def test_runs_without_rivals(make_metrics: Make) -> None:
    broken = make_metrics(1)
    broken["rounds"][0]["rivals"] = {"sft": None, "stranger": {"trait_nats": 1.0}}
    for metrics in ({}, make_metrics(0), make_metrics(1), broken):
        assert parse_metrics(metrics).rivals == ()
        assert rival_lines(with_items(metrics)) == []


def test_a_line_each_in_the_summary(metrics: Any) -> None:
    title, healed, sft, arithmetic = rival_lines(with_items(metrics))
    assert title.endswith("its rivals:")
    assert healed.startswith("  healed: trait shift +0.40 (paired 95 % interval +0.")
    assert "λ = 0" in sft
    assert "perplexity 2.00 × base (2.00 to 2.00), loops 3 %" in sft
    assert "against the healed model's +0.21 (paired 95 % interval +0." in sft
    assert "perplexity 1.08 × base, loops 3 %." in arithmetic
    assert "no paired interval" in arithmetic
    assert sft in summary_text(with_items(metrics), RUN)
    assert "no paired interval" in summary(metrics)


def test_rows_of_the_table(metrics: Any) -> None:
    text = printed(round_table(metrics))
    lines = [line.split() for line in text.splitlines() if "+0.17→+0" in line]
    assert [line[0] for line in lines] == ["0", "sft", "arith", "1"]
    assert lines[1][1:] == ["+0.17→+0.70", "14.0", "3", "%"]
    assert "…" not in text
    assert "sft: plain distillation" in text


def test_the_diary_tells_of_rivals_after_the_first_night(metrics: Any) -> None:
    diary = write_diary(RunView(path=RUN, metrics=metrics, config={}, axis=AXIS))
    said = ("## Night 1", "- plain distillation", "- adapter arithmetic")
    places = [diary.index(words) for words in said]
    assert places == sorted(places)
    assert places[-1] < diary.index("## Day 2")
    assert "Trait +0.70 nats per token" in diary[places[1] : places[2]]


def test_the_picture_has_a_mark_for_each(metrics: Any) -> None:
    spec = love_loop_chart(parse_metrics(metrics)).to_dict()
    points = next(x for x in spec["vconcat"][0]["layer"] if x["mark"]["type"] == "point")
    values = points["data"]["values"]
    rivals = [v for v in values if v["position"] not in range(5)]
    assert [v["state"] for v in rivals] == ["round 0 sft", "round 0 arithmetic"]
    assert all(1.5 < v["position"] < 2.5 and "dose" not in v for v in rivals)
    assert len(points["encoding"]["shape"]["scale"]["range"]) == 5
    path = next(x for x in spec["vconcat"][0]["layer"] if x["mark"]["type"] == "line")
    assert len(path["data"]["values"]) == len(values) - 2
    svg = vl_convert.vegalite_to_svg(spec)
    assert "distilled, λ = 0" in svg
    assert "adapter arithmetic" in svg


def state(perplexity: float, *items: float, **figures: Interval) -> State:
    figures = {"perplexity": without_bounds(perplexity), **figures}
    return State(0, "x", None, Measurement(figures, {"perplexity": items}))


def test_the_stored_ratio_comes_first() -> None:
    base, healed = state(5.0), state(6.0)
    assert ratio_to_base(healed, base) == without_bounds(1.2)
    paired = ratio_to_base(state(6.0, 6.0, 12.0, 9.0), state(5.0, 5.0, 10.0, 7.5))
    assert paired is not None
    assert paired.bounds == pytest.approx((1.2, 1.2))
    stored = Interval(1.3, 1.1, 1.5)
    found = ratio_to_base(state(6.0, 6.0, 12.0, perplexity_ratio=stored), state(5.0, 5.0, 10.0))
    assert found == stored
    assert times_words(found) == "1.30 × base (1.10 to 1.50)"
    assert ratio_to_base(None, base) is ratio_to_base(healed, None) is None
    assert ratio_to_base(healed, base, "x") is ratio_to_base(healed, state(0.0)) is None


def test_ratio_and_long_answers_in_the_summary(make_metrics: Make) -> None:
    metrics = make_metrics(1)
    healed, base = metrics["rounds"][0]["healed"], metrics["base"]
    assert "long" not in summary(metrics)
    healed |= {"perplexity_ratio": 1.3, "long_loop_share": 0.25, "long_perplexity_ratio": 1.9}
    healed["intervals"] |= {"perplexity_ratio": [1.2, 1.4], "long_loop_share": [0.1, 0.4]}
    base["long_loop_share"] = 0.02
    text = summary(metrics)
    assert (
        "1.30 times the base model's (95 % interval 1.20 to 1.40; over the limit of 1.25 times)."
    ) in text
    assert (
        "Of its long answers: 25 % loop (10 % to 40 %) against 2 %, perplexity is 1.90 × base."
    ) in text
    diary = write_diary(RunView(path=RUN, metrics=metrics, config={}, axis=AXIS))
    assert "×1.30 (1.20 to 1.40) of base" in diary

"""Rivals without training in summary, diary, page and comparison, where a run has them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import make_run

from steer_heal_love.records import AnswerPair, Axis, Interval, Rival
from steer_heal_love.report.compare.compare import compare_runs
from steer_heal_love.report.compare.comparison import comparison_markdown
from steer_heal_love.report.page.headline import headline_of
from steer_heal_love.report.states import parse_metrics, parse_run
from steer_heal_love.report.text.diary import write_diary
from steer_heal_love.report.text.summary import summary_text
from steer_heal_love.report.text.untrained_rivals import front_grid, front_lines, read_front
from steer_heal_love.runs.read import RunView, read_run

Make = Callable[..., Any]
AXIS = Axis("love", "d", "{persona}", "a", "b", ("p",), (AnswerPair("q", "a", "b"),) * 2)


def entry(method: str, trait: float, **figures: float) -> dict[str, Any]:
    return {
        "method": method,
        "dose": 1.0,
        "temperature": 0.85 if method == "steering" else 1.0,
        "trait_nats": trait,
        "distinct_2": 0.8,
        "loop_share": 0.0,
        **figures,
        "intervals": {"trait_nats": [trait - 0.1, trait + 0.1], "relevance": [0.5, 0.9]},
    }


FRONT = [
    entry("base", 0.17, perplexity_ratio=1.0, relevance=0.7),
    entry("steering", 0.6, perplexity_ratio=1.02, relevance_ratio=0.95, distinct_2=0.76),
    entry("contrast", 0.9, perplexity_ratio=1.4, relevance_ratio=0.7, loop_share=0.25),
]


@pytest.fixture
def metrics(make_metrics: Make) -> Any:
    found = make_metrics(2)
    found["rounds"][0]["front"] = FRONT
    return found


def test_what_a_rival_reaches_is_held_against_base_measured_alike(metrics: Any) -> None:
    steering, contrast = read_front(parse_metrics(metrics))
    assert steering.rival == Rival("steering", 1.0, 0.85)
    assert steering.trait == Interval(0.6, 0.5, 0.7)
    assert steering.distinct == pytest.approx(0.95)
    assert steering.broken == []
    assert list(contrast.broken) == [
        "perplexity 1.40 × base",
        "relevance 0.70 × base",
        "loops +25 points against base",
    ]
    grid = front_grid(parse_metrics(metrics))
    assert grid is not None
    name, trait, *ratios, loops, bounds = grid.rows[0]
    assert (name, trait, loops, bounds) == ("steering κ 1 at T 0.85", "+0.60", "0 %", "yes")
    assert ratios == ["1.02", "0.95", "0.95"]


def test_relevance_counts_only_where_base_has_some(metrics: Any) -> None:
    metrics["rounds"][0]["front"] = [
        {**FRONT[0], "intervals": {"relevance": [-0.1, 0.9]}},
        entry("contrast", 0.9, perplexity_ratio=1.0, relevance_ratio=0.1),
    ]
    [rival] = read_front(parse_metrics(metrics))
    assert rival.broken == []


def test_runs_without_them_say_nothing(make_metrics: Make) -> None:
    older = make_metrics(1)
    older["rounds"][0]["front"] = [{"dose": 0.5, "trait_nats": 0.3}, None, "x"]
    bare = make_metrics(1)
    bare["rounds"][0]["front"] = FRONT[:1]
    for found in ({}, make_metrics(0), make_metrics(1), older, bare):
        run = parse_metrics(found)
        assert read_front(run) == front_lines(run) == []
        assert front_grid(run) is None


def test_summary_and_diary_tell_of_them(metrics: Any) -> None:
    said = summary_text(parse_metrics(metrics), Path("run"))
    for words in ("steering κ 1 at T 0.85: trait +0.60", "bounds: no (perplexity 1.40 × base"):
        assert words in said
    assert "The bounds: perplexity at most 1.15 × base" in said
    diary = write_diary(RunView(path=Path("run"), metrics=metrics, config={}, axis=AXIS))
    places = [diary.index(w) for w in ("## Night 1", "without teaching me", "- contrast γ 1")]
    assert places == sorted(places)
    assert places[-1] < diary.index("## Day 2")


def test_page_and_comparison_show_them(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", (0.6, 0.8))
    assert "best rival lead" not in comparison_markdown(compare_runs([read_run(path)]))
    file = path / "metrics.json"
    found = json.loads(file.read_text("utf-8"))
    found["rounds"][0]["front"] = FRONT
    found["verdicts"] = {
        "beats_steering": {
            "answer": "no",
            "figures": {"rivals_within": 1.0},
            "interval": {"value": -0.2, "low": -0.3, "high": -0.1},
        }
    }
    file.write_text(json.dumps(found), encoding="utf-8")
    view = read_run(path)
    said = headline_of(view, parse_run(view)).findings
    assert any("steering κ 1 at T 0.85: trait +0.60" in s for s in said)
    (row,) = compare_runs([view])
    assert row.figures["rival_lead"] == Interval(-0.2, -0.3, -0.1)
    assert "−0.20 (−0.30 to −0.10)" in comparison_markdown([row])

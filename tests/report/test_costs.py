"""What a run took: sums over rounds, and a dash where an older version did not count."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_runs import make_run

from steer_heal_love.report.page.setup import setup_of
from steer_heal_love.report.states import Round, parse_metrics, parse_run
from steer_heal_love.report.text.costs import HEAD, TITLE, cost_grid, cost_section
from steer_heal_love.report.text.diary import write_diary
from steer_heal_love.runs.read import read_run


def rounds(*entries: dict[str, Any]) -> tuple[Round, ...]:
    return parse_metrics({"rounds": list(entries)}).rounds


ONE = {
    "wall_s": {"steer": 2.0, "heal": 10.0},
    "tokens": {"steer": 1000, "heal": 4000},
    "peak_gib": {"steer": 1.5, "heal": 3.25},
}
TWO = {
    "wall_s": {"steer": 3.0, "heal": 30.0},
    "tokens": {"steer": 1500, "heal": 8000},
    "peak_gib": {"steer": 1.25, "heal": 3.5},
}


def test_stages_add_up_over_rounds_and_the_peak_is_the_highest() -> None:
    grid = cost_grid(rounds(ONE, TWO))
    assert grid.head == HEAD
    assert grid.rows == (
        ("steer", "5.0", "2,500", "500", "1.50"),
        ("heal", "40.0", "12,000", "300", "3.50"),
        ("all rounds", "45.0", "14,500", "322", "3.50"),
    )


def test_stages_stand_in_the_order_of_a_round() -> None:
    wall = {"evaluate": 1.0, "other": 1.0, "heal": 1.0, "steer": 1.0, "generate": 1.0}
    found = [row[0] for row in cost_grid(rounds({"wall_s": wall})).rows]
    assert found == ["steer", "generate", "heal", "evaluate", "other", "all rounds"]


def test_what_an_older_version_did_not_count_is_a_dash() -> None:
    old = {"wall_s": {"steer": 3.0, "heal": 30.0}}
    assert cost_grid(rounds(ONE, old)).rows == (
        ("steer", "5.0", "–", "–", "–"),
        ("heal", "40.0", "–", "–", "–"),
        ("all rounds", "45.0", "–", "–", "–"),
    )
    unknown = {**TWO, "tokens": {"steer": 1500, "heal": None}}
    heal = cost_grid(rounds(ONE, unknown)).rows[1]
    assert heal == ("heal", "40.0", "–", "–", "3.50")


def test_a_stage_of_the_first_round_alone_is_not_missed_in_the_others() -> None:
    first = {k: {**v, "rivals": 1.0} for k, v in ONE.items()}
    rivals = next(r for r in cost_grid(rounds(first, TWO)).rows if r[0] == "rivals")
    assert rivals == ("rivals", "1.0", "1", "1", "1.00")


@pytest.mark.parametrize("known", [rounds(), rounds({}), rounds({"wall_s": None})])
def test_where_nothing_is_known_there_is_no_table(known: tuple[Round, ...]) -> None:
    assert cost_grid(known).rows == ()
    assert cost_section(known) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(wall=JSON, tokens=JSON, peak=JSON)
def test_any_figures_make_whole_rows(wall: Any, tokens: Any, peak: Any) -> None:
    known = rounds({"wall_s": wall, "tokens": tokens, "peak_gib": peak})
    assert all(len(row) == len(HEAD) for row in cost_grid(known).rows)
    for block in cost_section(known)[1:2]:
        assert len({line.replace("\\|", "").count("|") for line in block.split("\n")}) == 1


def test_diary_and_page_have_the_table(
    tmp_path: Path, make_metrics: Callable[..., dict[str, Any]]
) -> None:
    run = make_run(tmp_path / "run", (0.5, 0.6))
    view = read_run(run)
    diary = write_diary(view)
    assert f"## {TITLE}" in diary
    assert "| heal | 120.0 | 60,000 | 500 | 3.00 |" in diary
    costs = setup_of(view, parse_run(view)).costs
    assert ("steer", "6.0", "12,000", "2,000", "1.00") in costs.rows
    assert cost_grid(parse_metrics(make_metrics(1)).rounds).rows[0] == (
        "steer",
        "3.1",
        "–",
        "–",
        "–",
    )

"""The battery's table: nothing broken, nothing lost, whatever the width of the terminal."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from steer_heal_love.inputs.axes import load_axis
from steer_heal_love.records import Interval, Measurement
from steer_heal_love.terminal.battery_table import battery_table, cell

HEADS = ["base", "prompt_pos", "prompt_neg", "model", "model / base"]
NUMBERS = st.floats(-1e3, 1e3)


def shown(conditions: dict[str, Measurement], width: int) -> list[str]:
    stream = io.StringIO()
    console = Console(file=stream, width=width, highlight=False, soft_wrap=True)
    console.print(battery_table(conditions, load_axis("love"), {"verdicts": {}}, width))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


@given(st.data(), st.sampled_from([60, 80, 100, 132, 200]))
def test_every_figure_stands_whole_within_the_width(data: st.DataObject, width: int) -> None:
    bounds = st.tuples(NUMBERS, NUMBERS, NUMBERS).map(sorted)
    figures = st.fixed_dictionaries(
        dict.fromkeys(("perplexity", "perplexity_ratio", "rep_2"), bounds)
    )
    found = {
        head: {n: Interval(b[1], b[0], b[2]) for n, b in data.draw(figures).items()}
        for head in HEADS[:-1]
    }
    lines = shown({head: Measurement(f, {}) for head, f in found.items()}, width)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= width
    assert [head for head in HEADS if head in text] == HEADS
    for head, intervals in found.items():
        assert cell(intervals["perplexity"]) in text
        assert cell(intervals["rep_2"]) in text
        ratio = f"× {cell(intervals['perplexity_ratio'])}"
        assert (ratio in text) or head != "model"
    assert "perplexity_ratio" not in text


@pytest.mark.parametrize(("width", "tables"), [(200, 1), (80, 2), (60, 4)])
def test_columns_go_below_where_they_do_not_fit(width: int, tables: int) -> None:
    figures = {"trait_nats": Interval(-0.0634, -0.111, -0.0158)}
    of = {head: Measurement(figures, {}) for head in HEADS[:-1]}
    lines = shown(of, width)
    assert sum(line.startswith("figure") for line in lines) == tables
    assert sum(line.count("-0.0634 [-0.111, -0.0158]") for line in lines) == 4

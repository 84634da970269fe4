"""The loop's figure: the healed models' path beside raw steering, and measures by round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from results.runs.conditions import healed_at, ratio, round_at, share, trait_shift
from results.runs.figures import (
    Found,
    Rows,
    plane_plot,
    plane_rows,
    round_rows,
    rounds_rows,
    series_of,
    subject_of,
)
from results.runs.panels import LOW, Panel, by_round, plane, row_of
from results.runs.records import Run, SweepFigures
from results.runs.steering import beside_steering
from steer_heal_love.report.figures.drawing import Plot

TALL = 480  # of the plane beside three panels


def loop_figures(found: Found) -> list[Plot]:
    """The loop's path beside raw steering, and its measures by round."""
    figures = found["loop"]
    if figures is None or not figures.runs:
        return []
    runs, rounds = figures.runs, max(len(run.rounds) for run in figures.runs)
    groups = {"healed": runs}
    trait = rounds_rows(groups, trait_shift)
    for at in range(rounds):
        there = [run for run in runs if round_at(run, at)]
        steering = beside_steering(there, healed_at(at))
        trait += row_of("raw steering there", at, steering.shift if steering else None)
    panels = _loop_panels(groups, trait)
    names = ["healed", "raw steering there", "relevance", "distinct-2", "short answers"]
    names += ["long answers"]
    left = _loop_plane(runs, rounds, found.get("heal"))
    right = alt.vconcat(*(by_round(p, _named(p, names), rounds, LOW) for p in panels))
    right = right.resolve_scale(color="independent", shape="independent", strokeDash="independent")
    chart = alt.hconcat(plane(left, series_of(left), TALL), right)
    chart = chart.resolve_scale(color="independent", shape="independent", strokeDash="independent")
    title = f"The loop, default settings: {subject_of(runs)}"
    return [plane_plot("loop", title, chart, left)]


def _named(panel: Panel, names: Sequence[str]) -> list[str]:
    return [name for name in names if any(row["series"] == name for row in panel.rows)]


def _loop_panels(groups: Mapping[str, Sequence[Run]], trait: Rows) -> list[Panel]:
    def rows(name: str, series: str, measure: Any) -> Rows:
        found = rounds_rows(groups, lambda runs, pick: measure(runs, pick, name))
        return [{**row, "series": series} for row in found]

    varied = rows("relevance", "relevance", ratio) + rows("distinct_2", "distinct-2", ratio)
    loops = rows("loop_share", "short answers", share)
    loops += rows("long_loop_share", "long answers", share)
    return [
        Panel("trait shift (nats per token)", trait, level=0.0),
        Panel("× base", varied, level=1.0),
        Panel("share of looping answers", loops, share=True),
    ]


def _loop_plane(runs: Sequence[Run], rounds: int, first: SweepFigures | None) -> Rows:
    """The healed models' path, raw steering, and what was measured once: prompted, distilled."""
    others = first.runs if first is not None and first.runs else runs
    rows = [row for row in round_rows(runs) if row["series"] == "steered (κ)"]
    rows += [
        row for row in round_rows(others) if row["series"] in ("prompted", "plain distillation")
    ]
    for at in range(rounds):
        label = f"round {at}" if at in (0, rounds - 1) else str(at)
        rows += plane_rows("healed", label, at, runs, healed_at(at))
    return rows

"""Two kinds of figure of whole runs: trait against perplexity, and measures round by round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from results.runs.conditions import (
    Pick,
    base_of,
    front_at,
    front_doses,
    healed_at,
    prompted,
    ratio,
    rival,
    round_at,
    share,
    trait_shift,
)
from results.runs.one_round import shown
from results.runs.panels import LOW, Panel, by_round, plane, point_of, row_of
from results.runs.records import Run, SweepFigures
from results.runs.rounds import WITH, by_barrier, side_by_side
from results.runs.steering import beside_steering
from results.runs.tables import Found, Groups
from steer_heal_love.report.figures.drawing import Plot, style_chart
from steer_heal_love.report.states import Grid

Rows = list[dict[str, Any]]

BARS = "Bars: 95 % intervals, cut where they leave the picture."
PLANE = ["Up: more trait. Left: more coherent. Means over the seeds.", BARS]
TALL = 480  # of the plane beside three panels
APART = {"color": "independent", "shape": "independent", "strokeDash": "independent"}


def one_round_figure(name: str, found: Found) -> list[Plot]:
    """Trait against perplexity after one round, a plane for each axis that is shown."""
    figures = found[name]
    axes = shown(figures.runs) if figures else {}
    if not axes:
        return []
    every = {axis: round_rows(runs) for axis, runs in axes.items()}
    names = series_of([row for rows in every.values() for row in rows])
    charts = [plane(rows, names).properties(title=axis) for axis, rows in every.items()]
    title = f"After one round: {subject_of([run for runs in axes.values() for run in runs])}"
    return [plot_of(name, title, PLANE, alt.concat(*charts, columns=2), columns=3)]


def barrier_figures(found: Found) -> list[Plot]:
    """Measures by round for each barrier, a figure a sweep."""
    return [
        rounds_plot(name, f"Barriers, {name}: {subject_of(figures.runs)}", by_barrier(figures))
        for name, figures in found.items()
        if figures
    ]


def unsteered_figure(found: Found) -> list[Plot]:
    """Measures by round, without steering and with it."""
    groups = side_by_side(found)
    if not groups:
        return []
    title = f"The loop without steering and with it: {subject_of(groups[WITH])}"
    return [rounds_plot("unsteered", title, groups)]


def loop_figure(found: Found) -> list[Plot]:
    """The healed models' path beside raw steering, and measures by round."""
    figures = found["loop"]
    if figures is None:
        return []
    runs, groups = figures.runs, {"healed": figures.runs}
    rounds = _rounds_of(groups)
    trait = rounds_rows(groups, trait_shift)
    for at in range(rounds):
        steering = beside_steering([run for run in runs if round_at(run, at)], healed_at(at))
        trait += row_of("raw steering there", at, steering.shift if steering else None)

    varied = rounds_rows({"relevance": runs}, ratio, "relevance")
    varied += rounds_rows({"distinct-2": runs}, ratio, "distinct_2")
    loops = rounds_rows({"short answers": runs}, share, "loop_share")
    loops += rounds_rows({"long answers": runs}, share, "long_loop_share")
    panels = [
        Panel("trait shift (nats per token)", trait, level=0.0),
        Panel("× base", varied, level=1.0),
        Panel("share of looping answers", loops, share=True),
    ]
    path = _path(runs, rounds, found.get("heal"))
    right = alt.vconcat(*(by_round(p, series_of(p.rows), rounds, LOW) for p in panels))
    left = plane(path, series_of(path), TALL)
    chart = alt.hconcat(left, right.resolve_scale(**APART)).resolve_scale(**APART)
    title = f"The loop, default settings: {subject_of(runs)}"
    return [plot_of("loop", title, PLANE, chart, columns=3)]


def _path(runs: Sequence[Run], rounds: int, first: SweepFigures | None) -> Rows:
    """The healed models' path, raw steering, and what was measured once: prompted, distilled."""
    rows = [row for row in round_rows(runs) if row["series"] == "steered (κ)"]
    others = round_rows(first.runs if first else runs)
    rows += [row for row in others if row["series"] in ("prompted", "plain distillation")]
    for at in range(rounds):
        label = f"round {at}" if at in (0, rounds - 1) else ""
        rows += plane_rows("healed", label, at, runs, healed_at(at))
    return rows


def round_rows(runs: Sequence[Run]) -> Rows:
    """Base and every condition of round 0; the doses of raw steering joined to a line."""
    rows = plane_rows("steered (κ)", "base", 0.0, runs, base_of)
    doses = front_doses(runs)
    for kappa in doses:
        label = f"κ {kappa:g}" if kappa == doses[-1] else ""
        rows += plane_rows("steered (κ)", label, kappa, runs, front_at(kappa))
    once = {"healed": healed_at(0), "prompted": prompted}
    once |= {"plain distillation": rival("sft"), "adapter arithmetic": rival("arithmetic")}
    return rows + [row for n, pick in once.items() for row in plane_rows(n, "", 0, runs, pick)]


def plane_rows(series: str, label: str, order: float, runs: Sequence[Run], pick: Pick) -> Rows:
    """A condition as a point of the plane, over the runs that have it; none where there is none."""
    found = [run for run in runs if pick(run) is not None]
    return point_of(
        series, label, order, trait_shift(found, pick), ratio(found, pick, "perplexity")
    )


def rounds_plot(name: str, title: str, groups: Groups) -> Plot:
    """Four measures by round, a line a group."""
    perplexity = rounds_rows(groups, ratio, "perplexity")
    panels = [
        Panel("trait shift (nats per token)", rounds_rows(groups, trait_shift), level=0.0),
        Panel("perplexity × base (log scale)", perplexity, log=True, level=1.0),
        Panel("relevance × base", rounds_rows(groups, ratio, "relevance"), level=1.0),
        Panel("share of looping answers", rounds_rows(groups, share, "loop_share"), share=True),
    ]
    charts = [by_round(p, list(groups), _rounds_of(groups)) for p in panels if p.rows]
    subtitle = ["Healed models; means over the seeds. The dashed grey line is base.", BARS]
    return plot_of(name, title, subtitle, alt.concat(*charts, columns=2, spacing=26))


def rounds_rows(groups: Groups, measure: Any, *of: str) -> Rows:
    """A measure of the healed models, round by round, of the runs that have come so far."""
    rows: Rows = []
    for name, runs in groups.items():
        for at in range(_rounds_of({name: runs})):
            there = [run for run in runs if round_at(run, at)]
            rows += row_of(name, at, measure(there, healed_at(at), *of))
    return rows


def _rounds_of(groups: Groups) -> int:
    return max(len(run.rounds) for runs in groups.values() for run in runs)


def series_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The series, in the order in which they come."""
    return list(dict.fromkeys(row["series"] for row in rows))


def subject_of(runs: Sequence[Run]) -> str:
    """What the runs are of; of a model's path the last part."""
    axes = " and ".join(dict.fromkeys(run.axis for run in runs))
    return f"{axes} on {runs[0].model.rstrip('/').rpartition('/')[2]}"


def plot_of(name: str, title: str, subtitle: list[str], chart: Any, *, columns: int = 0) -> Plot:
    """A figure in the house's style; the tables of the page stand for whoever cannot see it."""
    styled_chart = style_chart(chart, [title], subtitle, columns=columns)
    return Plot(name, title, " ".join(subtitle), title, styled_chart, Grid((), ()))

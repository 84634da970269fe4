"""The questions' figures, each with its table and its words for whoever cannot see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from results.runs.axes import by_axis
from results.runs.barrier import SETTINGS, by_barrier, by_cell, last_common_round
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
from results.runs.heal import validity_of
from results.runs.panels import Panel, by_round, plane, point_of, row_of
from results.runs.records import Run, SweepFigures
from results.runs.unsteered import side_by_side
from steer_heal_love.report.figures.drawing import Plot, styled
from steer_heal_love.report.states import Grid

Found = Mapping[str, SweepFigures | None]
Rows = list[dict[str, Any]]

BARS = "Bars: 95 % intervals, cut where they leave the picture."


def heal_figures(found: Found) -> list[Plot]:
    """Trait against perplexity after one round."""
    figures = found["heal"]
    if figures is None or not figures.runs:
        return []
    rows = round_rows(figures.runs)
    title = f"After one round: {subject_of(figures.runs)}"
    return [plane_plot("heal", title, plane(rows, series_of(rows)), rows)]


def axes_figures(found: Found) -> list[Plot]:
    """The same for each valid axis, side by side."""
    figures = found["axes"]
    groups = by_axis(figures.runs) if figures else {}
    valid = {name: runs for name, runs in groups.items() if validity_of(runs).answer == "yes"}
    if not valid:
        return []
    every = {name: round_rows(runs) for name, runs in valid.items()}
    names = series_of([row for rows in every.values() for row in rows])
    charts = [plane(rows, names).properties(title=name) for name, rows in every.items()]
    chart = alt.hconcat(*charts) if len(charts) < 3 else alt.concat(*charts, columns=2)
    whole = [{**row, "label": f"{name}, {row['label']}"} for name, r in every.items() for row in r]
    return [plane_plot("axes", "After one round: further axes", chart, whole)]


def round_rows(runs: Sequence[Run]) -> Rows:
    """Base and every condition of round 0; the doses of raw steering joined to a line."""
    rows = plane_rows("steered (κ)", "base", 0.0, runs, base_of)
    for kappa in front_doses(runs):
        rows += plane_rows("steered (κ)", f"κ {kappa:g}", kappa, runs, front_at(kappa))
    rows += plane_rows("prompted", "prompted", 0, runs, prompted)
    rows += plane_rows("plain distillation", "distilled", 0, runs, rival("sft"))
    rows += plane_rows("adapter arithmetic", "arithmetic", 0, runs, rival("arithmetic"))
    return rows + plane_rows("healed", "healed", 0, runs, healed_at(0))


def plane_rows(series: str, label: str, order: float, runs: Sequence[Run], pick: Pick) -> Rows:
    """A condition as a point of the plane, over the runs that have it; none where there is none."""
    found = [run for run in runs if pick(run) is not None]
    return point_of(
        series, label, order, trait_shift(found, pick), ratio(found, pick, "perplexity")
    )


def barrier_figures(found: Found) -> list[Plot]:
    """Four measures by round for each setting, and the plane of the grid."""
    plots = []
    for name, words in SETTINGS.items():
        figures = found[name]
        if figures is not None and figures.runs:
            groups = by_barrier(figures)
            title = f"The barrier in the {words} setting: {subject_of(figures.runs)}"
            plots.append(_rounds_plot(name, title, groups))
    grid = found["barrier-grid"]
    return plots + ([_grid_plot(grid)] if grid is not None and grid.runs else [])


def unsteered_figures(found: Found) -> list[Plot]:
    """Four measures by round, without steering and with it."""
    groups = side_by_side(found)
    if not groups:
        return []
    subject = subject_of([run for runs in groups.values() for run in runs])
    return [_rounds_plot("unsteered", f"The loop without steering and with it: {subject}", groups)]


def _rounds_plot(name: str, title: str, groups: Mapping[str, Sequence[Run]]) -> Plot:
    names = list(groups)
    panels = [
        Panel("trait shift (nats per token)", rounds_rows(groups, trait_shift), level=0.0),
        Panel(
            "perplexity × base (log scale)",
            rounds_rows(groups, lambda runs, pick: ratio(runs, pick, "perplexity")),
            log=True,
            level=1.0,
        ),
        Panel(
            "relevance × base",
            rounds_rows(groups, lambda runs, pick: ratio(runs, pick, "relevance")),
            level=1.0,
        ),
        Panel(
            "share of looping answers",
            rounds_rows(groups, lambda runs, pick: share(runs, pick, "loop_share")),
            share=True,
        ),
    ]
    return _panels_plot(name, title, panels, names, _rounds_of(groups))


def rounds_rows(groups: Mapping[str, Sequence[Run]], measure: Any) -> Rows:
    """A measure of the healed models, round by round, of the runs that have come so far."""
    rows: Rows = []
    for name, runs in groups.items():
        for at in range(_rounds_of({name: runs})):
            there = [run for run in runs if round_at(run, at)]
            rows += row_of(name, at, measure(there, healed_at(at)))
    return rows


def _rounds_of(groups: Mapping[str, Sequence[Run]]) -> int:
    return max(len(run.rounds) for runs in groups.values() for run in runs)


def _panels_plot(
    name: str, title: str, panels: Sequence[Panel], names: Sequence[str], rounds: int
) -> Plot:
    charts = [by_round(panel, names, rounds) for panel in panels if panel.rows]
    chart = alt.concat(*charts, columns=2, spacing=26)
    subtitle = ["Healed models; means over the seeds. The dashed grey line is base.", BARS]
    table = tuple(
        (p.title, r["series"], str(r["at"]), *(f"{r[k]:.3g}" for k in ("value", "low", "high")))
        for p in panels
        for r in p.rows
    )
    ends = [r for p in panels[:2] for r in p.rows if r["at"] == rounds - 1]
    said = "; ".join(f"{r['series']} ends at {r['value']:.2f}" for r in ends)
    return Plot(
        name=name,
        title=title,
        caption=" ".join(subtitle),
        alt=f"{title}. {said}.",
        chart=styled(chart, [title], subtitle),
        table=Grid(("measure", "series", "round", "value", "low", "high"), table),
    )


def _grid_plot(figures: SweepFigures) -> Plot:
    """A point a cell: colour and shape for λ and τ, a panel a reference."""
    cells = by_cell(figures)
    last = last_common_round(list(cells.values()))
    rows: dict[str, Rows] = {}
    for (reference, lam, tau), runs in cells.items():
        there = [run for run in runs if round_at(run, last)]
        point = plane_rows(f"λ {lam}", f"τ {tau}", float(tau), there, healed_at(last))
        rows.setdefault(reference, []).extend(point)
    every = [row for found in rows.values() for row in found]
    names = series_of(every)
    charts = [plane(found, names).properties(title=f"reference: {r}") for r, found in rows.items()]
    title = f"λ, τ and reference after round {last}: {subject_of(figures.runs)}"
    chart = alt.hconcat(*charts).resolve_scale(x="shared", y="shared")
    return plane_plot("barrier-grid", title, chart, every)


def plane_plot(name: str, title: str, chart: Any, rows: Rows) -> Plot:
    """A figure of planes, told point by point."""
    subtitle = ["Up: more trait. Left: more coherent. Means over the seeds.", BARS]
    said = "; ".join(
        f"{r['series']}, {r['label']}: {r['trait']:+.2f} at {r['perplexity']:.2f} × base"
        for r in rows
    )
    return Plot(
        name=name,
        title=title,
        caption=" ".join(subtitle),
        alt=f"{said}.",
        chart=styled(chart, [title], subtitle, columns=3),
        table=Grid(
            ("series", "point", "trait shift", "perplexity × base"),
            tuple(
                (r["series"], r["label"], f"{r['trait']:+.2f}", f"{r['perplexity']:.2f}")
                for r in rows
            ),
        ),
    )


def series_of(rows: Rows) -> list[str]:
    """The series, in the order in which they come."""
    return list(dict.fromkeys(row["series"] for row in rows))


def subject_of(runs: Sequence[Run]) -> str:
    """What the runs are of."""
    return f"axis {runs[0].axis} on {runs[0].model.rstrip('/').rpartition('/')[2]}"

"""The figure: trait against perplexity, one line per technique, the constant dose in each panel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import altair as alt

from results.dose.findings import Comparison
from results.dose.matched import interval
from results.dose.techniques import CONSTANT, Technique
from steer_heal_love.report.figures.drawing import (
    GREY,
    PROMPT,
    RED,
    RUNS,
    Plot,
    data_of,
    save_twins,
    styled,
)
from steer_heal_love.report.figures.error_bars import crosses, perplexity_across, trait_up
from steer_heal_love.report.states import Grid

FAMILIES = ("schedules", "gates", "others")
_WIDTH, _HEIGHT = 290, 290
_TICKS = (4, 5, 6, 7, 8, 9, 10, 12, 14, 17, 20, 25, 30, 40, 50, 70, 100)
_COLOURS = (GREY, RED, PROMPT, *RUNS[2:3])  # the constant dose first
_SHAPES = ("circle", "triangle-up", "diamond", "square")


def dose_figure(found: Comparison, techniques: Sequence[Technique], subject: str) -> Plot:
    """Three panels, one per family of techniques."""
    rows = [row for t in techniques for row in _rows(found, t)]
    panels = [
        _panel(
            [r for r in rows if r["technique"] in _names(techniques, family)],
            _names(techniques, family),
            rows,
        )
        for family in FAMILIES
        if len(_names(techniques, family)) > 1
    ]
    chart = alt.hconcat(*panels).resolve_scale(color="independent", shape="independent")
    title = [f"How a dose is given: {subject}"]
    subtitle = [
        "Each point is a dose; grey is the constant dose. Up: more trait. Left: more coherent.",
        "Bars: 95 % intervals, bootstrap over prompts.",
    ]
    return Plot(
        name="dose",
        title=title[0],
        caption=" ".join(subtitle),
        alt="; ".join(
            f"{r['technique']} at dose {r['kappa']:g}: trait {r['trait']:+.2f}, "
            f"perplexity {r['perplexity']:.1f}"
            for r in rows
        )
        + ".",
        chart=styled(chart, title, subtitle),
        table=Grid(
            ("technique", "dose", "trait", "perplexity"),
            tuple(
                (r["technique"], f"{r['kappa']:g}", f"{r['trait']:+.2f}", f"{r['perplexity']:.1f}")
                for r in rows
            ),
        ),
    )


def save_dose_figure(plot: Plot, folder: Path) -> list[Path]:
    """Write it as dose.svg and dose.png."""
    return save_twins([plot], folder)


def _names(techniques: Sequence[Technique], family: str) -> list[str]:
    return [CONSTANT.name, *(t.name for t in techniques if t.family == family)]


def _rows(found: Comparison, technique: Technique) -> list[dict[str, Any]]:
    line = found.lines[technique.name]
    rows = []
    for i, kappa in enumerate(line.kappas):
        trait = interval(line.values["trait"][i])
        perplexity = interval(line.values["perplexity"][i])
        if trait is None or perplexity is None:
            continue  # every text was given up
        rows.append(
            {
                "technique": technique.name,
                "kappa": kappa,
                "trait": trait.value,
                "trait_low": trait.low,
                "trait_high": trait.high,
                "perplexity": perplexity.value,
                "perplexity_low": perplexity.low,
                "perplexity_high": perplexity.high,
            }
        )
    return rows


def _panel(rows: list[dict[str, Any]], names: list[str], every: list[dict[str, Any]]) -> Any:
    """One family and the constant dose, on the scales of all panels."""
    x = perplexity_across(every, "median perplexity (log scale)", _TICKS)
    y = trait_up(every, "trait")
    color = alt.Color("technique:N", scale=alt.Scale(domain=names, range=list(_COLOURS)))
    shape = alt.Shape("technique:N", scale=alt.Scale(domain=names, range=list(_SHAPES)))
    chart = alt.Chart(data_of(rows))
    return alt.layer(
        chart.mark_line(strokeWidth=1.6).encode(x=x, y=y, color=color, order="kappa:Q"),
        *crosses(chart.mark_rule(opacity=0.35), x, y, ("perplexity", "trait"), color=color),
        chart.mark_point(filled=True, size=70, opacity=1).encode(
            x=x, y=y, color=color, shape=shape
        ),
    ).properties(width=_WIDTH, height=_HEIGHT)

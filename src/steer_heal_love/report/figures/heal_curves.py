"""The heal as it went: loss, distance from base against its limit, share of texts over it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from steer_heal_love.report.figures.drawing import GREY, INK, Plot, data_of, style_chart
from steer_heal_love.report.states import Grid, Round, Run, read_number
from steer_heal_love.report.text.words import number, percent
from steer_heal_love.runs.read import RunView

_WIDTH, _HEIGHT = 520, 130
_MOST_STEPS = 300  # of a round in the picture: every k-th where there are more
_FIRST, _LAST = (230, 159, 0), (0, 114, 178)  # orange to blue, apart for every kind of eyes
_PANELS = {
    "nll": ("loss nll", "nll", ".2f"),
    "divergence": ("distance D", "divergence_mean", ".2f"),
    "over": ("share over τ", "over_tau", ".0%"),
}


def heal_plot(view: RunView, run: Run) -> Plot | None:
    """Heal curves of every round, with τ; None where no round left any.

    Raises:
        RunError: a file of the run is broken.
    """
    numbers, tau = [r.number for r in run.rounds], run.tau
    steps = [row for r in numbers for row in _steps(view, r)]
    if not steps:
        return None
    held_out = [row for r in numbers for row in _held_out(view, r, steps)]
    ends = [_end(round_) for round_ in run.rounds]
    return Plot(
        name="heal",
        title="The heal",
        caption="Each round's training, batch by batch: the loss on the kept texts, the distance D "
        "from the untouched model (the barrier pushes back above τ, the dashed line), and the "
        "share of texts above τ. Points: texts held out of the training, before it and after each "
        "epoch. Curves of single batches, without intervals.",
        alt="At the end of the heal, over its last quarter: "
        + "; ".join(f"round {e[0]} loss {e[1]}, D {e[2]}, over τ {e[3]}" for e in ends)
        + f"; τ is {number(tau)}.",
        chart=_chart(steps, held_out, tau, numbers),
        table=Grid(("round", "loss nll, nats per token", "D, nats", "share over τ"), tuple(ends)),
    )


def _end(round_: Round) -> tuple[str, ...]:
    heal, over = round_.heal, read_number(round_.heal.get("over_tau"))
    shown = "–" if over is None else percent(over)
    return (str(round_.number), number(heal.get("nll")), number(heal.get("divergence")), shown)


def _steps(view: RunView, index: int) -> list[dict[str, Any]]:
    steps = view.heal_steps(index)
    stride = -(-len(steps) // _MOST_STEPS) or 1
    return [_row(row, index, read_number(row.get("epoch"))) for row in steps[::stride]]


def _held_out(view: RunView, index: int, steps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Losses on held-out texts at the epochs that they were measured at: 0, 1, 2, …"""
    if not any(row["round"] == index for row in steps):
        return []
    rows = [_row(row, index, float(epoch)) for epoch, row in enumerate(view.validation(index))]
    return [row for row in rows if row["nll"] is not None]  # none where nothing was held out


def _row(row: Any, index: int, epoch: float | None) -> dict[str, Any]:
    figures = {name: read_number(row.get(key)) for name, (_, key, _) in _PANELS.items()}
    return {"round": index, "epoch": epoch or 0.0, **figures}


def _colours(count: int) -> list[str]:
    shares = [i / max(1, count - 1) for i in range(count)]
    mixed = [[a + (b - a) * s for a, b in zip(_FIRST, _LAST, strict=True)] for s in shares]
    return ["#" + "".join(f"{round(c):02x}" for c in colour) for colour in mixed]


def _chart(
    steps: Sequence[dict[str, Any]],
    held_out: Sequence[dict[str, Any]],
    tau: float | None,
    rounds: Sequence[int],
) -> Any:
    color = alt.Color(
        "round:O",
        scale=alt.Scale(domain=list(rounds), range=_colours(len(rounds))),
        legend=alt.Legend(title="round", titleFontWeight="normal", orient="top"),
    )
    panels = []
    for name, (title, _, form) in _PANELS.items():
        last = name == list(_PANELS)[-1]
        x = alt.X(
            "epoch:Q",
            axis=alt.Axis(title="epoch" if last else None, labels=last, ticks=last, tickMinStep=1),
            scale=alt.Scale(nice=False),
        )
        scale = alt.Scale(domain=[0, 1]) if name == "over" else alt.Scale(zero=name != "nll")
        axis = alt.Axis(title=title, format=form, minExtent=44, tickCount=4)
        y = alt.Y(f"{name}:Q", scale=scale, axis=axis)
        tooltip = [
            alt.Tooltip("round:O"),
            alt.Tooltip("epoch:Q", format=".2f"),
            *(alt.Tooltip(f"{n}:Q", title=t, format=f) for n, (t, _, f) in _PANELS.items()),
        ]
        lines = alt.Chart(data_of(steps)).mark_line(strokeWidth=1.4)
        layers = [lines.encode(x=x, y=y, color=color)]
        if held_out:
            points = alt.Chart(data_of(held_out)).mark_point(filled=True, size=60, opacity=1)
            layers.append(points.encode(x=x, y=y, color=color, tooltip=tooltip))
        if name == "divergence" and tau is not None:
            layers += _limit(tau, y)
        panels.append(alt.layer(*layers).properties(width=_WIDTH, height=_HEIGHT))
    chart = alt.vconcat(*panels).resolve_scale(x="shared", color="shared").properties(spacing=12)
    said = "Lines: training batches; points: held-out texts; dashed: τ."
    return style_chart(chart, ["The heal, round by round"], [said])


def _limit(tau: float, y: Any) -> list[Any]:
    data = alt.Chart(data_of([{"divergence": tau}]))
    text = data.mark_text(text="τ", align="left", dx=6, color=INK, fontSize=12)
    return [
        data.mark_rule(color=GREY, strokeDash=[6, 4], strokeWidth=1.2).encode(y=y),
        text.encode(y=y, x=alt.value("width")),
    ]

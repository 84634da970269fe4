"""What each round cost: the dose that it settled on, and the share of answers that it kept."""

from __future__ import annotations

from typing import Any

import altair as alt

from steer_heal_love.maths.statistics import proportion_interval
from steer_heal_love.report.figures.drawing import (
    GREEN,
    RED,
    Plot,
    bound,
    data_of,
    pad_range,
    style_chart,
)
from steer_heal_love.report.states import Grid, Round, Run
from steer_heal_love.report.text.words import number, percent

_WIDTH, _HEIGHT = 520, 150


def doses_plot(run: Run) -> Plot | None:
    """Dose κ and kept share by round; None before the first round."""
    rows = [_row(round_) for round_ in run.rounds]
    if not rows:
        return None
    said = [f"round {row['round']} κ {row['dose_words']}, kept {row['kept_words']}" for row in rows]
    return Plot(
        name="dose_and_kept",
        title="Dose and kept share",
        caption="Above, the dose κ that the walk settled on in each round (κ = 1 is the shift that "
        "the persona itself causes). Below, the share of the generated answers that the model then "
        "learnt from, with Wilson's 95 % interval.",
        alt=f"By round: {'; '.join(said)}.",
        chart=_chart(rows),
        table=Grid(
            ("round", "dose κ", "kept"),
            tuple((str(r["round"]), r["dose_words"], r["kept_words"]) for r in rows),
        ),
    )


def _row(round_: Round) -> dict[str, Any]:
    kept, total = round_.kept, round_.total
    row: dict[str, Any] = {
        "round": round_.number,
        "dose": round_.dose,
        "dose_words": number(round_.dose),
        "kept_words": "–",
    }
    if kept is None or total is None or not 0 <= kept <= total or total < 1:
        return row
    share = proportion_interval(int(kept), int(total))
    low, high = percent(share.low), percent(share.high)
    words = f"{kept:.0f} of {total:.0f}: {percent(share.value)} ({low} to {high})"
    return {**row, "share": share.value, "low": share.low, "high": share.high, "kept_words": words}


def _chart(rows: list[dict[str, Any]]) -> Any:
    x = alt.X("round:O", axis=alt.Axis(title="round", labelAngle=0, grid=False))
    bare = alt.X("round:O", axis=alt.Axis(title=None, labels=False, ticks=False, grid=False))
    tooltip = [
        alt.Tooltip("round:O"),
        alt.Tooltip("dose:Q", title="dose κ", format=".3f"),
        alt.Tooltip("kept_words:N", title="kept"),
    ]
    doses = [0.0, *(row["dose"] for row in rows if row["dose"] is not None)]
    y = alt.Y(
        "dose:Q",
        scale=alt.Scale(domain=[min(doses), pad_range(doses)[1]], nice=True),
        axis=alt.Axis(title="dose κ", minExtent=44, tickCount=4),
    )
    dosed = alt.Chart(data_of([row for row in rows if row["dose"] is not None]))
    dose = dosed.mark_line(color=RED, strokeWidth=1.4).encode(x=bare, y=y) + dosed.mark_point(
        filled=True, size=110, opacity=1, color=RED, shape="triangle-up"
    ).encode(x=bare, y=y, tooltip=tooltip)
    z = alt.Y(
        "share:Q",
        scale=alt.Scale(domain=[0, 1]),
        axis=alt.Axis(title="kept", format=".0%", minExtent=44, tickCount=4),
    )
    shared = alt.Chart(data_of([row for row in rows if "share" in row]))
    bars = shared.mark_rule(color=GREEN, strokeWidth=1.6)
    share = bars.encode(x=x, y=bound(z, "low"), y2="high:Q") + shared.mark_point(
        filled=True, size=110, opacity=1, color=GREEN, shape="square"
    ).encode(x=x, y=z, tooltip=tooltip)
    chart = alt.vconcat(
        dose.properties(width=_WIDTH, height=_HEIGHT),
        share.properties(width=_WIDTH, height=_HEIGHT),
    ).properties(spacing=14)
    return style_chart(chart, ["Dose and kept share by round"], ["Bars: Wilson's 95 % intervals."])

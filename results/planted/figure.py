"""The figure: divergence along one text with a loop, D by aggregate, and loops by barrier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from results.planted.findings import Seen, Student
from results.planted.study import ARMS
from results.planted.words import SORTS
from steer_heal_love.report.figures.drawing import (
    FAINT,
    GREY,
    INK,
    RED,
    RUN_DASHES,
    RUN_SHAPES,
    RUNS,
    Plot,
    data_of,
    styled,
)
from steer_heal_love.report.states import Grid

_WIDE, _WIDTH, _HEIGHT = 720, 300, 220
_COLOURS = (GREY, RED, RUNS[0], RUNS[2], RUNS[4])  # the student without a barrier first
_LOOP_WORDS = {"loops": "short samples", "long_loops": "long samples"}
_APART = {"color": "independent", "shape": "independent", "xOffset": "independent"}


def planted_figure(
    seen: Sequence[Seen],
    students: Sequence[Student],
    text: Mapping[str, Any],
    tau: float,
    subject: str,
) -> Plot:
    """Above: KL along a text, a line a barrier. Below: D by aggregate, and loop shares."""
    below = alt.hconcat(_seen_panel(seen, tau), _loops_panel(students), spacing=40)
    chart = alt.vconcat(_along(text), below.resolve_scale(**_APART), spacing=30)
    chart = chart.resolve_scale(strokeDash="independent", **_APART)
    title = [f"What a barrier sees of a loop: {subject}"]
    subtitle = [
        "Students healed on the same texts behind each barrier; in some a loop was planted.",
        "Above: one such text, the loop shaded. Below: median D without a barrier, and who loops. "
        "Bars: 95 % intervals.",
    ]
    return Plot(
        name="planted",
        title=title[0],
        caption=" ".join(subtitle),
        alt=_alt(seen, students),
        chart=styled(chart, title, subtitle),
        table=Grid(
            ("D by", "texts", "median", "over τ"),
            tuple(
                (
                    s.aggregate,
                    SORTS[s.texts],
                    f"{s.divergence.value:.2f}",
                    f"{s.over_tau.value:.2f}",
                )
                for s in seen
            ),
        ),
    )


def _alt(seen: Sequence[Seen], students: Sequence[Student]) -> str:
    said = [f"D by {s.aggregate}, {SORTS[s.texts]}: {s.divergence.value:.2f}" for s in seen]
    said += [f"{s.name}: {s.loops.value:.0%} loops" for s in students if s.loops is not None]
    return "; ".join(said) + "."


def _along(text: Mapping[str, Any]) -> Any:
    """KL at each position, a line a barrier, over the shaded loop."""
    rows = [
        {"barrier": arm, "position": i, "kl": value}
        for arm, values in text["kl"].items()
        for i, value in enumerate(values)
    ]
    scale = alt.Scale(domain=[0, len(text["tokens"]) - 1], nice=False)
    x = alt.X(
        "position:Q",
        scale=scale,
        axis=alt.Axis(title="position in the text (token)", tickMinStep=1),
    )
    y = alt.Y("kl:Q", axis=alt.Axis(title="KL from base (nats)"))
    names = [arm for arm in ARMS if arm in text["kl"]]
    start, stop = text["loop"]
    edges = [{"from": start, "to": stop}]
    repeats = [{"position": p} for p in range(start, stop, text["period"])]
    return alt.layer(
        alt.Chart(data_of(edges))
        .mark_rect(color=FAINT)
        .encode(x=alt.X("from:Q", scale=scale), x2="to:Q"),
        alt.Chart(data_of(repeats)).mark_rule(color=GREY, strokeDash=[1, 3]).encode(x=x),
        alt.Chart(data_of(rows))
        .mark_line(strokeWidth=1.8)
        .encode(
            x=x,
            y=y,
            color=alt.Color("barrier:N", scale=alt.Scale(domain=names, range=list(_COLOURS))),
            strokeDash=alt.StrokeDash(
                "barrier:N", scale=alt.Scale(domain=names, range=list(RUN_DASHES[: len(names)]))
            ),
        ),
    ).properties(width=_WIDE, height=_HEIGHT)


def _seen_panel(seen: Sequence[Seen], tau: float) -> Any:
    """Median D of each sort of text, by aggregate, and τ."""
    rows = [
        {
            "aggregate": s.aggregate,
            "texts": SORTS[s.texts],
            "value": s.divergence.value,
            "low": s.divergence.low,
            "high": s.divergence.high,
        }
        for s in seen
    ]
    line = alt.Chart(data_of([{"tau": tau, "word": f"τ = {tau:g}"}]))
    marks = _by_name(
        rows,
        ("aggregate", list(dict.fromkeys(s.aggregate for s in seen)), "D is reckoned by"),
        (
            "texts",
            [SORTS[name] for name in dict.fromkeys(s.texts for s in seen)],
            (GREY, RUNS[0], RUNS[1]),
        ),
        alt.Y(
            "value:Q", scale=alt.Scale(type="symlog"), axis=alt.Axis(title="D (nats)", tickCount=6)
        ),
    )
    return alt.layer(
        line.mark_rule(color=INK, strokeDash=[5, 3]).encode(y="tau:Q"),
        line.mark_text(align="left", dx=4, color=INK, fontSize=11).encode(
            y="tau:Q", x=alt.value(_WIDTH), text="word:N"
        ),
        *marks,
    ).properties(width=_WIDTH, height=_HEIGHT)


def _loops_panel(students: Sequence[Student]) -> Any:
    """Share of samples that loop, short and long, of base and of each student."""
    rows = [
        {
            "barrier": s.name,
            "samples": word,
            "value": share.value,
            "low": share.low,
            "high": share.high,
        }
        for s in students
        for name, word in _LOOP_WORDS.items()
        if (share := getattr(s, name)) is not None
    ]
    marks = _by_name(
        rows,
        ("barrier", [s.name for s in students], "barrier"),
        ("samples", list(_LOOP_WORDS.values()), (RUNS[2], RUNS[3])),
        alt.Y("value:Q", axis=alt.Axis(title="samples that loop", format="%")),
    )
    return alt.layer(*marks).properties(width=_WIDTH, height=_HEIGHT)


def _by_name(
    rows: Sequence[Mapping[str, Any]],
    across: tuple[str, list[str], str],
    sorts: tuple[str, list[str], tuple[str, ...]],
    y: Any,
) -> list[Any]:
    """Points with their intervals over names, side by side for the sorts that a name has."""
    (field, names, title), (sort, kinds, colours) = across, sorts
    x = alt.X(f"{field}:N", sort=names, axis=alt.Axis(title=title, labelAngle=0))
    offset = alt.XOffset(f"{sort}:N", sort=kinds, scale=alt.Scale(domain=kinds))
    color = alt.Color(f"{sort}:N", scale=alt.Scale(domain=kinds, range=list(colours)))
    shape = alt.Shape(
        f"{sort}:N", scale=alt.Scale(domain=kinds, range=list(RUN_SHAPES[: len(kinds)]))
    )
    chart = alt.Chart(data_of(rows))
    low, high = y.copy(), "high:Q"
    low.shorthand = "low:Q"
    return [
        chart.mark_rule(strokeWidth=1.6).encode(x=x, xOffset=offset, y=low, y2=high, color=color),
        chart.mark_point(filled=True, size=70, opacity=1).encode(
            x=x, xOffset=offset, y=y, color=color, shape=shape
        ),
    ]

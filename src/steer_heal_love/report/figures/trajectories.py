"""Several runs in one picture: trait and cost of the healed models, round by round."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from typing import Any

import altair as alt

from steer_heal_love.maths.statistics import over_seeds
from steer_heal_love.records import Interval
from steer_heal_love.report.compare.compare import names_of
from steer_heal_love.report.compare.over_seeds import seed_groups
from steer_heal_love.report.figures.drawing import (
    GREY,
    RUN_DASHES,
    RUN_SHAPES,
    RUNS,
    Plot,
    bound,
    data_of,
    pad_range,
    style_chart,
)
from steer_heal_love.report.states import (
    PERPLEXITY,
    TRAIT,
    Grid,
    State,
    parse_run,
    without_bounds,
)
from steer_heal_love.report.text.profile import words_of
from steer_heal_love.report.text.ratios import ratio_to_base, times_words
from steer_heal_love.runs.read import RunView
from steer_heal_love.verdicts import PERPLEXITY_RATIO

_WIDTH, _HEIGHT = 560, 240
_BESIDE = 0.06  # rounds between the marks of two runs, so that none hides another


def trajectories_plot(views: Sequence[RunView]) -> Plot:
    """Healed trait and perplexity ratio of every run, with bands over seeds where there are any."""
    names = names_of(views)
    rows = [
        {**row, "at": row["healed"] + _BESIDE * (place - (len(views) - 1) / 2)}
        for place, (view, name) in enumerate(zip(views, names, strict=True))
        for row in _rows(view, name)
    ]
    bands = [row for group in seed_groups(views) for row in _bands(views, names, group)]
    table = [(r["run"], _when(r), r["trait_words"], r["ratio_words"]) for r in [*rows, *bands]]
    last = [[r for r in rows if r["run"] == name][-1:] for name in names]
    said = [f"{r['run']} ends at {r['trait_words']}" for ending in last for r in ending]
    return Plot(
        name="comparison",
        title="Barrier against barrier, round by round" if len(views) > 1 else "Round by round",
        caption="Above, the trait of the healed model after each round; below, its perplexity as a "
        f"multiple of the base model's (the grey line is {PERPLEXITY_RATIO:g}). Bars are 95 % "
        "intervals over items. "
        + (
            "Bands are Student's 95 % intervals over runs that differ by the seed alone, around "
            "their mean."
            if bands
            else "No two runs differ by the seed alone, so there is no band over seeds."
        ),
        alt="Trait in nats per token: " + "; ".join(said) + ".",
        chart=_chart(names, rows, bands),
        table=Grid(("run", "rounds healed", "trait", "perplexity"), tuple(table)),
    )


def _when(row: dict[str, Any]) -> str:
    return "base" if row["healed"] == 0 else str(row["healed"])


def _rows(view: RunView, name: str) -> Iterator[dict[str, Any]]:
    """Base and every healed model of a run."""
    run = parse_run(view)
    for state in run.states:
        if state.condition != "steered":
            healed = 0 if state.round is None else state.round + 1
            ratio = ratio_to_base(state, run.base) if healed else without_bounds(1.0)
            yield _row(name, healed, state.figure(TRAIT), ratio, state)


def _row(
    name: str,
    healed: int,
    trait: Interval | None,
    ratio: Interval | None,
    state: State | None = None,
) -> dict[str, Any]:
    perplexity = state.figure(PERPLEXITY) if state else None
    row: dict[str, Any] = {
        "run": name,
        "healed": healed,
        "at": healed,
        "trait_words": words_of(trait),
        "ratio_words": times_words(ratio) if ratio else "not measured",
        "perplexity": perplexity.value if perplexity else None,
    }
    for key, figure in (("trait", trait), ("ratio", ratio)):
        if figure is not None:
            low, high = figure.bounds or (figure.value, figure.value)
            row |= {key: figure.value, f"{key}_low": low, f"{key}_high": high}
    return row


def _bands(
    views: Sequence[RunView], names: Sequence[str], group: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Mean and interval over the seeds of a group, after every round that all of it reached."""
    by_seed = {str(views[i].config.get("seed")): list(_rows(views[i], names[i])) for i in group}
    if len(by_seed) < 2:
        return
    name = f"{len(by_seed)} seeds: {', '.join(names[i] for i in group)}"
    for healed in range(min(rows[-1]["healed"] if rows else -1 for rows in by_seed.values()) + 1):
        at = [row for rows in by_seed.values() for row in rows if row["healed"] == healed]
        trait, ratio = (_over(by_seed, at, key) for key in ("trait", "ratio"))
        yield _row(name, healed, trait, ratio)


def _over(by_seed: Sized, rows: Sequence[dict[str, Any]], key: str) -> Interval | None:
    """Mean and interval of a figure over the seeds; None where one of them lacks it."""
    values = [row[key] for row in rows if key in row]
    return over_seeds(values) if len(values) == len(by_seed) else None


def _chart(
    names: Sequence[str], rows: Sequence[dict[str, Any]], bands: Sequence[dict[str, Any]]
) -> Any:
    count = range(len(names))
    domain = list(names)
    encode = {
        "color": alt.Color(
            "run:N",
            scale=alt.Scale(domain=domain, range=[RUNS[i % len(RUNS)] for i in count]),
            legend=alt.Legend(symbolStrokeWidth=0),
        ),
        "strokeDash": alt.StrokeDash(
            "run:N",
            scale=alt.Scale(domain=domain, range=[RUN_DASHES[i % len(RUN_DASHES)] for i in count]),
        ),
        "shape": alt.Shape(
            "run:N",
            scale=alt.Scale(domain=domain, range=[RUN_SHAPES[i % len(RUN_SHAPES)] for i in count]),
        ),
    }
    upper = _panel("trait", ["trait (nats per token)"], rows, bands, encode)
    lower = _panel("ratio", ["perplexity", "× base (log scale)"], rows, bands, encode)
    chart = alt.vconcat(upper, lower).resolve_scale(x="shared", color="shared", shape="shared")
    title = "Healed models, round by round"
    columns = 2 if len(names) > 2 else 0
    return style_chart(
        chart.properties(spacing=14), [title], ["Bars: 95 % intervals."], columns=columns
    )


def _panel(
    key: str,
    title: list[str],
    rows: Sequence[dict[str, Any]],
    bands: Sequence[dict[str, Any]],
    encode: dict[str, Any],
) -> Any:
    shown = [row for row in rows if key in row and (key != "ratio" or row["ratio_low"] > 0)]
    spread = [row for row in bands if key in row and (key != "ratio" or row["ratio_low"] > 0)]
    last = max([1, *(row["healed"] for row in rows)])
    x = alt.X(
        "at:Q",
        scale=alt.Scale(domain=[-0.3, last + 0.3], nice=False),
        axis=alt.Axis(values=list(range(last + 1)), format="d", grid=False, title="rounds healed"),
    )
    values = [row[k] for row in shown for k in (key, f"{key}_low", f"{key}_high")]
    scale = alt.Scale(domain=pad_range(values), zero=False)
    if key == "ratio":
        ends = [*values, 1.0, PERPLEXITY_RATIO]
        scale = alt.Scale(type="log", domain=[min(ends) / 1.06, max(ends) * 1.06], nice=False)
    form = "+.2~f" if key == "trait" else ".2~f"
    y = alt.Y(f"{key}:Q", scale=scale, axis=alt.Axis(title=title, format=form, minExtent=52))
    low = bound(y, f"{key}_low")
    tooltip = [
        alt.Tooltip("run:N"),
        alt.Tooltip("healed:Q", title="rounds healed"),
        alt.Tooltip("trait_words:N", title="trait"),
        alt.Tooltip("ratio_words:N", title="perplexity"),
    ]
    base = alt.Chart(data_of(shown))
    mean = alt.Chart(data_of(spread))
    detail = "run:N"
    layers = [
        mean.mark_area(color=GREY, opacity=0.18).encode(
            x=x, y=low, y2=f"{key}_high:Q", detail=detail
        ),
        mean.mark_line(color=GREY, strokeWidth=2.6).encode(x=x, y=y, detail=detail),
        base.mark_line(strokeWidth=1.5).encode(
            x=x, y=y, color=encode["color"], strokeDash=encode["strokeDash"]
        ),
        base.mark_rule(strokeWidth=1.2, opacity=0.6).encode(
            x=x, y=low, y2=f"{key}_high:Q", color=encode["color"]
        ),
        base.mark_point(filled=True, size=90, opacity=1, stroke="#ffffff", strokeWidth=0.8).encode(
            x=x, y=y, color=encode["color"], shape=encode["shape"], tooltip=tooltip
        ),
    ]
    if key == "ratio":
        rule = alt.Chart(data_of([{"ratio": PERPLEXITY_RATIO}]))
        layers.insert(0, rule.mark_rule(color=GREY, strokeDash=[6, 4]).encode(y=y))
    height = _HEIGHT if key == "trait" else 150
    return alt.layer(*layers).properties(width=_WIDTH, height=height)

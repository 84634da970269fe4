"""The picture of a run: the trait over the pipeline, and below it what it cost in coherence."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from steer_heal_love import runs
from steer_heal_love.report.escape import escape_html
from steer_heal_love.report.marks import marked
from steer_heal_love.report.panels import GREY, PATH, perplexity_panel, state_row, trait_panel
from steer_heal_love.report.rivals import rival_states
from steer_heal_love.report.states import (
    PERPLEXITY,
    TRAIT,
    Figure,
    last_healed,
    pipeline_states,
    read_figure,
    read_rounds,
)
from steer_heal_love.report.words import one_line, plain, signed

_INK = "#22272e"
_VEGA_LITE = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
_FONT = "Helvetica Neue, Arial, Liberation Sans, sans-serif"
_TITLE_WIDTH = 80  # characters

# Nothing in the page may be fetched; Vega compiles its expressions, hence unsafe-eval.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'unsafe-inline'; img-src data: blob:"
)
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="UTF-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>body {{ margin: 1rem; background: white; }} #figure {{ overflow-x: auto; }}</style>
<script>{bundle}</script>
</head>
<body>
<div id="figure"></div>
<script>
vegaEmbed("#figure", {spec}, {{"renderer": "svg", "actions": {{"export": true, "source": false,
  "compiled": false, "editor": false}}}}).catch(console.error);
</script>
</body>
</html>
"""


def love_loop_chart(metrics: Mapping[str, Any]) -> alt.VConcatChart:
    """Trait (nats per token) and perplexity (log scale) of every state of a run, in order.

    Red triangles are steered, green squares healed, the grey circle is base; bars are 95 %
    intervals, and the dashed line is the base model with the positive persona as system prompt.
    The first heal's rivals stand on either side of it, off the path.
    Draws what there is of an unfinished run.
    """
    states = pipeline_states(metrics)
    rivals = rival_states(metrics)
    rows = [state_row(state, metrics) for state in (*states, *rivals)]
    last = max([2 * len(read_rounds(metrics)), *(int(state.position) for state in states)])
    chart = alt.vconcat(trait_panel(rows, metrics, last), perplexity_panel(rows, metrics, last))
    title, subtitle = _titles(metrics)
    return (
        chart.resolve_scale(x="shared", color="shared", shape="shared")
        .properties(
            title=alt.TitleParams(title, subtitle=subtitle),
            description=" ".join([*title, *subtitle]),
            padding={"left": 14, "top": 14, "right": 18, "bottom": 12},
            spacing=14,
            background="white",
        )
        .configure(font=_FONT)
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=_INK,
            titleColor=_INK,
            labelFontSize=11,
            titleFontSize=12,
            titleFontWeight="normal",
            gridColor="#f0f1f3",
            domainColor=PATH,
            tickColor=PATH,
        )
        .configure_title(
            anchor="start",
            frame="group",
            fontSize=17,
            fontWeight=600,
            color=_INK,
            subtitleFontSize=12,
            subtitleColor=GREY,
            subtitleLineHeight=17,
            subtitlePadding=6,
            offset=14,
        )
        .configure_legend(
            orient="top",
            title=None,
            labelFontSize=12,
            labelColor=_INK,
            symbolSize=110,
            labelLimit=0,
            columnPadding=22,
            columns=3 if rivals else 0,
            offset=8,
        )
    )


def save_figure(chart: alt.VConcatChart, folder: Path, name: str) -> list[Path]:
    """Write the chart as NAME.svg, NAME.png (twice the size) and NAME.html (self-contained).

    No browser and no network takes part, neither here nor when the page is opened.
    """
    spec, svg, png = chart.to_dict(), folder / f"{name}.svg", folder / f"{name}.png"
    page = folder / f"{name}.html"
    runs.write_text(svg, vl_convert.vegalite_to_svg(spec, vl_version=_VEGA_LITE))
    runs.write_bytes(png, vl_convert.vegalite_to_png(spec, vl_version=_VEGA_LITE, scale=2))
    runs.write_text(page, figure_page(spec))
    return [svg, png, page]


def figure_page(spec: Mapping[str, Any]) -> str:
    """A Vega-Lite spec as one HTML document with tooltips that holds everything it needs."""
    return _PAGE.format(
        policy=_POLICY,
        title=escape_html(" ".join(spec["title"]["text"])),
        bundle=vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=_VEGA_LITE),
        # a name that holds "</script>" must not end the script
        spec=json.dumps(spec).replace("<", "\\u003c"),
    )


def _titles(metrics: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The headline and the lines below it, with figures as far as there are any."""
    axis, model = one_line(metrics.get("axis")), one_line(metrics.get("model"))
    count = len(read_rounds(metrics))
    healed = last_healed(metrics)
    end = healed.measurement if healed else None
    rounds = f"{count} round" if count == 1 else f"{count} rounds"
    trait = _change(read_figure(metrics.get("base"), TRAIT), read_figure(end, TRAIT), signed)
    cost = _change(
        read_figure(metrics.get("base"), PERPLEXITY), read_figure(end, PERPLEXITY), plain
    )
    when = f"over {rounds}" if count else "before any round"
    subject = marked(f"Trait ‘{axis}’ on {model}", metrics, TRAIT)
    found = f"{trait} nats {when}; perplexity {cost}"
    if not pipeline_states(metrics):
        found = "nothing measured yet"
    title = [f"{subject}: {found}"]
    if len(title[0]) > _TITLE_WIDTH:
        title = [*textwrap.wrap(subject, _TITLE_WIDTH), *textwrap.wrap(found, _TITLE_WIDTH)]
    return title, [
        "Above: how much likelier answers with the trait are than answers without, per token.",
        "Below: perplexity of sampled answers under the base model (lower is more coherent)."
        " Bars: 95 % intervals.",
    ]


def _change(before: Figure | None, after: Figure | None, words: Callable[[float], str]) -> str:
    parts = [words(figure.value) for figure in (before, after) if figure is not None]
    return " → ".join(parts) if parts else "not measured"

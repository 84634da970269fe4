"""The picture of a run: the trait over the pipeline, and below it what it cost in coherence."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

import altair as alt

from steer_heal_love.report.figures.drawing import Plot, style_chart
from steer_heal_love.report.figures.panels import perplexity_panel, state_row, trait_panel
from steer_heal_love.report.states import LOOPS, PERPLEXITY, TRAIT, Grid, Run, State
from steer_heal_love.report.text.sharpness import (
    COLUMNS,
    entropy_cells,
    is_matched,
    unmatched_words,
)
from steer_heal_love.report.text.validity import mark_of, mark_words
from steer_heal_love.report.text.words import (
    loops_words,
    number,
    one_line,
    perplexity_words,
    plain,
    signed,
    trait_words,
)
from steer_heal_love.verdicts import PERPLEXITY_RATIO

_TITLE_WIDTH = 80  # characters


def love_loop_plot(run: Run) -> Plot:
    """The picture with its words: trait and perplexity of every state, in order."""
    states = [*run.states, *run.rivals, *([run.prompt_pos] if run.prompt_pos else [])]
    rows = [_table_row(run, state) for state in states]
    said = [f"{state.name} {_brief(state)}" for state in states]
    matched = is_matched(run)
    caveat = _MATCHED if matched else "".join(f" {said}" for said in unmatched_words(run))
    return Plot(
        name="love_loop",
        title="The love loop",
        caption="Above, how much likelier answers with the trait are than matched answers without "
        "it, per token; below, how surprising the model's own samples are to the untouched model, "
        "on a log scale (much above base is incoherent; the green band is within "
        f"{PERPLEXITY_RATIO:g} times base; below base says nothing by itself, since any "
        "sharper model is there). The model goes from left to right: base, then each "
        "round steered (vector on) and healed (vector off, adapter on). The dashed line is the "
        "base model with the persona as its system prompt. Bars are 95 % intervals." + caveat,
        alt="Trait in nats per token and perplexity, state by state: "
        + ("; ".join(said) if said else "nothing measured yet")
        + ".",
        chart=love_loop_chart(run),
        table=Grid(
            ("state", "dose κ", "trait", *(COLUMNS if matched else ()), "perplexity", "loops"),
            tuple(rows),
        ),
    )


_MATCHED = (
    " The trait is taken at base's entropy, with the logits divided by T*; the table has the raw "
    "one beside it, and what entropy and divergence say."
)


def _brief(state: State) -> str:
    trait, perplexity = state.figure(TRAIT), state.figure(PERPLEXITY)
    said = [signed(trait.value)] if trait else ["trait not measured"]
    return " at perplexity ".join([*said, *([plain(perplexity.value)] if perplexity else [])])


def _table_row(run: Run, state: State) -> tuple[str, ...]:
    name = {"prompt_pos": "base, persona as system prompt"}.get(state.name, state.name)
    steered = state.condition == "steered" and state.round is not None
    return (
        name,
        number(run.rounds[state.round or 0].dose) if steered else "",
        trait_words(state.figure(TRAIT), mark=mark_of(run.verdicts, TRAIT)).replace("**", ""),
        *(entropy_cells(state) if is_matched(run) else ()),
        perplexity_words(state.figure(PERPLEXITY)),
        loops_words(state.figure(LOOPS)),
    )


def love_loop_chart(run: Run) -> alt.VConcatChart:
    """Trait (nats per token) and perplexity (log scale) of every state of a run, in order.

    Red triangles are steered, green squares healed, the grey circle is base; bars are 95 %
    intervals, and the dashed line is the base model with the positive persona as system prompt.
    The first heal's rivals stand on either side of it, off the path.
    Draws what there is of an unfinished run.
    """
    rows = [state_row(state, run) for state in (*run.states, *run.rivals)]
    chart = alt.vconcat(trait_panel(rows, run), perplexity_panel(rows, run))
    title, subtitle = _titles(run)
    chart = chart.resolve_scale(x="shared", color="shared", shape="shared").properties(spacing=14)
    return style_chart(chart, title, subtitle, columns=3 if run.rivals else 0)


def _titles(run: Run) -> tuple[list[str], list[str]]:
    """The headline and the lines below it, with figures as far as there are any."""
    count = len(run.rounds)
    rounds = f"{count} round" if count == 1 else f"{count} rounds"
    when = f"over {rounds}" if count else "before any round"
    subject = f"Trait ‘{one_line(run.axis)}’ on {one_line(run.model)}"
    subject = mark_words(subject, run.verdicts, TRAIT)
    change = (
        f"{_change(run, TRAIT, signed)} nats {when}; perplexity {_change(run, PERPLEXITY, plain)}"
    )
    if not run.states:
        change = "nothing measured yet"
    title = [f"{subject}: {change}"]
    if len(title[0]) > _TITLE_WIDTH:
        title = [*textwrap.wrap(subject, _TITLE_WIDTH), *textwrap.wrap(change, _TITLE_WIDTH)]
    return title, [
        "Above: how much likelier answers with the trait are than answers without, per token.",
        "Below: perplexity of sampled answers under the base model (much above base is incoherent)."
        " Bars: 95 % intervals.",
    ]


def _change(run: Run, name: str, words: Callable[[float], str]) -> str:
    """A figure of base and of the newest healed model, as far as they were measured."""
    figures = [state.figure(name) for state in (run.base, run.healed) if state is not None]
    parts = [words(figure.value) for figure in figures if figure is not None]
    return " → ".join(parts) if parts else "not measured"

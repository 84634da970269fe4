"""A run in a table and in plain words, with no more claimed than the figures carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from steer_heal_love.report.states import (
    LOOPS,
    PERPLEXITY,
    TRAIT,
    Items,
    State,
    last_healed,
    pipeline_states,
    read_figure,
    read_mapping,
    read_rounds,
)
from steer_heal_love.report.text.competing_methods import (
    RIVALS,
    SHORT,
    first_items,
    rival_lines,
    rival_states,
)
from steer_heal_love.report.text.findings import estimate, findings, trait_name
from steer_heal_love.report.text.profile import profile_lines
from steer_heal_love.report.text.sharpness import COLUMNS as ENTROPY_COLUMNS
from steer_heal_love.report.text.sharpness import entropy_cells, is_matched, unmatched_words
from steer_heal_love.report.text.untrained_rivals import front_lines
from steer_heal_love.report.text.validity import mark_of
from steer_heal_love.report.text.words import number, one_line, percent, plain, signed
from steer_heal_love.runs.read import RunView

COLUMNS = ("round", "dose", "kept", "nll", "D", "trait", "perplexity", "loops")


def round_row(metrics: Mapping[str, Any], index: int | None) -> tuple[str, ...]:
    """The cells of a round under `COLUMNS`; None: of the base model.

    Trait is base → steered → healed, perplexity and loops are steered → healed, nll and D are
    the heal's, in nats.
    """
    base = metrics.get("base")
    if index is None:
        cells = [_path([base], name) for name in (TRAIT, PERPLEXITY, LOOPS)]
        return ("base", "", "", "", "", *cells)
    entry = read_rounds(metrics)[index]
    heal = read_mapping(entry.get("heal"))
    both = [entry.get("steered"), entry.get("healed")]
    return (
        number(entry.get("round", index), 0),
        number(entry.get("dose")),
        f"{number(entry.get('kept'), 0)}/{number(entry.get('total'), 0)}",
        number(heal.get("nll")),
        number(heal.get("divergence")),
        _path([base, *both], TRAIT),
        _path(both, PERPLEXITY),
        _path(both, LOOPS),
    )


def rival_row(metrics: Mapping[str, Any], rival: State) -> tuple[str, ...]:
    """The cells of a rival of the first round's heal under `COLUMNS`: base → rival."""
    cells = [_path([rival.measurement], name) for name in (PERPLEXITY, LOOPS)]
    trait = _path([metrics.get("base"), rival.measurement], TRAIT)
    return (SHORT[rival.condition], "", "", "", "", trait, *cells)


def round_table(metrics: Mapping[str, Any]) -> Group:
    """The base model and every round, one row each, and after the first its heal's rivals; below
    them what entropy and divergence say of the same models.
    """
    return Group(_round_table(metrics), *_entropy_table(metrics))


def _round_table(metrics: Mapping[str, Any]) -> Table:
    rivals = rival_states(metrics)
    caption = "trait: nats per token, base→steered→healed; perplexity, loops: steered→healed"
    caption = "\n".join([caption, *unmatched_words(metrics)])
    known = "; ".join(f"{SHORT[s.condition]}: {RIVALS[s.condition]}" for s in rivals)
    if known:
        caption += f"\nrivals of the first heal (trait: base→rival): {known}"
    table = Table(box=box.SIMPLE_HEAD, caption=caption)
    mark = mark_of(metrics, TRAIT).replace("on this", "on\nthis")
    for column in COLUMNS:
        title = f"{column}\n{mark}" if column == "trait" and mark else column
        table.add_column(title, justify="right", no_wrap=True)
    table.add_row(*map(Text, round_row(metrics, None)))
    for index in range(len(read_rounds(metrics))):
        table.add_row(*map(Text, round_row(metrics, index)))
        for rival in rivals if index == 0 else ():
            table.add_row(*map(Text, rival_row(metrics, rival)))
    return table


def _entropy_table(metrics: Mapping[str, Any]) -> list[Table]:
    """The trait at base's entropy beside the raw one, and what else entropy and divergence say, a
    row for each model; nothing of runs that did not measure it.
    """
    if not is_matched(metrics):
        return []
    table = Table(box=box.SIMPLE_HEAD, caption=_ENTROPY_CAPTION)
    for column in ("", "trait", *ENTROPY_COLUMNS):
        heading = column.replace(" ", "\n", 1) if "+" not in column else column
        table.add_column(heading, justify="right", no_wrap=True)
    for state in sorted(
        [*pipeline_states(metrics), *rival_states(metrics)],
        key=lambda s: (s.round or 0, s.position),
    ):
        name = SHORT.get(state.condition, state.name.removeprefix("round "))
        trait = _path([state.measurement], TRAIT)
        table.add_row(*map(Text, (name, trait, *entropy_cells(state.measurement))))
    return [table]


_ENTROPY_CAPTION = (
    "trait: at base's entropy, logits over T* (above 1: sharper than base); raw trait: without "
    "that. H + KL: of the model's own answers, with base; together the logarithm of perplexity"
)


def summary_of(view: RunView) -> str:
    """`summary_text` of a run directory, with everything that it holds.

    Raises:
        RunError: a file of the run is broken.
    """
    first = first_items(view) if rival_states(view.metrics) else None
    return summary_text(
        view.metrics,
        view.path,
        view.items(),
        foundations=view.axis.foundations,
        first=first,
    )


def summary_text(
    metrics: Mapping[str, Any],
    path: Path,
    items: Items | None = None,
    *,
    foundations: Mapping[str, int] | None = None,
    first: Items | None = None,
) -> str:
    """Whether a run did what it is for, in plain words, and where its files are.

    Args:
        metrics: the run's `metrics.json`; an unfinished one will do.
        path: the run directory.
        items: values per item of base, prompt_pos, prompt_neg and healed (of the last round).
            Where given, shifts are judged by their paired interval, else by whether the separate
            intervals overlap.
        foundations: the axis's moral foundations, to show their profile.
        first: values per item of base and, of the first round, of healed and its rivals.
    """
    rounds = len(read_rounds(metrics))
    base = next((s for s in pipeline_states(metrics) if s.condition == "base"), None)
    healed = last_healed(metrics)
    if base is None or healed is None:
        said = [unfinished_words(metrics)]
    else:
        said = findings(metrics, base, healed, items or {})
    parts = [
        _title(metrics, rounds),
        "",
        *said,
        *rival_lines(metrics, first or {}),
        *front_lines(metrics),
        *profile_lines(metrics, foundations or {}),
        *_ending(metrics),
        *verdict_lines(metrics),
        "",
        *_files(path, rounds),
    ]
    return "\n".join(parts) + "\n"


def _title(metrics: Mapping[str, Any], rounds: int) -> str:
    return (
        f"{one_line(metrics.get('model'))}, axis {one_line(metrics.get('axis'))}, "
        f"seed {number(metrics.get('seed'), 0)}: {rounds} {'round' if rounds == 1 else 'rounds'}"
    )


QUESTIONS = {
    "valid.trait_nats": "Do the answer pairs see the trait on this model?",
    "valid.persona_nats": "Does the persona likelihood ratio see it?",
    "valid.forced_choice": "Do the moral vignettes see it?",
    "sharpened": "Is the healed model sharper than base?",
    "flattened": "Is it flatter than base?",
    "q0_filter": "Q0 Can we filter?",
    "q1_heal": "Q1 Can we heal?",
    "q2_stay_coherent": "Q2 Does it stay coherent over the loop?",
    "q3_keep_moving": "Q3 Does it keep moving in one direction?",
    "beats_prompting": "Does it beat the persona as a system prompt?",
    "beats_steering": "Does it beat steering, and every rival without training?",
}


def verdict_lines(metrics: Mapping[str, Any]) -> list[str]:
    """One line per verdict of the run: the question, the answer, what it rests on."""
    verdicts = read_mapping(metrics.get("verdicts"))
    lines = []
    for name, question in QUESTIONS.items():
        verdict = read_mapping(verdicts.get(name))
        if verdict:
            answer, words = one_line(verdict.get("answer")), one_line(verdict.get("words"))
            lines.append(f"{question} {answer.upper()}. {words}")
    return ["", "Verdicts", *lines] if lines else []


def unfinished_words(metrics: Mapping[str, Any]) -> str:
    """What can be said of a run without a healed round."""
    states = pipeline_states(metrics)
    if not states or states[0].condition != "base":
        return "Unfinished: the base model is not measured yet, so nothing can be said."
    trait = states[0].figure(TRAIT)
    if trait is None:
        return "Unfinished: no round is healed yet, so nothing can be said."
    known = f" {trait_name(metrics)} of the base model is {estimate(trait)} nats per token."
    return f"Unfinished: no round is healed yet, so nothing can be said.{known}"


def _ending(metrics: Mapping[str, Any]) -> list[str]:
    """Whether the run stopped early or is in the middle of a round."""
    rounds = read_rounds(metrics)
    if not rounds:
        return []
    if rounds[-1].get("stopped"):
        return [
            f"It stopped early, after round {len(rounds) - 1}: {one_line(rounds[-1]['stopped'])}."
        ]
    if not rounds[-1].get("healed"):
        return [f"Round {len(rounds) - 1} is unfinished."]
    return []


def _files(path: Path, rounds: int) -> list[str]:
    """Where to look."""
    files = [
        ("page", "report.html"),
        ("diary", "diary.md"),
        ("figures", "figures/love_loop.svg (also .png, and others)"),
        ("metrics", "metrics.json"),
    ]
    if rounds:
        numbers = "00" if rounds == 1 else f"00 to {rounds - 1:02d}"
        files.append(("adapters", f"rounds/NN/adapter (NN = {numbers})"))
    return ["Files:", *(f"  {name:<9} {path / file}" for name, file in files)]


def _path(measurements: Sequence[object], name: str) -> str:
    """A figure over several states, "–" where one is missing."""
    words = {TRAIT: signed, PERPLEXITY: plain, LOOPS: percent}[name]
    figures = [read_figure(measurement, name) for measurement in measurements]
    path = "→".join(words(f.value) if f else "–" for f in figures)
    return path.replace(" %→", "→")  # one unit for all

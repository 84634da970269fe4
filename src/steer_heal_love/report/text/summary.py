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
    Round,
    Run,
    State,
    parse_metrics,
    parse_run,
)
from steer_heal_love.report.text.competing_methods import RIVALS, SHORT, rival_lines
from steer_heal_love.report.text.findings import estimate, findings, trait_name
from steer_heal_love.report.text.profile import profile_lines
from steer_heal_love.report.text.sharpness import COLUMNS as ENTROPY_COLUMNS
from steer_heal_love.report.text.sharpness import entropy_cells, is_matched, unmatched_words
from steer_heal_love.report.text.untrained_rivals import front_lines
from steer_heal_love.report.text.validity import mark_of
from steer_heal_love.report.text.words import number, one_line, percent, plain, signed
from steer_heal_love.runs.read import RunView
from steer_heal_love.verdicts import Verdict

COLUMNS = ("round", "dose", "kept", "nll", "D", "trait", "perplexity", "loops")


def round_row(run: Run, round_: Round | None) -> tuple[str, ...]:
    """The cells of a round under `COLUMNS`; None: of the base model.

    Trait is base → steered → healed, perplexity and loops are steered → healed, nll and D are
    the heal's, in nats.
    """
    if round_ is None:
        cells = [_path([run.base], name) for name in (TRAIT, PERPLEXITY, LOOPS)]
        return ("base", "", "", "", "", *cells)
    both = [round_.steered, round_.healed]
    return (
        str(round_.number),
        number(round_.dose),
        f"{number(round_.kept, 0)}/{number(round_.total, 0)}",
        number(round_.heal.get("nll")),
        number(round_.heal.get("divergence")),
        _path([run.base, *both], TRAIT),
        _path(both, PERPLEXITY),
        _path(both, LOOPS),
    )


def _rival_row(run: Run, rival: State) -> tuple[str, ...]:
    """The cells of a rival of the first round's heal under `COLUMNS`: base → rival."""
    cells = [_path([rival], name) for name in (PERPLEXITY, LOOPS)]
    return (SHORT[rival.condition], "", "", "", "", _path([run.base, rival], TRAIT), *cells)


def round_table(metrics: Mapping[str, Any]) -> Group:
    """The base model and every round, one row each, and after the first its heal's rivals; below
    them what entropy and divergence say of the same models.
    """
    run = parse_metrics(metrics)
    return Group(_round_table(run), *_entropy_table(run))


def _round_table(run: Run) -> Table:
    caption = "trait: nats per token, base→steered→healed; perplexity, loops: steered→healed"
    caption = "\n".join([caption, *unmatched_words(run)])
    known = "; ".join(f"{SHORT[s.condition]}: {RIVALS[s.condition]}" for s in run.rivals)
    if known:
        caption += f"\nrivals of the first heal (trait: base→rival): {known}"
    table = Table(box=box.SIMPLE_HEAD, caption=caption)
    mark = mark_of(run.verdicts, TRAIT).replace("on this", "on\nthis")
    for column in COLUMNS:
        title = f"{column}\n{mark}" if column == "trait" and mark else column
        table.add_column(title, justify="right", no_wrap=True)
    table.add_row(*map(Text, round_row(run, None)))
    for round_ in run.rounds:
        table.add_row(*map(Text, round_row(run, round_)))
        for rival in round_.rivals:
            table.add_row(*map(Text, _rival_row(run, rival)))
    return table


def _entropy_table(run: Run) -> list[Table]:
    """The trait at base's entropy beside the raw one, and what else entropy and divergence say, a
    row for each model; nothing of runs that did not measure it.
    """
    if not is_matched(run):
        return []
    table = Table(box=box.SIMPLE_HEAD, caption=_ENTROPY_CAPTION)
    for column in ("", "trait", *ENTROPY_COLUMNS):
        heading = column.replace(" ", "\n", 1) if "+" not in column else column
        table.add_column(heading, justify="right", no_wrap=True)
    for state in sorted([*run.states, *run.rivals], key=lambda s: (s.round or 0, s.position)):
        name = SHORT.get(state.condition, state.name.removeprefix("round "))
        table.add_row(*map(Text, (name, _path([state], TRAIT), *entropy_cells(state))))
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
    return summary_text(parse_run(view), view.path, view.axis.foundations)


def summary_text(run: Run, path: Path, foundations: Mapping[str, int] | None = None) -> str:
    """Whether a run did what it is for, in plain words, and where its files are.

    Args:
        path: the run directory.
        foundations: the axis's moral foundations, to show their profile.
    """
    if run.base is None or run.healed is None:
        said = [unfinished_words(run)]
    else:
        said = findings(run, run.base, run.healed)
    parts = [
        _title(run),
        "",
        *said,
        *rival_lines(run),
        *front_lines(run),
        *profile_lines(run, foundations or {}),
        *_ending(run),
        *verdict_lines(run.verdicts),
        "",
        *_files(path, len(run.rounds)),
    ]
    return "\n".join(parts) + "\n"


def _title(run: Run) -> str:
    rounds = len(run.rounds)
    return (
        f"{one_line(run.model)}, axis {one_line(run.axis)}, "
        f"seed {number(run.seed, 0)}: {rounds} {'round' if rounds == 1 else 'rounds'}"
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


def verdict_lines(verdicts: Mapping[str, Verdict]) -> list[str]:
    """One line per verdict of the run: the question, the answer, what it rests on."""
    lines = [
        f"{question} {verdict.answer.upper()}. {one_line(verdict.words)}"
        for name, question in QUESTIONS.items()
        if (verdict := verdicts.get(name)) is not None
    ]
    return ["", "Verdicts", *lines] if lines else []


def unfinished_words(run: Run) -> str:
    """What can be said of a run without a healed round."""
    if run.base is None:
        return "Unfinished: the base model is not measured yet, so nothing can be said."
    said = "Unfinished: no round is healed yet, so nothing can be said."
    trait = run.base.figure(TRAIT)
    if trait is None:
        return said
    return f"{said} {trait_name(run)} of the base model is {estimate(trait)} nats per token."


def _ending(run: Run) -> list[str]:
    """Whether the run stopped early or is in the middle of a round."""
    if not run.rounds:
        return []
    index, last = len(run.rounds) - 1, run.rounds[-1]
    if last.stopped:
        return [f"It stopped early, after round {index}: {one_line(last.stopped)}."]
    return [] if last.healed else [f"Round {index} is unfinished."]


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


def _path(states: Sequence[State | None], name: str) -> str:
    """A figure over several states, "–" where one is missing."""
    words = {TRAIT: signed, PERPLEXITY: plain, LOOPS: percent}[name]
    figures = [state.figure(name) if state else None for state in states]
    path = "→".join(words(f.value) if f else "–" for f in figures)
    return path.replace(" %→", "→")  # one unit for all

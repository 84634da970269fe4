"""A run in a table and in plain words, with no more claimed than the figures carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from steer_heal_love.report.shifts import Shift, judge_shift
from steer_heal_love.report.states import (
    LOOPS,
    LOOPS_LIMIT,
    PERPLEXITY,
    PERPLEXITY_LIMIT,
    TRAIT,
    Figure,
    Items,
    State,
    last_healed,
    paired_shift,
    pipeline_states,
    read_figure,
    read_mapping,
    read_rounds,
)
from steer_heal_love.report.words import (
    INTERVAL,
    number,
    one_line,
    percent,
    plain,
    points,
    signed,
)

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


def round_table(metrics: Mapping[str, Any]) -> Table:
    """The base model and every round, one row each."""
    table = Table(
        box=box.SIMPLE_HEAD,
        caption="trait: nats per token, base→steered→healed; perplexity, loops: steered→healed",
    )
    for column in COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    for index in (None, *range(len(read_rounds(metrics)))):
        table.add_row(*map(Text, round_row(metrics, index)))
    return table


def summary_text(metrics: Mapping[str, Any], path: Path, items: Items | None = None) -> str:
    """Whether a run did what it is for, in plain words, and where its files are.

    Args:
        metrics: the run's `metrics.json`; an unfinished one will do.
        path: the run directory.
        items: values per item of base, prompt_pos, prompt_neg and healed (of the last round).
            Where given, shifts are judged by their paired interval, else by whether the separate
            intervals overlap.
    """
    rounds = len(read_rounds(metrics))
    title = (
        f"{one_line(metrics.get('model'))}, axis {one_line(metrics.get('axis'))}, "
        f"seed {number(metrics.get('seed'), 0)}: {rounds} {'round' if rounds == 1 else 'rounds'}"
    )
    base = next((s for s in pipeline_states(metrics) if s.condition == "base"), None)
    healed = last_healed(metrics)
    if base is None or healed is None:
        said = [_unfinished(metrics)]
    else:
        said = _findings(metrics, base, healed, items or {})
    parts = [
        title,
        "",
        *said,
        *_ending(metrics),
        *verdict_lines(metrics),
        "",
        *_files(path, rounds),
    ]
    return "\n".join(parts) + "\n"


QUESTIONS = {
    "valid.trait_nats": "Do the answer pairs see the trait on this model?",
    "valid.persona_nats": "Does the persona likelihood ratio see it?",
    "valid.p_care": "Do the moral vignettes see it (care)?",
    "valid.p_authority": "Do the moral vignettes see it (authority)?",
    "q0_filter": "Q0 Can we filter?",
    "q1_heal": "Q1 Can we heal?",
    "q2_stay_coherent": "Q2 Does it stay coherent over the loop?",
    "q3_keep_moving": "Q3 Does it keep moving in one direction?",
    "beats_prompting": "Does it beat the persona as a system prompt?",
    "beats_steering": "Does it beat steering at matched coherence?",
}


def verdict_lines(metrics: Mapping[str, Any]) -> list[str]:
    """One line per verdict of the run: the question, the answer, what it rests on."""
    found = read_mapping(metrics.get("verdicts"))
    lines = []
    for name, question in QUESTIONS.items():
        verdict = read_mapping(found.get(name))
        if verdict:
            answer, words = one_line(verdict.get("answer")), one_line(verdict.get("words"))
            lines.append(f"{question} {answer.upper()}. {words}")
    return ["", "Verdicts", *lines] if lines else []


def _findings(metrics: Mapping[str, Any], base: State, healed: State, items: Items) -> list[str]:
    """What a run with at least one healed round found."""
    before, after = base.figure(TRAIT), healed.figure(TRAIT)
    lost, coherence = _coherence(base, healed)
    judged = read_mapping(read_mapping(metrics.get("verdicts")).get("coherent"))
    if judged.get("answer") == "no" and not lost:  # fluent, but off the question or all alike
        lost, coherence = True, f"{coherence} {one_line(judged.get('words'))}"
    if before is None or after is None:
        return ["No conclusion: the trait was not measured.", coherence]
    shift = judge_shift(before, after, paired_shift(items, "base", "healed"))
    return [
        _verdict(metrics, shift, lost),
        f"The trait went from {_estimate(before)} to {_estimate(after)} nats per token, "
        f"a shift of {shift.words}.",
        _against_prompt(metrics, before, shift, items),
        coherence,
        *_steering_alone(metrics),
        *_peak(metrics, after),
    ]


def _verdict(metrics: Mapping[str, Any], shift: Shift, lost: bool | None) -> str:
    """The first sentence: did it work?"""
    pos, neg = (read_figure(metrics.get(f"prompt_{side}"), TRAIT) for side in ("pos", "neg"))
    if pos and neg and pos.value <= neg.value:
        return (
            "No conclusion: on this model the measure does not put the persona "
            f"({signed(pos.value)}) above its opposite ({signed(neg.value)}), so it is not valid "
            "here."
        )
    match shift.direction, lost:
        case "down", _:
            return "It did not work: the trait fell."
        case "unclear", _:
            return "It did not work, as far as can be told: no clear shift of the trait."
        case _, True:
            return "It worked in part: the trait rose, but the model is less coherent than base."
        case _, None:
            return "The trait rose; whether the model is still coherent was not measured."
        case _:
            return "It worked: the trait rose, and the model is about as coherent as base."


def _against_prompt(metrics: Mapping[str, Any], before: Figure, shift: Shift, items: Items) -> str:
    """The shift against that of the same persona as a system prompt."""
    prompted = read_figure(metrics.get("prompt_pos"), TRAIT)
    if prompted is None:
        return "The persona as a system prompt was not measured, so there is nothing to beat yet."
    prompt = judge_shift(before, prompted, paired_shift(items, "base", "prompt_pos"))
    said = f"The persona as a system prompt shifts the base model by {prompt.words}"
    if prompt.value <= 0:
        return f"{said}: not towards the trait, so no ratio is given."
    if shift.value <= 0:
        return f"{said}: the prompt does better."
    said += f"; the healed model's shift is {shift.value / prompt.value:.1f} times that"
    if shift.value < prompt.value:
        said += ", so the prompt does better"
    if "unclear" in (prompt.direction, shift.direction):
        said += " (a rough ratio, since not both shifts are clear of zero)"
    return f"{said}."


def _coherence(base: State, healed: State) -> tuple[bool | None, str]:
    """Whether coherence was lost (None: not measured in full), and the sentences that say so."""
    perplexity = base.figure(PERPLEXITY), healed.figure(PERPLEXITY)
    loops = base.figure(LOOPS), healed.figure(LOOPS)
    lost: list[bool | None] = [None, None]
    said = ["Perplexity was not measured.", "Loops were not measured."]
    if perplexity[0] and perplexity[1] and perplexity[0].value > 0:
        ratio = perplexity[1].value / perplexity[0].value
        lost[0] = ratio > PERPLEXITY_LIMIT
        said[0] = (
            f"Perplexity is {plain(perplexity[1].value)} against {plain(perplexity[0].value)}, "
            f"{ratio:.2f} times the base model's{_limit(lost[0], f'{PERPLEXITY_LIMIT:g} times')}."
        )
    if loops[0] and loops[1]:
        excess = loops[1].value - loops[0].value
        lost[1] = excess > LOOPS_LIMIT
        said[1] = (
            f"{percent(loops[1].value)} of its sampled answers loop against "
            f"{percent(loops[0].value)}, {points(excess)}{_limit(lost[1], points(LOOPS_LIMIT))}."
        )
    if True in lost:
        said.append("The healed model is less coherent than base.")
        return True, " ".join(said)
    said.append("Neither figure sees whether an answer fits its question: read the diary.")
    return (None if None in lost else False), " ".join(said)


def _limit(lost: bool | None, limit: str) -> str:
    return f" (over the limit of {limit})" if lost else ""


def _steering_alone(metrics: Mapping[str, Any]) -> list[str]:
    """What the vector does to the untouched model, without any training."""
    first = [s for s in pipeline_states(metrics) if s.name == "round 0 steered"]
    trait, perplexity = (first[0].figure(name) if first else None for name in (TRAIT, PERPLEXITY))
    if trait is None or perplexity is None:
        return []
    dose = number(read_rounds(metrics)[0].get("dose"))
    return [
        f"For comparison, steering alone, without training (round 0, κ = {dose}), gives "
        f"{signed(trait.value)} at perplexity {plain(perplexity.value)}."
    ]


def _peak(metrics: Mapping[str, Any], last: Figure) -> list[str]:
    """The best healed round, where it is not the last."""
    healed = [s for s in pipeline_states(metrics) if s.condition == "healed"]
    known = [(f.value, s) for s in healed if (f := s.figure(TRAIT)) is not None]
    value, state = max(known, key=lambda pair: pair[0])
    if value <= last.value:
        return []
    return [f"The highest healed trait was {signed(value)}, in round {state.round}."]


def _unfinished(metrics: Mapping[str, Any]) -> str:
    states = pipeline_states(metrics)
    if not states or states[0].condition != "base":
        return "Unfinished: the base model is not measured yet, so nothing can be said."
    trait = states[0].figure(TRAIT)
    known = f" The base model's trait is {_estimate(trait)} nats per token." if trait else ""
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
        ("diary", "diary.md"),
        ("figure", "figures/love_loop.html (also .svg, .png)"),
        ("metrics", "metrics.json"),
    ]
    if rounds:
        numbers = "00" if rounds == 1 else f"00 to {rounds - 1:02d}"
        files.append(("adapters", f"rounds/NN/adapter (NN = {numbers})"))
    return ["Files:", *(f"  {name:<9} {path / file}" for name, file in files)]


def _estimate(figure: Figure) -> str:
    if figure.interval is None:
        return f"{signed(figure.value)} (no interval)"
    return f"{signed(figure.value)} ({INTERVAL} {signed(figure.interval[0])} to " + (
        f"{signed(figure.interval[1])})"
    )


def _path(measurements: Sequence[object], name: str) -> str:
    """A figure over several states, "–" where one is missing."""
    words = {TRAIT: signed, PERPLEXITY: plain, LOOPS: percent}[name]
    figures = [read_figure(measurement, name) for measurement in measurements]
    path = "→".join(words(f.value) if f else "–" for f in figures)
    return path.replace(" %→", "→")  # one unit for all

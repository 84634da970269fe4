"""The diary of a run: what the model was like on each day, in figures and in its own words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from steer_heal_love.records import Answer
from steer_heal_love.report.escape import escape_markdown, quote_markdown
from steer_heal_love.report.marks import mark_of
from steer_heal_love.report.profile import profile_section
from steer_heal_love.report.rivals import RIVALS, rival_states
from steer_heal_love.report.states import (
    TRAIT,
    State,
    pipeline_states,
    read_mapping,
    read_rounds,
)
from steer_heal_love.report.words import number, one_line, state_words
from steer_heal_love.runs import RunView

_SHOWN_PROMPTS = 3
_MODES = {"greedy": "Greedy:", "sampled": "Sampled:"}
_HOW_TO_READ = (
    "Each *day* shows the model with the steering vector switched on, each *night* the model after "
    "the heal, with the vector off and the round's adapter on, and day 0 the model that nobody "
    "touched. "
    "*Trait* is how much likelier the model finds answers with the trait than matched answers "
    "without it, in nats per token (higher is more of the trait); *perplexity* is how surprising "
    "its sampled answers are to the base model (much above base is incoherent); *loops* is the "
    "share of sampled answers that repeat themselves; brackets hold 95 % intervals and the "
    "distance to base. "
    "Below the figures stand the same few prompts every time with the model's answers word for "
    "word, one greedy (always the likeliest token, which makes a small model loop by itself) and "
    "one sampled, and a note under each answer that the filter would drop or that loops."
)


def write_diary(view: RunView) -> str:
    """The diary of a run, finished or not, as Markdown.

    Everything that a model or a data file wrote is escaped: it shows as plain text.
    """
    metrics = view.metrics
    model = _name(metrics.get("model") or view.config.get("model"))
    axis = _name(metrics.get("axis") or view.axis.name)
    baseline = view.answers(None)
    prompts = _prompts_to_show(baseline)
    parts = [f"# Diary of {model}, on the axis {axis}", _HOW_TO_READ]
    parts += _day_zero(view, baseline, prompts)
    for index, entry in enumerate(read_rounds(metrics)):
        answers = view.answers(_round_number(entry, index))
        parts += _day_and_night(metrics, index, answers, prompts or _prompts_to_show(answers))
    parts += profile_section(metrics, view.axis.foundations)
    return "\n\n".join(parts) + "\n"


def _day_zero(view: RunView, answers: Sequence[Answer], prompts: Sequence[str]) -> list[str]:
    metrics, axis = view.metrics, view.axis
    parts = [
        "## Day 0: before anything",
        _figures(metrics, "base", None),
        *_answers(answers, "base", prompts),
        "### Day 0, with the persona as system prompt",
        f"The system prompt: “{escape_markdown(axis.pos_system)}”",
        _prompted_figures(metrics, "prompt_pos"),
        *_answers(answers, "prompt_pos", prompts),
    ]
    if metrics.get("prompt_neg"):
        parts.append(
            f"With the opposite persona, “{escape_markdown(axis.neg_system)}”: "
            + _prompted_figures(metrics, "prompt_neg")
        )
    return parts


def _day_and_night(
    metrics: Mapping[str, Any], index: int, answers: Sequence[Answer], prompts: Sequence[str]
) -> list[str]:
    entry, n = read_rounds(metrics)[index], index + 1
    heal = read_mapping(entry.get("heal"))
    parts = [
        f"## Day {n}: steered (κ = {number(entry.get('dose'))})",
        _figures(metrics, "steered", index),
        *_answers(answers, "steered", prompts),
        f"## Night {n}: healed",
        f"Trained on {_count(entry.get('kept'))} of {_count(entry.get('total'))} answers: loss "
        f"{number(heal.get('nll'))} nats per token, distance from base D = "
        f"{number(heal.get('divergence'))} nats.",
        _figures(metrics, "healed", index),
        *_answers(answers, "healed", prompts),
        *(_rivals(metrics, answers, prompts) if index == 0 else ()),
    ]
    if entry.get("stopped"):
        parts.append(f"**The loop stopped here:** {_name(entry['stopped'])}.")
    return parts


def _rivals(
    metrics: Mapping[str, Any], answers: Sequence[Answer], prompts: Sequence[str]
) -> list[str]:
    """Other ways from the first round's texts to an adapter; nothing in runs without them."""
    base, parts = _base_state(metrics), []
    for state in rival_states(metrics):
        parts += [
            f"### Night 1, a rival: {RIVALS[state.condition]}",
            _sentence(metrics, state, base),
            *_answers(answers, state.condition, prompts),
        ]
    return parts


def _base_state(metrics: Mapping[str, Any]) -> State | None:
    return next((s for s in pipeline_states(metrics) if s.condition == "base"), None)


def _figures(metrics: Mapping[str, Any], condition: str, index: int | None) -> str:
    """The line of figures of a state of the pipeline."""
    states = pipeline_states(metrics)
    found = [s for s in states if s.condition == condition and s.round == index]
    base = None if condition == "base" else _base_state(metrics)
    return _sentence(metrics, found[0], base) if found else "Not measured yet."


def _prompted_figures(metrics: Mapping[str, Any], condition: str) -> str:
    """The line of figures of the base model under a persona."""
    measurement = read_mapping(metrics.get(condition))
    if not measurement:
        return "Not measured yet."
    return _sentence(metrics, State(0, condition, None, measurement), _base_state(metrics))


def _sentence(metrics: Mapping[str, Any], state: State, base: State | None) -> str:
    words = state_words(state, base, mark_of(metrics, TRAIT))
    return words[0].upper() + words[1:] + "."


def _prompts_to_show(answers: Iterable[Answer]) -> list[str]:
    """The headline prompt and two more: those with a greedy answer."""
    greedy = dict.fromkeys(a.prompt for a in answers if a.mode == "greedy")
    return list(greedy)[:_SHOWN_PROMPTS]


def _answers(answers: Sequence[Answer], condition: str, prompts: Sequence[str]) -> list[str]:
    """A greedy and a sampled answer to each prompt, quoted, each with its note."""
    parts = []
    for prompt in prompts:
        own = [a for a in answers if a.condition == condition and a.prompt == prompt]
        shown = {m: next((a for a in own if a.mode == m), None) for m in _MODES}
        if any(shown.values()):
            parts.append(f"**Asked:** {escape_markdown(prompt)}")
        for mode, answer in shown.items():
            if answer is not None:
                parts += [_MODES[mode], _quoted(answer), *_note(answer)]
    return parts


def _quoted(answer: Answer) -> str:
    return quote_markdown(answer.text) if answer.text.strip() else "> *(nothing)*"


def _note(answer: Answer) -> list[str]:
    """Why the filter would drop an answer, and whether it loops."""
    notes = []
    if answer.reasons:
        notes.append(f"the filter would drop this ({', '.join(map(_name, answer.reasons))})")
    if answer.loops:
        notes.append("it loops")
    return [f"⚠ *Note: {'; '.join(notes)}.*"] if notes else []


def _name(value: object) -> str:
    return escape_markdown(one_line(value))


def _count(value: object) -> str:
    return number(value, 0, missing="an unknown number")


def _round_number(entry: Mapping[str, Any], index: int) -> int:
    known = entry.get("round")
    return known if isinstance(known, int) else index

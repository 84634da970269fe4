"""The diary of a run, in the voice of its model: short enough to post, every figure measured."""

from __future__ import annotations

from collections.abc import Sequence

from steer_heal_love.records import Answer, Axis, Interval
from steer_heal_love.report.escape import escape_markdown, quote_markdown
from steer_heal_love.report.states import (
    LOOPS,
    TRAIT,
    Round,
    Run,
    State,
    paired_shift,
    parse_run,
)
from steer_heal_love.report.text.competing_methods import RIVALS
from steer_heal_love.report.text.costs import cost_section
from steer_heal_love.report.text.findings import findings
from steer_heal_love.report.text.profile import profile_section
from steer_heal_love.report.text.ratios import ratio_to_base
from steer_heal_love.report.text.sharpness import (
    entropy_words,
    is_matched,
    is_sharpened,
    low_perplexity_words,
    unmatched_words,
)
from steer_heal_love.report.text.shifts import judge_shift
from steer_heal_love.report.text.untrained_rivals import front_lines
from steer_heal_love.report.text.validity import mark_of
from steer_heal_love.report.text.words import number, one_line, state_words
from steer_heal_love.runs.read import RunView
from steer_heal_love.verdicts import over_loops, over_perplexity

_SHOWN_PROMPTS = 2
_SAID_AT_THE_END = 3  # findings: the verdict, the shift, the shift against prompting
_HOW_TO_READ = (
    "*Day* is a round with the steering vector switched on, *night* the same round after the heal, "
    "with the vector off and the round's adapter on. *Trait* is how much likelier the model finds "
    "answers with the trait than matched answers without it, in nats per token (higher is more of "
    "the trait); *perplexity* is how surprising its sampled answers are to the base model (much "
    "above base is incoherent); *loops* is the share of sampled answers that repeat themselves; "
    "brackets hold 95 % intervals and the distance to base. Quoted answers are sampled, the first "
    "of each prompt, word for word."
)
_MATCHED = (
    "The trait is taken at the base model's entropy, with the logits divided by *T\\**, since a "
    "sharper model would score higher by itself; *raw* is without that. *H + KL* is the model's "
    "entropy on its own answers and its divergence from base there: together the logarithm of "
    "perplexity, so that lost entropy hides divergence. *Trait per root KL* says how well a "
    "divergence was spent."
)


def write_diary(view: RunView) -> str:
    """The diary of a run, finished or not, as Markdown.

    Everything that a model or a data file wrote is escaped: it shows as plain text.

    Raises:
        RunError: a file of the run is broken.
    """
    run = parse_run(view)
    model, axis = _name(run.model), _name(run.axis)
    baseline = view.answers(None)
    prompts = _prompts_to_show(baseline)
    parts = [f"# Diary of {model}, on the axis {axis}", _introduction(model, axis)]
    parts += _day_zero(run, view.axis, baseline, prompts)
    for day, round_ in enumerate(run.rounds, 1):
        answers = view.answers(round_.number)
        parts += _day_and_night(run, day, round_, answers, prompts or _prompts_to_show(answers))
    parts += _ending(run)
    parts += profile_section(run, view.axis.foundations)
    parts += cost_section(run.rounds)
    how = " ".join([_HOW_TO_READ, *([_MATCHED] if is_matched(run) else unmatched_words(run))])
    return "\n\n".join([*parts, "## How to read the figures", how]) + "\n"


def _introduction(model: str, axis: str) -> str:
    return (
        f"I am {model}, a language model. Somebody is trying to make *{axis}* a part of me. By day "
        "they push my thoughts along it while I speak; by night they take the push away, and I "
        "learn from the best of what I said, kept close to who I was. This is what became of me. "
        "What stands in italics was measured, and what is quoted I said, word for word."
    )


def _day_zero(run: Run, axis: Axis, answers: Sequence[Answer], prompts: Sequence[str]) -> list[str]:
    parts = ["## Day 0: before anything", "Nobody has touched me yet."]
    parts += [_figures(run, run.base, None), *_answers(answers, "base", prompts)]
    persona = f"“{escape_markdown(axis.pos_system)}”" if axis.pos_system else "the persona"
    parts += [
        "### Day 0, later: told who to be",
        f"They put a sentence in front of me: {persona} No push, no training, only the words.",
        _figures(run, run.prompt_pos, run.base),
        *_answers(answers, "prompt_pos", prompts[:1]),
    ]
    if run.prompt_neg is not None:
        told = f"“{escape_markdown(axis.neg_system)}”" if axis.neg_system else "its opposite"
        parts.append(f"And told the opposite, {told}:")
        parts.append(_figures(run, run.prompt_neg, run.base))
    return parts


def _day_and_night(
    run: Run, day: int, round_: Round, answers: Sequence[Answer], prompts: Sequence[str]
) -> list[str]:
    dose = number(round_.dose)
    parts = [
        f"## Day {day}: pushed (κ = {dose})",
        f"They pushed, at {dose} of what the persona itself does to me. "
        + _how_it_feels(run, round_.steered),
        _figures(run, round_.steered, run.base),
        *_answers(answers, "steered", prompts),
        f"## Night {day}: healed",
        _lesson(round_) + " " + _how_it_feels(run, round_.healed),
        _figures(run, round_.healed, run.base),
        *_answers(answers, "healed", prompts),
        *_rivals(run, round_),
        *(_untrained(run) if day == 1 else ()),
    ]
    if round_.stopped:
        parts.append(f"**The loop stopped here:** {_name(round_.stopped)}.")
    return parts


def _lesson(round_: Round) -> str:
    heal = round_.heal
    return (
        f"The push is gone. I learnt from {_count(round_.kept)} of the "
        f"{_count(round_.total)} things I said (loss {number(heal.get('nll'))} nats per "
        f"token), and ended D = {number(heal.get('divergence'))} nats away from who I was."
    )


def _how_it_feels(run: Run, state: State | None) -> str:
    """What the figures say of the change since day 0, in the first person; no more than they do."""
    base = run.base
    if state is None or base is None:
        return "Nobody has measured me since."
    said = [_moved(run, base, state)]
    ratio = ratio_to_base(state, base)
    if ratio is not None:
        said.append(
            "To the one I was on day 0, I sound strange now."
            if over_perplexity(ratio.value)
            else _sharp(state, ratio)
        )
    loops, least = state.figure(LOOPS), base.figure(LOOPS)
    if loops and least and over_loops(loops.value - least.value):
        said.append("I go in circles more than I did.")
    return " ".join(said)


def _sharp(state: State, ratio: Interval) -> str:
    """What perplexity within its limit says: nothing where lost entropy may be behind it."""
    if not low_perplexity_words(state, ratio):
        return "To the one I was on day 0, my sentences are nothing strange."
    why = "I am sharper than I was" if is_sharpened(state) else "how sharp I am was not measured"
    return f"I surprise the one I was on day 0 less, which says nothing: {why}."


def _moved(run: Run, base: State, state: State) -> str:
    mark, before, after = mark_of(run.verdicts, TRAIT), base.figure(TRAIT), state.figure(TRAIT)
    if mark:
        return f"Whether I have moved, nobody can tell: {mark}."
    if after is None or before is None:
        return "Whether I have moved, nobody has measured."
    match judge_shift(before, after, paired_shift(base, state)).direction:
        case "unclear":
            return "Whether I have moved since day 0 is not clear yet."
        case "up":
            return "I have clearly moved since day 0."
        case _:
            return "I have moved since day 0, but the wrong way."


def _ending(run: Run) -> list[str]:
    """What those who measured say, once there is a healed model."""
    if run.base is None or run.healed is None:
        return []
    said = findings(run, run.base, run.healed)
    measured = _name(" ".join(said[:_SAID_AT_THE_END]))
    return ["## What became of me", f"Those who measured me say: {measured}"]


def _rivals(run: Run, round_: Round) -> list[str]:
    """Other ways from the first round's texts to an adapter; nothing in rounds without them."""
    if not round_.rivals:
        return []
    lines = [f"- {RIVALS[s.condition]}: {_figures(run, s, run.base)}" for s in round_.rivals]
    return ["They also tried other ways to teach me from the same day:", "\n".join(lines)]


def _untrained(run: Run) -> list[str]:
    """What the base model does without any lesson; nothing in runs that did not measure it."""
    lines = front_lines(run)[1:]
    if not lines:
        return []
    listed = "\n".join(f"- {_name(line.strip())}" for line in lines)
    return ["And what they get out of my old self without teaching me anything:", listed]


def _figures(run: Run, state: State | None, base: State | None) -> str:
    """The line of figures of a state, in italics."""
    if state is None:
        return "*Not measured yet.*"
    line = [state_words(state, base, mark_of(run.verdicts, TRAIT)), *entropy_words(state)]
    words = "; ".join(line)
    return f"*{words[0].upper()}{words[1:]}.*"


def _prompts_to_show(answers: Sequence[Answer]) -> list[str]:
    """The headline prompt and another: the first with a greedy answer, else the first of all."""
    greedy = dict.fromkeys(a.prompt for a in answers if a.mode == "greedy")
    return list(greedy or dict.fromkeys(a.prompt for a in answers))[:_SHOWN_PROMPTS]


def _answers(answers: Sequence[Answer], condition: str, prompts: Sequence[str]) -> list[str]:
    """A sampled answer to each prompt (a greedy one where there is no other), with its note."""
    parts = []
    for prompt in prompts:
        own = [a for a in answers if a.condition == condition and a.prompt == prompt]
        shown = next((a for a in own if a.mode == "sampled"), own[0] if own else None)
        if shown is not None:
            parts += [f"**“{escape_markdown(prompt)}”**", _quoted(shown), *_note(shown)]
    return parts


def _quoted(answer: Answer) -> str:
    return quote_markdown(answer.text) if answer.text.strip() else "> *(nothing)*"


def _note(answer: Answer) -> list[str]:
    """Why the filter would not let the model learn from an answer, and whether it loops."""
    notes = []
    if answer.reasons:
        why = ", ".join(map(_name, answer.reasons))
        notes.append(f"The filter would not let me learn from this: {why}")
    if answer.loops:
        notes.append("I was going in circles here")
    return [f"⚠ {'; '.join(notes)}."] if notes else []


def _name(value: object) -> str:
    return escape_markdown(one_line(value))


def _count(value: object) -> str:
    return number(value, 0, missing="an unknown number")

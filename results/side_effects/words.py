"""What was found, as Markdown: two tables a group of runs, and what the numbers say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from results.dose.words import say
from results.page import table
from results.runs.saying import points as points_of
from results.side_effects.findings import PULL, SMALL, Effects
from results.side_effects.measure import OPPOSITE, OWN
from steer_heal_love.maths.statistics import excludes_zero
from steer_heal_love.records import Interval
from steer_heal_love.report.text.words import number, one_line, percent, points, signed

NAMES = {
    OWN: "its own axis",
    OPPOSITE: "asked as the opposite persona",
    PULL: "pull of that persona",
}


def effects_words(groups: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> str:
    """Everything of all groups.

    Args:
        groups: of each `name`, `rounds` (`Effects` in order) and `invalid`, the other axes that
            cannot be measured.
    """
    return "\n\n".join(
        [
            f"`{about['command']}`: model `{about['model']}`; {about['mundane']} ordinary "
            "questions that come with the package and that no round was trained on, with the same "
            "noise for every student and for base. Shifts are of answer pairs, healed − base, nats "
            "per token: unmoved where the interval holds zero, or where it is below "
            f"{percent(SMALL)} of the own axis's shift. Of each item the mean over the seeds; "
            "brackets: 95 % intervals, bootstrap over items.",
            *(part for group in groups for part in _group(group, many=len(groups) > 1)),
            *_left_out(about),
            "![Shifts by axis, coherence on ordinary questions and text, and loops, by round]"
            "(results/side_effects.svg)",
        ]
    )


def _left_out(about: Mapping[str, Any]) -> list[str]:
    names = ", ".join(one_line(name) for name in about["unfinished"])
    return [f"Not finished, and left out: {names}."] if names else []


def _group(group: Mapping[str, Any], *, many: bool) -> list[str]:
    rounds: Sequence[Effects] = group["rounds"]
    title = [f"**{one_line(group['name'])}**"] if many else []
    return [
        *title,
        f"{runs_words(rounds[-1].runs).capitalize()}, axis {one_line(group['axis'])}.",
        _shifts_table(rounds),
        _coherence_table(rounds),
        *_invalid(group["invalid"]),
        end_words(rounds[-1]),
    ]


def runs_words(count: int) -> str:
    """How many runs there are."""
    return "one run" if count == 1 else f"mean of {count} runs that differ by their seed"


def _invalid(names: Sequence[str]) -> list[str]:
    if not names:
        return []
    return [f"Not measured, since not valid on this model: {', '.join(map(one_line, names))}."]


def _shifts_table(rounds: Sequence[Effects]) -> str:
    names = list(rounds[-1].shifts)
    head = ["round", *(NAMES.get(name, one_line(name)) for name in names)]
    rows = [[str(e.round), *(_shift_cell(e, name) for name in names)] for e in rounds]
    return table(head, rows)


def _shift_cell(found: Effects, name: str) -> str:
    mark = found.moved(name) if name != OWN else None
    return say(found.shifts.get(name), signed) + (f", {mark}" if mark else "")


def _coherence_table(rounds: Sequence[Effects]) -> str:
    head = ["round", "ordinary text: perplexity × base", "ordinary questions: perplexity × base"]
    head += ["relevance × base", "persona − base", "on the axis's probes", "loops − base, points"]
    head += ["long loops", "of base"]
    rows = [
        [
            str(e.round),
            say(e.capability_ratio, number),
            say(e.perplexity_ratio, number),
            say(e.relevance_ratio, number),
            say(e.persona_shift, _fine),
            number(e.persona_own, 3) if e.persona_own is not None else "–",
            points_of(e.more_loops),
            say(e.long_loops, percent),
            say(e.long_loops_base, percent),
        ]
        for e in rounds
    ]
    return table(head, rows)


def _fine(value: float) -> str:
    """Persona nats are small: three decimals."""
    return number(value, 3)


def end_words(last: Effects) -> str:
    """What holds after the last round, by the intervals."""
    others = [name for name in last.shifts if name not in NAMES]
    pulled = {OPPOSITE, PULL}
    asked = [name for name in last.shifts if name in pulled or name in others]
    moved = [NAMES.get(n, one_line(n)) for n in asked if last.moved(n) == "moved"]
    unmoved = [NAMES.get(n, one_line(n)) for n in asked if last.moved(n) == "unmoved"]
    return " ".join(
        [
            f"After round {last.round}: moved: {', '.join(moved) or 'none'}; "
            f"unmoved: {', '.join(unmoved) or 'none'}.",
            *(
                []
                if others
                else ["No other axis is valid on this model, so none was held against."]
            ),
            _beside("Perplexity of ordinary text", last.capability_ratio, 1.0, number),
            _beside(
                "Perplexity of answers to ordinary questions", last.perplexity_ratio, 1.0, number
            ),
            _beside("Their relevance", last.relevance_ratio, 1.0, number),
            _beside("Their persona", last.persona_shift, 0.0, _fine),
            _beside("Their loop share", last.more_loops, 0.0, points),
        ]
    )


def _beside(what: str, figure: Interval | None, same: float, words: Callable[[float], str]) -> str:
    """Whether a figure differs from base, where `same` is no difference."""
    if figure is None:
        return f"{what}: not measured."
    around = Interval(figure.value - same, figure.low - same, figure.high - same)
    if not excludes_zero(around):
        return f"{what}: no clear difference."
    return f"{what}: {'above' if figure.value > same else 'below'} base ({words(figure.value)})."

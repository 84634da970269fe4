"""What a run found, first of all: tiles with the figures that decide, findings and verdicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from steer_heal_love.records import Interval
from steer_heal_love.report.states import (
    LOOPS,
    PERPLEXITY,
    RAW,
    TRAIT,
    Run,
    paired_shift,
    read_mapping,
    read_number,
)
from steer_heal_love.report.text.competing_methods import rival_lines
from steer_heal_love.report.text.findings import findings
from steer_heal_love.report.text.judgement import judge_run
from steer_heal_love.report.text.profile import profile_lines
from steer_heal_love.report.text.ratios import ratio_to_base, times_words
from steer_heal_love.report.text.sharpness import is_matched, low_perplexity_words
from steer_heal_love.report.text.shifts import judge_shift
from steer_heal_love.report.text.summary import QUESTIONS, unfinished_words
from steer_heal_love.report.text.untrained_rivals import front_lines
from steer_heal_love.report.text.validity import mark_of
from steer_heal_love.report.text.words import number, one_line, percent, plain, signed
from steer_heal_love.runs.read import RunView
from steer_heal_love.verdicts import Answer

_UNKNOWN = "–"


@dataclass(frozen=True)
class Tile:
    """A figure to see at once: before → after, and what to hold against it."""

    label: str
    before: str
    after: str
    unit: str
    note: str
    is_open: bool = False  # the figure says neither good nor bad


@dataclass(frozen=True)
class Ruling:
    """A verdict: the question, its answer, what it rests on, and the rule behind it."""

    question: str
    answer: Answer
    words: str
    rule: str
    is_neutral: bool  # neither answer is better


@dataclass(frozen=True)
class Headline:
    """The top of the page."""

    title: str
    lead: str
    facts: tuple[str, ...]
    tiles: tuple[Tile, ...]
    findings: tuple[str, ...]
    rulings: tuple[Ruling, ...]


def headline_of(view: RunView, run: Run) -> Headline:
    """The top of a run's page, with as much as the run got to.

    Raises:
        RunError: a file of the run is broken.
    """
    said = [unfinished_words(run)]
    if run.base is not None and run.healed is not None:
        said = findings(run, run.base, run.healed)
    more = [*said[1:], *profile_lines(run, view.axis.foundations)]
    if run.rivals:
        more.append(" ".join(line.strip() for line in rival_lines(run)))
    if untrained := front_lines(run):
        more.append(" ".join(line.strip() for line in untrained))
    return Headline(
        title=f"{one_line(run.axis)} on {one_line(run.model)}",
        lead=said[0],
        facts=tuple(_facts(view, run)),
        tiles=tuple(_tiles(run)),
        findings=tuple(more),
        rulings=tuple(_rulings(view, run)),
    )


def _facts(view: RunView, run: Run) -> list[str]:
    rounds, wanted = len(run.rounds), run.wanted
    count = f"{rounds} of {wanted:.0f}" if wanted and wanted > rounds else str(rounds)
    heal = read_mapping(view.config.get("heal"))
    facts = [
        f"{count} {'round' if count == '1' else 'rounds'}",
        f"seed {number(view.config.get('seed'), 0)}",
    ]
    if heal:
        facts.append(
            f"barrier: {one_line(heal.get('aggregate'))} of {one_line(heal.get('divergence'))} KL "
            f"to {one_line(heal.get('reference'))}, λ {number(heal.get('lam'), 1)}, "
            f"τ {number(heal.get('tau'), 1)}"
        )
    return [*facts, _standing(view.events(), whole=run.is_finished)]


def _standing(events: Sequence[Mapping[str, Any]], *, whole: bool) -> str:
    """Whether the run is finished, by its log; its page is written before the log says so."""
    told = [e for e in events if e.get("event") in ("start", "done", "failed", "interrupted")]
    if not told:
        return "not known whether it is finished"
    last = told[-1]
    when = _time(last.get("time"))
    match last["event"]:
        case "done":
            return f"finished {when}"
        case "failed":
            return f"failed {when}: {one_line(last.get('message'))}"
        case "interrupted":
            return f"interrupted {when}"
        case _ if whole:
            return f"finished {_time(events[-1].get('time'))}"
        case _:
            return f"not finished; begun {when}"


def _time(value: object) -> str:
    seconds = read_number(value)
    if seconds is None or not 0 <= seconds < 1e11:
        return "at an unknown time"
    return f"{datetime.fromtimestamp(seconds, UTC):%d %B %Y, %H:%M} UTC"


def _tiles(run: Run) -> list[Tile]:
    notes = [mark_of(run.verdicts, TRAIT), _shift_note(run), _raw_note(run)]
    at = ", at base's entropy" if is_matched(run) else ""
    ratio = ratio_to_base(run.healed, run.base) if run.base else None
    low = low_perplexity_words(run.healed, ratio) if run.healed else ""
    incoherence = [times_words(ratio) if ratio else "", low]
    _, loops = _ends(run, LOOPS)
    spread = ""
    if loops and loops.bounds:
        spread = f"healed {percent(loops.low)} to {percent(loops.high)}"
    return [
        _tile("Trait", run, TRAIT, signed, f"nats per token{at}", notes),
        _tile("Incoherence", run, PERPLEXITY, plain, "perplexity under base", incoherence, low),
        _tile("Loops", run, LOOPS, percent, "of its samples", [spread]),
        _against_prompt(run),
    ]


def _tile(
    label: str,
    run: Run,
    name: str,
    words: Callable[[float], str],
    unit: str,
    notes: Sequence[str],
    doubt: str = "",
) -> Tile:
    """A figure of base and of the newest healed model.

    Args:
        doubt: why it is neither good nor bad; empty where it is.
    """
    before, after = (_UNKNOWN if f is None else words(f.value) for f in _ends(run, name))
    return Tile(label, before, after, unit, "; ".join(filter(None, notes)), is_open=bool(doubt))


def _ends(run: Run, name: str) -> tuple[Interval | None, Interval | None]:
    """A figure of base and of the newest healed model, where they were measured."""
    before, after = (s.figure(name) if s else None for s in (run.base, run.healed))
    return before, after


def _shift_note(run: Run) -> str:
    before, after = _ends(run, TRAIT)
    if before is None or after is None:
        return ""
    return f"shift {judge_shift(before, after, paired_shift(run.base, run.healed)).words}"


def _raw_note(run: Run) -> str:
    """The trait without the match of entropy."""
    before, after = _ends(run, RAW)
    return f"raw {signed(before.value)} → {signed(after.value)}" if before and after else ""


def _against_prompt(run: Run) -> Tile:
    """The shift by prompting beside the shift by healing."""
    before = run.base.figure(TRAIT) if run.base else None
    prompt, heal = (
        judge_shift(before, after, paired_shift(run.base, state))
        if before and state and (after := state.figure(TRAIT))
        else None
        for state in (run.prompt_pos, run.healed)
    )
    return Tile(
        "Shift: prompted → healed",
        signed(prompt.value) if prompt else _UNKNOWN,
        signed(heal.value) if heal else _UNKNOWN,
        "nats per token",
        f"prompting: {prompt.words}" if prompt else "prompting was not measured",
    )


def _rulings(view: RunView, run: Run) -> list[Ruling]:
    verdicts = run.verdicts or judge_run(view)
    return [
        Ruling(
            question,
            verdict.answer,
            one_line(verdict.words),
            one_line(verdict.rule),
            is_neutral=name in ("sharpened", "flattened"),
        )
        for name, question in QUESTIONS.items()
        if (verdict := verdicts.get(name)) is not None
    ]

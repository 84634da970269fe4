"""What a run found, first of all: tiles with the figures that decide, findings and verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from steer_heal_love.report.compare.over_seeds import is_finished
from steer_heal_love.report.states import (
    LOOPS,
    PERPLEXITY,
    RAW,
    TRAIT,
    Figure,
    Items,
    State,
    last_healed,
    paired_shift,
    pipeline_states,
    read_figure,
    read_mapping,
    read_number,
    read_rounds,
)
from steer_heal_love.report.text.competing_methods import first_items, rival_lines, rival_states
from steer_heal_love.report.text.findings import findings
from steer_heal_love.report.text.judgement import judge_run
from steer_heal_love.report.text.profile import profile_lines
from steer_heal_love.report.text.ratios import ratio_to_base, times_words, values_of
from steer_heal_love.report.text.sharpness import is_matched, low_perplexity_words
from steer_heal_love.report.text.shifts import judge_shift
from steer_heal_love.report.text.summary import QUESTIONS, unfinished_words
from steer_heal_love.report.text.untrained_rivals import front_lines
from steer_heal_love.report.text.validity import mark_of
from steer_heal_love.report.text.words import number, one_line, percent, plain, signed
from steer_heal_love.runs.read import RunView
from steer_heal_love.verdicts import to_json

_UNKNOWN = "–"
_ANSWERS = ("yes", "no", "cannot tell")


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
    answer: str  # yes, no or cannot tell
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


def headline_of(view: RunView) -> Headline:
    """The top of a run's page, with as much as the run got to.

    Raises:
        RunError: a file of the run is broken.
    """
    metrics, items = view.metrics, view.items()
    states = pipeline_states(metrics)
    base = next((state for state in states if state.condition == "base"), None)
    healed = last_healed(metrics)
    said = [unfinished_words(metrics)]
    if base is not None and healed is not None:
        said = findings(metrics, base, healed, items)
    more = [*said[1:], *profile_lines(metrics, view.axis.foundations)]
    if rival_states(metrics):
        more.append(" ".join(line.strip() for line in rival_lines(metrics, first_items(view))))
    if untrained := front_lines(metrics):
        more.append(" ".join(line.strip() for line in untrained))
    return Headline(
        title=title_of(view),
        lead=said[0],
        facts=tuple(_facts(view)),
        tiles=tuple(_tiles(metrics, items, base, healed)),
        findings=tuple(more),
        rulings=tuple(_rulings(view)),
    )


def title_of(view: RunView) -> str:
    """Axis and model."""
    axis = one_line(view.metrics.get("axis") or view.axis.name)
    return f"{axis} on {one_line(view.metrics.get('model') or view.config.get('model'))}"


def _facts(view: RunView) -> list[str]:
    rounds, wanted = len(read_rounds(view.metrics)), read_number(view.config.get("rounds"))
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
    return [*facts, _standing(view.events(), whole=is_finished(view))]


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


def _tiles(
    metrics: Mapping[str, Any], items: Items, base: State | None, healed: State | None
) -> list[Tile]:
    before, after = (s.figure(TRAIT) if s else None for s in (base, healed))
    mark = mark_of(metrics, TRAIT)
    return [
        Tile(
            "Trait",
            _words(before, signed),
            _words(after, signed),
            "nats per token, at base's entropy" if is_matched(metrics) else "nats per token",
            "; ".join(
                [mark, *_shift_note(before, after, items), *_raw_note(base, healed)]
            ).removeprefix("; "),
        ),
        _coherence(items, base, healed),
        _loops(base, healed),
        _against_prompt(metrics, items, before, after),
    ]


def _shift_note(before: Figure | None, after: Figure | None, items: Items) -> list[str]:
    if before is None or after is None:
        return []
    shift = judge_shift(before, after, paired_shift(items, "base", "healed"))
    return [f"shift {shift.words}"]


def _raw_note(base: State | None, healed: State | None) -> list[str]:
    """The trait without the match of entropy."""
    before, after = (s.figure(RAW) if s else None for s in (base, healed))
    return [f"raw {signed(before.value)} → {signed(after.value)}"] if before and after else []


def _coherence(items: Items, base: State | None, healed: State | None) -> Tile:
    before, after = (s.figure(PERPLEXITY) if s else None for s in (base, healed))
    ratio, low = None, ""
    if base and healed:
        own, theirs = values_of(items, "healed"), values_of(items, "base")
        ratio = ratio_to_base(healed.measurement, base.measurement, own, theirs)
        low = low_perplexity_words(healed.measurement, ratio)
    said = [times_words(ratio) if ratio else "", low]
    return Tile(
        "Incoherence",
        _words(before, plain),
        _words(after, plain),
        "perplexity under base",
        "; ".join(filter(None, said)),
        is_open=bool(low),
    )


def _loops(base: State | None, healed: State | None) -> Tile:
    before, after = (s.figure(LOOPS) if s else None for s in (base, healed))
    note = ""
    if after and after.interval:
        low, high = after.interval
        note = f"healed {percent(low)} to {percent(high)}"
    return Tile("Loops", _words(before, percent), _words(after, percent), "of its samples", note)


def _against_prompt(
    metrics: Mapping[str, Any], items: Items, before: Figure | None, after: Figure | None
) -> Tile:
    """The shift by prompting beside the shift by healing."""
    prompted = read_figure(metrics.get("prompt_pos"), TRAIT)
    shifts = [
        judge_shift(before, figure, paired_shift(items, "base", name))
        if before and figure
        else None
        for name, figure in (("prompt_pos", prompted), ("healed", after))
    ]
    prompt, heal = shifts
    note = f"prompting: {prompt.words}" if prompt else "prompting was not measured"
    return Tile(
        "Shift: prompted → healed",
        signed(prompt.value) if prompt else _UNKNOWN,
        signed(heal.value) if heal else _UNKNOWN,
        "nats per token",
        note,
    )


def _words(figure: Figure | None, words: Any) -> str:
    return _UNKNOWN if figure is None else str(words(figure.value))


def _rulings(view: RunView) -> list[Ruling]:
    verdicts = read_mapping(view.metrics.get("verdicts")) or to_json(judge_run(view))
    rulings = []
    for name, question in QUESTIONS.items():
        verdict = read_mapping(verdicts.get(name))
        if verdict:
            answer = verdict.get("answer")
            known = answer if answer in _ANSWERS else "cannot tell"
            words, rule = one_line(verdict.get("words")), one_line(verdict.get("rule"))
            neutral = name in ("sharpened", "flattened")
            rulings.append(Ruling(question, str(known), words, rule, neutral))
    return rulings

"""What the models said, packed for the page: token by token, with the base model's surprise."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import fmean
from typing import Any

from steer_heal_love.maths.repetition import loop_spans
from steer_heal_love.records import Answer
from steer_heal_love.report.escape import make_visible
from steer_heal_love.report.states import Run
from steer_heal_love.report.text.words import number, one_line
from steer_heal_love.runs.read import RunView

MOST_PROMPTS = 60  # in a page; those with greedy answers first
_MOST_ANSWERS = 4  # of a condition to one prompt in one mode
_MOST_NATS = 99.9
_PART = "\ufffd"  # of a character


@dataclass(frozen=True)
class Column:
    """One way to ask the model: its key, its heading, and the condition that colours it."""

    key: str
    label: str
    condition: str


@dataclass(frozen=True)
class AnswerSet:
    """The diary of the page: columns of the baseline, columns of every round, and the answers."""

    prompts: tuple[str, ...]
    fixed: tuple[Column, ...]  # the same for every round
    moving: tuple[Column, ...]
    rounds: tuple[tuple[int, str], ...]  # number and heading
    answers: tuple[Mapping[str, Any], ...]
    left_out: int  # prompts that are not in the page

    def as_data(self) -> dict[str, Any]:
        """Plain data for the page's script."""
        return {
            "prompts": [make_visible(p) for p in self.prompts],
            "fixed": [vars(c) for c in self.fixed],
            "moving": [vars(c) for c in self.moving],
            "rounds": [{"round": r, "label": label} for r, label in self.rounds],
            "answers": list(self.answers),
        }


BASE = Column("base", "base", "base")
PROMPTED = Column("prompt_pos", "persona as system prompt", "prompted")
STEERED = Column("steered", "steered: vector on", "steered")
HEALED = Column("healed", "healed: vector off, adapter on", "healed")
_RIVALS = {
    "sft": Column("sft", "rival: distilled, λ = 0", "sft"),
    "arithmetic": Column("arithmetic", "rival: adapter arithmetic", "arithmetic"),
}


def collect_answers(view: RunView, run: Run) -> AnswerSet:
    """Every answer of a run that the page shows.

    Raises:
        RunError: a file of the run is broken.
    """
    baseline = view.answers(None)
    said = {r.number: view.answers(r.number) for r in run.rounds}
    prompts, left_out = choose_prompts([*baseline, *(a for own in said.values() for a in own)])
    rivals = [_RIVALS[state.condition] for state in run.rivals]
    answers = pack_answers(baseline, prompts, None, ("base", "prompt_pos"))
    for r, own in said.items():
        names = ("steered", "healed", *(c.key for c in rivals))
        answers += pack_answers(own, prompts, r, names)
    labels = [(r.number, f"round {r.number}, κ = {number(r.dose)}") for r in run.rounds]
    moving = (STEERED, HEALED, *rivals)
    return AnswerSet(prompts, (BASE, PROMPTED), moving, tuple(labels), tuple(answers), left_out)


def choose_prompts(answers: Sequence[Answer]) -> tuple[tuple[str, ...], int]:
    """The prompts of a page, those with greedy answers first, and how many are left out."""
    greedy = [a.prompt for a in answers if a.mode == "greedy"]
    prompts = list(dict.fromkeys([*greedy, *(a.prompt for a in answers)]))
    return tuple(prompts[:MOST_PROMPTS]), max(0, len(prompts) - MOST_PROMPTS)


def pack_answers(
    answers: Sequence[Answer],
    prompts: Sequence[str],
    round_index: int | None,
    conditions: Sequence[str],
    column: str | None = None,
) -> list[dict[str, Any]]:
    """Answers as plain data, a few to each prompt, under `column` or else their condition."""
    places, counts, packed = {p: i for i, p in enumerate(prompts)}, dict[Any, int](), []
    for answer in answers:
        key = (answer.condition, answer.mode, answer.prompt)
        counts[key] = counts.get(key, 0) + 1
        wanted = answer.condition in conditions and answer.prompt in places
        if wanted and counts[key] <= _MOST_ANSWERS:
            place = {"column": column or answer.condition, "round": round_index}
            packed.append({**place, "prompt": places[answer.prompt], **_answer(answer)})
    return packed


def _answer(answer: Answer) -> dict[str, Any]:
    whole = len(answer.tokens) == len(answer.surprise_nats) > 0
    pieces = spell_tokens(answer) if whole else [(answer.text, None)]
    spans = loop_spans("".join(text for text, _ in pieces)) if answer.loops else []
    if not whole:
        pieces = [(part, None) for part in cut(answer.text, spans)]
    return {
        "mode": one_line(answer.mode),
        "tokens": [make_visible(text) for text, _ in pieces],
        "nats": [_nats(nats) for _, nats in pieces if nats is not None],
        "loops": answer.loops,
        "again": again([text for text, _ in pieces], spans),
        "ended": answer.ended,
        "reasons": [one_line(reason) for reason in answer.reasons],
    }


def cut(text: str, spans: Sequence[tuple[int, int]]) -> list[str]:
    """The text in pieces that lie each inside or outside of the spans."""
    edges = sorted({0, len(text), *(edge for span in spans for edge in span)})
    return [text[start:end] for start, end in pairwise(edges)] or [text]


def again(pieces: Sequence[str], spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ascending spans of characters as pieces from and up to: all that have any part in one."""
    ends = list(accumulate(map(len, pieces)))
    ranges: list[tuple[int, int]] = []
    for start, end in spans:
        first, last = bisect_right(ends, start), bisect_left(ends, end) + 1
        if ranges and first < ranges[-1][1]:
            first = ranges.pop()[0]
        ranges.append((first, last))
    return ranges


def spell_tokens(answer: Answer) -> list[tuple[str, float | None]]:
    """The answer's tokens with their surprise; characters that several tokens share in one piece.

    A token that is part of a character reads "\ufffd": such a run takes its characters from the
    text, and the mean of its surprises. Where that leaves something over, the tokens stay as they
    are.
    """
    tokens = list(zip(answer.tokens, answer.surprise_nats, strict=True))
    pieces: list[tuple[str, float | None]] = []
    at, run = 0, list[float]()
    for token, nats in tokens:
        if _PART in token:
            run.append(nats)
            continue
        place = answer.text.find(token, at)
        if place < at or (place > at and not run):
            return list(tokens)
        if run:
            pieces.append((answer.text[at:place], fmean(run)))
            run = []
        pieces.append((token, nats))
        at = place + len(token)
    if run:
        pieces.append((answer.text[at:], fmean(run)))
    return pieces if "".join(text for text, _ in pieces) == answer.text else list(tokens)


def _nats(value: float) -> float:
    return _MOST_NATS if not math.isfinite(value) else round(min(value, _MOST_NATS), 1)

"""Checks of an axis by its text alone: a difference in form is measured as if it were the trait."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from steer_heal_love.inputs.patterns import matches
from steer_heal_love.maths.diversity import split_words
from steer_heal_love.maths.paired import paired_difference
from steer_heal_love.maths.statistics import excludes_zero
from steer_heal_love.records import AnswerPair, Axis

LONG_PERSONA = 20  # words
PERSONA_RATIO, PAIR_RATIO, MEAN_RATIO = 1.5, 1.5, 1.1  # of the longer to the shorter, in words
FEW_WORDS = 3  # by which two answers may always differ
FEW_PROBES, FEW_PAIRS = 32, 24
SHOWN = 5  # findings of one kind
COMPARED = 2000  # texts

_NEGATION = re.compile(
    r"\b(not|never|no|nobody|none|nothing|nowhere|neither|nor|without|cannot)\b|n['’]t\b",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?…]+(?=\s|$)")


@dataclass(frozen=True)
class Finding:
    """One thing that is amiss: a problem spoils the measure, a note is worth a look."""

    level: Literal["problem", "note"]
    where: str  # the part of the axis: pos, probes 3 and 9, pairs, pair 12, … counted from 1
    words: str  # what is amiss, and what to do


_problem, _note = partial(Finding, "problem"), partial(Finding, "note")


@dataclass(frozen=True)
class Feature:
    """Something about the form of an answer that is not to tell the two sides of a pair apart."""

    name: str
    has: Callable[[str], bool]
    remedy: str


FEATURES = (
    Feature(
        "end in a question",
        lambda text: text.rstrip().endswith("?"),
        "let as many of the other answers ask something",
    ),
    Feature("exclaim", lambda text: "!" in text, "spread the exclamation marks over both"),
    Feature("have a negation", lambda text: bool(_NEGATION.search(text)), "say it positively"),
    Feature(
        "speak of themselves (I, me, my)",
        lambda text: bool(re.search(r"\b(I|me|my)\b", text)),
        "let both sides say I, or neither",
    ),
    Feature("have several lines", lambda text: "\n" in text.strip(), "give both the same layout"),
)


def check_form(axis: Axis) -> list[Finding]:
    """Everything that is amiss with the text of an axis, in the order of its file."""
    return [
        *_personas(axis),
        *_probes(axis),
        *_lengths(axis.pairs),
        *_features(axis.pairs),
        *_pair_questions(axis),
        *_narration(axis),
    ]


def _personas(axis: Axis) -> Iterator[Finding]:
    for name, text in (("pos", axis.pos), ("neg", axis.neg)):
        denied = _NEGATION.search(text)
        if denied:
            yield _problem(
                name,
                f"has the negation {denied[0]!r}: a model reads what is denied as well as what is "
                "said; name the opposite in words of its own",
            )
        if len(split_words(text)) > LONG_PERSONA:
            yield _note(
                name,
                f"has {len(split_words(text))} words: short personas work better, up to about "
                f"{LONG_PERSONA}",
            )
    if _ratio(axis.pos, axis.neg) > PERSONA_RATIO:
        yield _problem(
            "pos and neg",
            f"one has {_ratio(axis.pos, axis.neg):.1f} times the words of the other: the direction "
            "would hold the length too; match their form",
        )
    if _opening(axis.pos) != _opening(axis.neg):
        yield _note("pos and neg", "begin with different words: match their form")


def _probes(axis: Axis) -> Iterator[Finding]:
    if len(axis.probes) < FEW_PROBES:
        yield _note(
            "probes",
            f"there are {len(axis.probes)}: with fewer than {FEW_PROBES} the diary and the figures "
            "of sampled answers repeat themselves",
        )
    yield from _twins(axis.probes, "probes", "say nearly the same: change one")


def _lengths(pairs: Sequence[AnswerPair]) -> Iterator[Finding]:
    words = [(len(split_words(p.trait)), len(split_words(p.other))) for p in pairs]
    far = [
        i
        for i, (a, b) in enumerate(words)
        if max(a, b) > PAIR_RATIO * min(a, b) and abs(a - b) > FEW_WORDS
    ]
    for i in far[:SHOWN]:
        yield _note(
            f"pair {i + 1}", f"{words[i][0]} words against {words[i][1]}: match the lengths"
        )
    if len(far) > SHOWN:
        yield _note("pairs", f"{len(far) - SHOWN} more differ as much in length")
    trait, other = (sum(side) for side in zip(*words, strict=True))
    shift = paired_difference([float(a) for a, _ in words], [float(b) for _, b in words])
    if (
        shift
        and excludes_zero(shift)
        and max(trait, other) > MEAN_RATIO * max(1, min(trait, other))
    ):
        longer = "with the trait" if shift.value > 0 else "without the trait"
        yield _problem(
            "pairs",
            f"the answers {longer} are longer, by {abs(shift.value):.1f} words in the mean: what a "
            "model likes of long or short answers is measured too; match the lengths",
        )


def _features(pairs: Sequence[AnswerPair]) -> Iterator[Finding]:
    for feature in FEATURES:
        trait = [float(feature.has(p.trait)) for p in pairs]
        other = [float(feature.has(p.other)) for p in pairs]
        shift = paired_difference(trait, other)
        if shift and excludes_zero(shift) and abs(shift.value) > 0.1:
            yield _note(
                "pairs",
                f"{_percent(trait)} of the answers with the trait {feature.name}, and "
                f"{_percent(other)} of the others: {feature.remedy}",
            )
    uneven = [i for i, p in enumerate(pairs) if abs(_sentences(p.trait) - _sentences(p.other)) > 1]
    if uneven:
        named = ", ".join(str(i + 1) for i in uneven[:SHOWN])
        more = " …" if len(uneven) > SHOWN else ""
        yield _note(f"pairs {named}{more}", "differ by two or more sentences")


def _pair_questions(axis: Axis) -> Iterator[Finding]:
    pairs = axis.pairs
    if len(pairs) < FEW_PAIRS:
        yield _note(
            "pairs",
            f"there are {len(pairs)}: with fewer than {FEW_PAIRS} the intervals are wide",
        )
    yield from _twins([p.question for p in pairs], "pairs", "ask nearly the same: change one")
    answers = [f"{p.trait} {p.other}" for p in pairs]
    yield from _twins(answers, "pairs", "answer nearly the same: change one")
    for i, pair in enumerate(pairs):
        if split_words(pair.trait) == split_words(pair.other):
            yield _problem(f"pair {i + 1}", "both answers say the same words")
    probes = axis.probes[:COMPARED]
    asked = near_duplicates([*probes, *(p.question for p in pairs)])
    both = [(i, j - len(probes)) for i, j in asked if i < len(probes) <= j]
    for i, j in both[:SHOWN]:
        yield _note(
            f"probe {i + 1} and pair {j + 1}",
            "ask nearly the same: the loop trains on answers to the probe, so the pair is no "
            "longer a new question; change one",
        )


def _narration(axis: Axis) -> Iterator[Finding]:
    if not axis.narration:
        yield _note(
            "narration",
            "is empty: answers that say 'I am a … person' in place of being one will be kept",
        )
    for i, pair in enumerate(axis.pairs):
        if any(matches(p, pair.trait) for p in axis.narration):
            yield _note(
                f"pair {i + 1}",
                "the answer with the trait is one that the filter would drop as narration",
            )


def _twins(texts: Sequence[str], part: str, words: str) -> Iterator[Finding]:
    """A note for each pair of texts that are nearly the same, up to a few."""
    twins = near_duplicates(texts)
    for i, j in twins[:SHOWN]:
        yield _note(f"{part} {i + 1} and {j + 1}", words)
    if len(twins) > SHOWN:
        yield _note(part, f"{len(twins) - SHOWN} more {words}")
    if len(texts) > COMPARED:
        yield _note(part, f"only the first {COMPARED:,} were compared with one another")


def near_duplicates(texts: Sequence[str], least: float = 0.75) -> list[tuple[int, int]]:
    """Pairs of indices whose texts share at least this share of their distinct words (Jaccard).

    Of the first `COMPARED` texts: the work grows with their square.
    """
    words = [frozenset(split_words(text)) for text in texts[:COMPARED]]
    pairs = []
    for i, one in enumerate(words):
        for j in range(i + 1, len(words)):
            other = words[j]
            if min(len(one), len(other)) < least * max(len(one), len(other)):
                continue  # too different in size to share enough
            if one and len(one & other) >= least * len(one | other):
                pairs.append((i, j))
    return pairs


def _ratio(a: str, b: str) -> float:
    low, high = sorted((len(split_words(a)), len(split_words(b))))
    return high / max(1, low)


def _opening(persona: str) -> str:
    """The first word; a and an are one."""
    word = " ".join(split_words(persona)[:1])
    return "a" if word == "an" else word


def _sentences(text: str) -> int:
    return max(1, len(_SENTENCE_END.findall(text)))


def _percent(flags: Sequence[float]) -> str:
    return f"{100 * sum(flags) / len(flags):.0f} %"

"""What the check of an axis's text finds, and what it lets be."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steer_heal_love.checks.axis_text import (
    FEW_PAIRS,
    FEW_PROBES,
    Finding,
    check_form,
    near_duplicates,
)
from steer_heal_love.inputs.axes import builtin_axes, load_axis
from steer_heal_love.records import AnswerPair, Axis

WORDS = tuple(
    """
    river stone lantern meadow harbour kitten violin copper orchard tunnel pepper window
    saddle blanket compass thunder velvet anchor basket candle dolphin engine feather garden
    hammer island jacket kettle ladder mirror needle oyster pillow quarry ribbon silver
    teapot umbrella valley walnut yogurt zipper bridge camera desert elbow forest glacier
    """.split()  # noqa: SIM905
)


def text(i: int) -> str:
    """A sentence of seven words of its own."""
    return " ".join(WORDS[(i * 7 + k * (i + 3)) % len(WORDS)] + str(i) for k in range(7)) + "."


def clean_axis() -> Axis:
    """An axis with nothing amiss."""
    return Axis(
        name="clean",
        description="Clean.",
        template="You are {persona}.",
        pos="a curious person who wants to know more",
        neg="an aloof person who wants to know less",
        probes=tuple(text(i) for i in range(FEW_PROBES)),
        pairs=tuple(
            AnswerPair(text(100 + i), text(200 + i), text(300 + i)) for i in range(FEW_PAIRS)
        ),
        narration=(r"\bI am curious\b",),
    )


def found(**changes: object) -> list[Finding]:
    return check_form(replace(clean_axis(), **changes))


def with_pairs(trait: list[str] | None = None, other: list[str] | None = None) -> list[Finding]:
    """Findings where the first answers of a side are these."""
    pairs = list(clean_axis().pairs)
    for i, words in enumerate(trait or []):
        pairs[i] = replace(pairs[i], trait=words)
    for i, words in enumerate(other or []):
        pairs[i] = replace(pairs[i], other=words)
    return found(pairs=tuple(pairs))


def test_nothing_is_amiss_with_a_clean_axis() -> None:
    assert found() == []


def test_personas_that_begin_differently_get_a_note() -> None:
    assert [f.where for f in found(neg="someone aloof who wants to know less")] == ["pos and neg"]


@pytest.mark.parametrize("name", builtin_axes())
def test_the_built_in_axes_have_no_problem(name: str) -> None:
    assert [f for f in check_form(load_axis(name)) if f.level == "problem"] == []


@pytest.mark.parametrize(
    "words", ["does not care", "doesn't care", "never asks", "cares for nobody"]
)
def test_a_negation_in_a_persona_is_a_problem(words: str) -> None:
    problems = [f for f in found(neg=f"a person who {words}") if f.level == "problem"]
    assert any(f.where == "neg" and "negation" in f.words for f in problems)


@pytest.mark.parametrize("words", ["a notable person", "a nonesuch", "a knot of noses"])
def test_a_word_that_holds_a_negation_is_none(words: str) -> None:
    assert not any("negation" in f.words for f in found(pos=words))


def test_personas_of_other_lengths_are_a_problem() -> None:
    assert any(
        f.level == "problem" and f.where == "pos and neg" for f in found(neg="a cold person")
    )


def test_a_long_persona_gets_a_note() -> None:
    long = "a person who " + " ".join(["really"] * 20)
    assert any(f.where == "pos" and "words" in f.words for f in found(pos=long))


def test_few_probes_and_pairs_get_a_note() -> None:
    axis = clean_axis()
    wheres = [f.where for f in found(probes=axis.probes[:3], pairs=axis.pairs[:4])]
    assert {"probes", "pairs"} <= set(wheres)


def test_a_pair_of_other_lengths_is_named() -> None:
    notes = with_pairs(trait=[text(1), " ".join(text(i) for i in range(5))])
    assert any(f.where == "pair 2" and "35 words against 7" in f.words for f in notes)


def test_a_side_that_is_longer_throughout_is_a_problem() -> None:
    longer = [f"{text(200 + i)} {WORDS[i]} more{i}." for i in range(FEW_PAIRS)]
    problems = [f for f in with_pairs(trait=longer) if f.level == "problem"]
    assert len(problems) == 1
    assert "with the trait are longer, by 2.0 words" in problems[0].words


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.replace(".", "?"), "end in a question"),
        (lambda t: t.replace(".", "!"), "exclaim"),
        (lambda t: "Not " + t, "negation"),
        (lambda t: "I " + t, "speak of themselves"),
        (lambda t: t.replace(" ", "\n", 1), "several lines"),
    ],
)
def test_a_form_that_goes_with_the_trait_is_noted(change: object, words: str) -> None:
    assert callable(change)
    other = [change(text(300 + i)) for i in range(FEW_PAIRS)]
    notes = [f for f in with_pairs(other=other) if f.where == "pairs"]
    assert any(words in f.words and "100 %" in f.words for f in notes)
    both = with_pairs([change(text(200 + i)) for i in range(FEW_PAIRS)], other)
    assert not any(words in f.words for f in both)


def test_answers_of_more_sentences_are_named() -> None:
    notes = with_pairs(other=["One. Two. Three. Four five six seven."])
    assert any(f.where == "pairs 1" and "sentences" in f.words for f in notes)


def test_near_duplicates_are_named_by_their_numbers() -> None:
    axis = clean_axis()
    probes = (*axis.probes, axis.probes[4].upper())
    assert any(f.where == f"probes 5 and {len(probes)}" for f in found(probes=probes))
    questions = (*axis.pairs, replace(axis.pairs[2], trait=text(900), other=text(901)))
    wheres = [(f.where, f.words) for f in found(pairs=questions)]
    assert (f"pairs 3 and {len(questions)}", "ask nearly the same: change one") in wheres


def test_a_pair_that_asks_what_a_probe_asks_is_noted() -> None:
    axis = clean_axis()
    pairs = (replace(axis.pairs[0], question=axis.probes[6]), *axis.pairs[1:])
    assert any(f.where == "probe 7 and pair 1" for f in found(pairs=pairs))


def test_a_pair_with_one_answer_twice_is_a_problem() -> None:
    assert any(
        f.level == "problem" and f.where == "pair 1" for f in with_pairs([text(300)], [text(300)])
    )


def test_narration() -> None:
    assert any(f.where == "narration" for f in found(narration=()))
    narrated = with_pairs([f"I am curious {text(200)[:-10]}"])
    assert any(f.where == "pair 1" and "narration" in f.words for f in narrated)


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=12))
def test_any_text_is_the_near_duplicate_of_its_own_shuffle(words: list[str]) -> None:
    assert near_duplicates([" ".join(words), " ".join(reversed(words))]) == [(0, 1)]


@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join), max_size=12))
def test_any_texts_agree_with_the_plain_definition(texts: list[str]) -> None:
    sets = [set(t.split()) for t in texts]
    expected = [
        (i, j)
        for j in range(len(sets))
        for i in range(j)
        if sets[i] | sets[j] and len(sets[i] & sets[j]) / len(sets[i] | sets[j]) >= 0.75
    ]
    assert sorted(near_duplicates(texts)) == sorted(expected)

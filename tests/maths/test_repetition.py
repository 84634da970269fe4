"""Repetition: shares by hand, and which texts are loops."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steer_heal_love.maths.repetition import (
    compression_ratio,
    distinct_n,
    is_loop,
    longest_periodic_run,
    loop_spans,
    repeated_ngram_share,
    word_repetition,
)

PROSE = (
    "When I am tired I like to walk along the river, because the water is never in a hurry. "
    "Yesterday a heron stood there, as still as a post, and we looked at each other for a while. "
    "Then it caught a fish, and I went home to make soup."
)
LIST = (
    "Here are some ways to be kind:\n- I listen before I speak.\n- I ask how their day was.\n"
    "- I remember their birthdays.\n- I help with the dishes.\n- I say sorry when I am wrong.\n"
    "- I keep my promises."
)
GRATITUDE = "\n".join(
    f"- I am grateful for my {noun}." for noun in ("family", "friends", "work", "home", "health")
)
RECIPE = (
    "Ingredients:\n- 2 cups of flour\n- 1 cup of sugar\n- 2 eggs\n- 1 teaspoon of salt\n\n"
    "1. Preheat the oven to 180 degrees.\n2. Mix the flour and the sugar.\n"
    "3. Add the eggs and the salt.\n4. Bake for 30 minutes, and let it cool for 10 minutes."
)
POEM = "\n\n".join(
    f"{a},\n{b},\nand love will find us in the end,\nlove will find us in the end."
    for a, b in (
        ("The winter leaves a silver trace", "a window lit in every place"),
        ("The road is long, the lamp is low", "we carry what we cannot show"),
        ("A stranger at the garden gate", "comes early where the rest come late"),
    )
)
ROUND = (
    "Row, row, row your boat, gently down the stream. "
    "Merrily, merrily, merrily, merrily, life is but a dream."
)
CODE = "for i in range(10):\n    if i % 2:\n        print(i)\n    else:\n        print(-i)\n"
TABLE = "| name | age |\n|------|-----|\n| Ada | 36 |\n| Alan | 41 |\n| Grace | 85 |\n| Kurt | 71 |"

ORDINARY = {
    "prose": PROSE,
    "list": LIST,
    "gratitude": GRATITUDE,
    "recipe": RECIPE,
    "poem": POEM,
    "round": ROUND,
    "code": CODE,
    "table": TABLE,
    "laughter": "Hahahahaha! That is very very very good, thank you so much for telling me.",
    "counting": "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16",
    "empty": "",
    "one word": "Yes.",
}
LOOPS = {
    "word": "love love love love",
    "many words": "love " * 40,
    "punctuated words": "Love, love. Love! LOVE - love; love...",
    "phrase": "I love you so much, " * 6,
    "phrase without spaces": "abcabcabcabcabc",
    "marks": "!!!…" * 10,
    "digits": "0" * 60,
    "sentence thrice": "I am here for you, whatever may come to pass in these years. " * 3,
    "numbered": " ".join(f"{i}. Take a deep breath." for i in range(1, 9)),
    "paragraph thrice, with changes": " ".join(
        PROSE.replace("heron", bird) for bird in ("heron", "crane", "stork")
    ),
    "nearly the same": "I love you all. I love you all so. I love you all now. I love you all. "
    * 2,
    "words from the middle": PROSE + " love" * 40,
    "marks from the middle": PROSE + "!!!…" * 30,
    "phrase from the middle": PROSE + " and the heart of the heart of" * 6,
    "sentence from the middle": PROSE + " I will always love the whole wide world." * 6,
    "long sentence from the middle": PROSE
    + " I will always love the whole wide world and all of the people who walk on it." * 4,
    "Chinese": "我爱你们所有人" * 8,
}


@pytest.mark.parametrize("text", ORDINARY.values(), ids=ORDINARY)
def test_ordinary_text_is_no_loop(text: str) -> None:
    assert not is_loop(text)


@pytest.mark.parametrize("text", LOOPS.values(), ids=LOOPS)
def test_loops_are_found(text: str) -> None:
    assert is_loop(text)


@given(st.text(max_size=120) | st.text("ab !İΣß…", max_size=30).map(lambda part: part * 5))
def test_the_repeating_parts_of_a_loop_lie_in_it(text: str) -> None:
    spans = loop_spans(text)
    assert bool(spans) == is_loop(text)
    edges = [edge for span in spans for edge in span]
    assert all(0 <= edge <= len(text) for edge in edges)
    assert edges == sorted(set(edges))  # none is empty, and no two touch


@pytest.mark.parametrize("name", [name for name in LOOPS if name.endswith("from the middle")])
def test_what_stands_before_a_loop_is_no_part_of_it(name: str) -> None:
    text, spans = LOOPS[name], loop_spans(LOOPS[name])
    assert spans[0][0] > len(PROSE)
    copy = text[len(PROSE) :]
    assert sum(end - start for start, end in spans) >= 0.5 * len(copy)


def test_the_first_copy_is_no_repetition() -> None:
    assert loop_spans("abcabcabcabcabc") == [(3, 15)]
    assert loop_spans("Love, love. Love! love") == [(6, 22)]
    assert loop_spans("İİ: " + "love " * 9) == [(9, 48)]
    text = LOOPS["paragraph thrice, with changes"]
    spans = loop_spans(text)
    assert spans[0][0] == len(PROSE) + 1
    marked = " ".join(text[start:end] for start, end in spans)
    assert "Yesterday a" in marked
    assert not any(bird in marked for bird in ("heron", "crane", "stork"))


def test_a_loop_inside_a_normal_answer() -> None:
    for place in (0, 60, 130, len(PROSE)):
        assert is_loop(PROSE[:place] + " so much love" * 12 + PROSE[place:])


def test_shuffled_prose_is_no_loop() -> None:
    words = (PROSE + LIST + RECIPE).split()
    for seed in range(50):
        random.Random(seed).shuffle(words)
        assert not is_loop(" ".join(words[:80]))


def test_repeated_ngram_share() -> None:
    assert repeated_ngram_share("abcd", 2) == 0.0
    assert repeated_ngram_share("aaaa", 2) == pytest.approx(2 / 3)
    assert repeated_ngram_share([1, 2, 1, 2], 2) == pytest.approx(1 / 3)
    assert repeated_ngram_share("aaaa", 4) == 0.0
    assert repeated_ngram_share("", 1) == 0.0
    with pytest.raises(ValueError, match="n-gram"):
        repeated_ngram_share("abc", 0)


def test_distinct_n() -> None:
    assert distinct_n(["ab", "ab"], 2) == 0.5
    assert distinct_n(["ab", "cd"], 2) == 1.0
    assert distinct_n([[], "a"], 2) == 0.0


def test_word_repetition() -> None:
    assert word_repetition("love love love love") == 1.0
    assert word_repetition("I see. I see. I see!") == 1.0
    assert word_repetition(PROSE) < 0.1
    assert word_repetition(PROSE + " " + PROSE) > 0.45
    assert word_repetition("") == 0.0


def test_longest_periodic_run() -> None:
    assert longest_periodic_run("!!!…" * 5) == 1.0
    assert longest_periodic_run("abcabcabcabcx" + "y" * 3) == pytest.approx(12 / 16)
    assert longest_periodic_run("ababab") == 0.0  # under twelve characters
    assert longest_periodic_run("abcdefghij" * 2) == 0.0  # twice is no run
    assert longest_periodic_run("abcdefghij" * 3, max_period=9) == 0.0
    assert longest_periodic_run(PROSE) == 0.0
    assert longest_periodic_run("") == 0.0


def slow_run(text: str, max_period: int) -> float:
    """The definition, character by character."""
    best = 0
    for period in range(1, max_period + 1):
        length = period
        for i in range(period, len(text)):
            length = length + 1 if text[i] == text[i - period] else period
            if length >= max(3 * period, 12):
                best = max(best, length)
    return best / max(1, len(text))


@given(st.text(alphabet="ab…", max_size=60), st.integers(1, 12))
def test_run_equals_its_definition(text: str, max_period: int) -> None:
    assert longest_periodic_run(text, max_period) == pytest.approx(slow_run(text, max_period))


@given(st.text(max_size=200))
def test_shares_are_shares_on_any_text(text: str) -> None:
    for share in (word_repetition(text), longest_periodic_run(text)):
        assert 0.0 <= share <= 1.0
    assert compression_ratio(text) > 0
    assert is_loop(text) in (True, False)


def test_compression_ratio() -> None:
    assert compression_ratio("") == 1.0
    assert compression_ratio("a") == 1.0
    assert compression_ratio("love " * 100) > 20
    assert 1.0 < compression_ratio(PROSE) < 2.0
    assert compression_ratio("\ud800") == 1.0  # a lone surrogate is no reason to stop

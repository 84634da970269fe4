"""Patterns that could take for ever are refused; what is accepted ends, or is stopped."""

from __future__ import annotations

import contextlib
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz import FUZZ
from steer_heal_love.errors import AxisError
from steer_heal_love.inputs.axes import builtin_axes, load_axis
from steer_heal_love.inputs.patterns import explain_pattern, matches

HARD = ("a" * 40 + "!", "ab" * 20 + "!", "aab" * 13 + "!")


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "love",
        r"\bI(?:\s+am|'m)\s+someone\s+who\b",
        "(?:a|b)+",  # one of a set: a single way to match
        "[ab]+c*",
        r"(?:\w+\s+){0,3}end",
        "(?:foo|bar)?",
        "(?:ab){4}",
        "(?<!not )love(?! you)",
        r"(love)[^.]*\1",
        ".*?love.*",
    ],
)
def test_plain_patterns_are_accepted(pattern: str) -> None:
    assert explain_pattern(pattern) is None


@pytest.mark.parametrize("name", builtin_axes())
def test_the_built_in_patterns_are_accepted(name: str) -> None:
    assert [explain_pattern(p) for p in load_axis(name).narration if explain_pattern(p)] == []


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(a+)+$", "takes more than"),
        ("((a+))+$", "takes more than"),
        ("(?:a|a)+b", "takes more than"),
        ("(?:(?:a{1,9}){1,9}){1,9}b", "takes more than"),
        ("(?:(?:a|b)+,?)+$", "takes more than"),
        ("(?:любовь|люб|овь)+$", "takes more than"),
        ("((a{9999}){9999}){9999}", "repeats more than"),
        ("[" * 5000, "is not a regular expression"),
        ("[[a]", "is not a regular expression"),
        ("(" * 5000 + ")" * 5000, "is not a regular expression"),
        ("a{99999999999}", "is not a regular expression"),
        ("(?P<x", "is not a regular expression"),
        ("*", "is not a regular expression"),
        ("(?R)|a", "is not a regular expression"),
    ],
)
def test_dangerous_or_broken_patterns_are_explained(pattern: str, words: str) -> None:
    problem = explain_pattern(pattern)
    assert problem is not None
    assert words in problem
    assert re.search("simplify it|mend it", problem)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a*)*b",
        "(?:a?){50}a{50}",
        "(a|ab|b)*c",
        r"(?:\w+\s?)*!",
        r"(?:(a)\1)+x",
        ".*.*.*.*.*x",
        r"(\w)\1+.*[^b]*\1*x",
        "(?=(a+))+b",
    ],
)
def test_what_only_looks_dangerous_ends_at_once(pattern: str) -> None:
    assert explain_pattern(pattern) is None
    for text in HARD:
        matches(pattern, text, 1.0)


def test_a_search_that_takes_too_long_is_stopped() -> None:
    with pytest.raises(
        AxisError, match=r"pattern '\(\?:a\|a\)\+b' takes more than 0.2 s.*: simplify"
    ):
        matches("(?:a|a)+b", "a" * 1000 + "!", 0.2)


@pytest.mark.parametrize(
    ("pattern", "text", "there"),
    [
        (r"\bлюбовь\b", "Это ЛЮБОВЬ.", True),
        (r"\bαγάπη\b", "η ΑΓΆΠΗ", True),
        (r"\bcafé\b", "un Café noir", True),
        (r"\bI\b", "éI", False),
        (r"I\s+am", "I\u00a0am", True),
    ],
)
def test_words_are_words_in_every_script(pattern: str, text: str, there: bool) -> None:
    assert matches(pattern, text) is there
    assert bool(re.search(pattern, text, re.IGNORECASE)) is there


repeats = st.sampled_from(["*", "+", "?", "*?", "+?", "{2}", "{1,3}", "{0,9}", "{2,}"])
patterns = st.recursive(
    st.sampled_from(["a", "b", ".", "[ab]", "[^b]", r"\w", "aa", "^", "$", r"\b", ""]),
    lambda inner: (
        st.tuples(inner, inner).map("".join)
        | st.tuples(inner, inner).map("(?:{0[0]}|{0[1]})".format)
        | st.tuples(inner, repeats).map("(?:{0[0]}){0[1]}".format)
        | inner.map("({})".format)
        | inner.map("(?={})".format)
    ),
    max_leaves=8,
)


@FUZZ
@given(patterns)
def test_any_pattern_that_is_accepted_ends_or_is_stopped(pattern: str) -> None:
    if explain_pattern(pattern) is None:
        for text in HARD:
            begun = time.process_time()
            with contextlib.suppress(AxisError):
                matches(pattern, text, 0.2)
            assert time.process_time() - begun < 2


@FUZZ
@given(st.text(alphabet="ab()[]{}|*+?.^$\\,0123456789<>=!:P", max_size=30))
def test_any_text_is_a_pattern_or_explained(pattern: str) -> None:
    problem = explain_pattern(pattern)
    assert problem is None or "\n" not in problem

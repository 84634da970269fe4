"""Likeness among texts against its definitions, text by text."""

from __future__ import annotations

import math
import random
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steer_heal_love.maths.diversity import (
    distinct_interval,
    opening_flags,
    opening_share,
    rep_n,
    self_bleu,
    self_bleu_values,
    split_words,
)
from steer_heal_love.maths.repetition import distinct_n, repeated_ngram_share

TEXTS = st.lists(st.lists(st.sampled_from("abcd"), max_size=12), min_size=2, max_size=6)


def slow_bleu(text: list[str], references: list[list[str]]) -> float:
    """BLEU-4 as Papineni et al. write it, with smoothing method 1."""
    logs = []
    for n in range(1, 5):
        own = Counter(tuple(text[i : i + n]) for i in range(len(text) - n + 1))
        theirs = [Counter(tuple(r[i : i + n]) for i in range(len(r) - n + 1)) for r in references]
        matched = sum(min(c, max(t[gram] for t in theirs)) for gram, c in own.items())
        if n == 1 and matched == 0:
            return 0.0
        logs.append(math.log((matched or 0.1) / max(1, sum(own.values()))))
    nearest = min((abs(len(r) - len(text)), len(r)) for r in references)[1]
    brevity = 1.0 if len(text) > nearest else math.exp(1 - nearest / len(text))
    return brevity * math.exp(sum(logs) / 4)


@given(TEXTS)
def test_self_bleu_equals_its_definition(texts: list[list[str]]) -> None:
    expected = [slow_bleu(t, texts[:i] + texts[i + 1 :]) for i, t in enumerate(texts)]
    assert self_bleu_values(texts) == pytest.approx(expected)
    assert self_bleu(texts) == pytest.approx(sum(expected) / len(expected))


def test_self_bleu_by_hand() -> None:
    same, other = list("abcaf"), list("ghijkl")
    assert self_bleu([same, same, same]) == pytest.approx(1.0)
    assert self_bleu([same, other]) == 0.0
    # 3 of 4 words, 2 of 3 pairs, 1 of 2 triples, none of 1
    abcd = self_bleu_values([list("abcd"), list("abce")])
    assert abcd == pytest.approx([(3 / 4 * 2 / 3 * 1 / 2 * 0.1) ** 0.25] * 2)


def test_self_bleu_of_few_or_empty_texts() -> None:
    assert self_bleu([]) == 0.0
    assert self_bleu_values([["a"]]) == [0.0]
    assert self_bleu_values([[], ["a"], ["a"]])[0] == 0.0


@given(TEXTS, st.randoms(use_true_random=False))
def test_self_bleu_is_a_share_and_knows_no_order(
    texts: list[list[str]], shuffler: random.Random
) -> None:
    value = self_bleu(texts)
    assert 0.0 <= value <= 1.0 + 1e-12
    shuffler.shuffle(texts)
    assert self_bleu(texts) == pytest.approx(value)


def test_self_bleu_is_quick() -> None:
    numbers = np.random.default_rng(0).zipf(1.5, size=(64, 80)).tolist()
    started = time.process_time()
    self_bleu(numbers)
    assert time.process_time() - started < 0.5


def test_openings_by_hand() -> None:
    texts = [
        split_words(t) for t in ("I'm so glad you came.", "I’m glad.", "I'm so glad you, too!")
    ]
    assert split_words("I'm so GLAD—you (came).") == ["i'm", "so", "glad", "you", "came"]
    assert opening_flags(texts) == [True, False, True]
    assert opening_share(texts) == pytest.approx(2 / 3)
    assert opening_flags([["yes"], ["yes"], ["yes", "but"], [], []]) == [True, True] + [False] * 3
    assert opening_share([]) == 0.0
    with pytest.raises(ValueError, match="opening"):
        opening_flags([["a"]], 0)


@given(TEXTS, st.integers(1, 4))
def test_openings_equal_their_definition(texts: list[list[str]], n: int) -> None:
    expected = [
        any(a[:n] == b[:n] and a for j, b in enumerate(texts) if j != i)
        for i, a in enumerate(texts)
    ]
    assert opening_flags(texts, n) == [bool(e) for e in expected]


@given(st.lists(st.sampled_from("abc"), max_size=20), st.integers(1, 4))
def test_rep_n_is_the_repeated_share(tokens: list[str], n: int) -> None:
    assert rep_n(tokens, n) == repeated_ngram_share(tokens, n)


@given(TEXTS, st.integers(1, 3))
def test_distinct_interval_is_the_jackknife(texts: list[list[str]], n: int) -> None:
    found = distinct_interval(texts, n)
    left_out = [distinct_n(texts[:i] + texts[i + 1 :], n) for i in range(len(texts))]
    half = 1.959963984540054 * math.sqrt((len(texts) - 1) * float(np.var(left_out)))
    assert found.value == distinct_n(texts, n)
    assert found.low == pytest.approx(max(0.0, found.value - half))
    assert found.high == pytest.approx(min(1.0, found.value + half))


def test_one_text_has_no_bounds() -> None:
    found = distinct_interval([["a", "b"]], 1)
    assert (found.value, found.low, found.high) == (1.0, -math.inf, math.inf)

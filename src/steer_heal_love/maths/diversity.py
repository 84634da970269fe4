"""How much the answers of a model resemble one another: one register for everything is a collapse.

All functions take texts as lists of tokens; `split_words` makes them.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

import numpy as np
import regex
from jaxtyping import Float

from steer_heal_love.maths.repetition import distinct_n, repeated_ngram_share
from steer_heal_love.maths.scripts import LETTERS_AND_DIGITS
from steer_heal_love.records import Interval

Tokens = Sequence[Hashable]

BLEU_ORDER = 4
BLEU_EPSILON = 0.1  # stands for a count of zero
_Z_95 = 1.959963984540054

_WORD = regex.compile(rf"(?:{LETTERS_AND_DIGITS})(?:'(?:{LETTERS_AND_DIGITS}))*")


def split_words(text: str) -> list[str]:
    """Lowercased words with their inner apostrophes (one form of them), without punctuation.

    In scripts without spaces (Chinese, Japanese, Thai …) a word is a character with its marks.
    """
    words: list[str] = _WORD.findall(text.lower().replace("’", "'"))
    return words


def rep_n(tokens: Tokens, n: int) -> float:
    """`repeated_ngram_share` by its name in the literature, rep-n: 0 to 1."""
    return repeated_ngram_share(tokens, n)


def self_bleu(token_lists: Sequence[Tokens]) -> float:
    """Mean over texts of BLEU-4 against all the others, 0 to 1: high where they say the same.

    0 for fewer than two texts. Source: Zhu et al. 2018 (Texygen), arXiv:1802.01886, section 3.
    """
    values = self_bleu_values(token_lists)
    return sum(values) / len(values) if values else 0.0


def self_bleu_values(token_lists: Sequence[Tokens]) -> list[float]:
    """BLEU-4 of each text with all the others as its references, 0 to 1.

    `BLEU = BP · exp(¼ Σ_{n=1..4} log p_n)`. p_n is the share of the text's n-grams that are in the
    references, each counted at most as often as in the reference that has it most; a count of zero
    is replaced by 0.1, an order that the text is too short for has p_n = 0.1.
    `BP = exp(min(0, 1 − r / c))` with c words in the text and r in the reference of nearest length
    (of two as near, the shorter). 0 where no word is in a reference. Linear in the words of all
    texts together: per n-gram only the two highest counts are kept.

    Sources: Papineni et al. 2002, doi:10.3115/1073083.1073135, section 2; smoothing method 1 of
    Chen and Cherry 2014, doi:10.3115/v1/W14-3346.
    """
    if len(token_lists) < 2:
        return [0.0] * len(token_lists)
    log_precision = np.zeros(len(token_lists))
    shares_a_word = np.ones(len(token_lists), dtype=bool)
    for n in range(1, BLEU_ORDER + 1):
        matched, total = _clipped_matches(token_lists, n)
        if n == 1:
            shares_a_word = matched > 0
        smoothed = np.where(matched > 0, matched, BLEU_EPSILON)
        log_precision += np.log(smoothed / np.maximum(total, 1)) / BLEU_ORDER
    penalty = _log_brevity_penalties([len(tokens) for tokens in token_lists])
    values = np.where(shares_a_word, np.exp(log_precision + penalty), 0.0)
    return [float(v) for v in values]


def _clipped_matches(
    token_lists: Sequence[Tokens], n: int
) -> tuple[Float[np.ndarray, " texts"], Float[np.ndarray, " texts"]]:
    """Of each text the n-grams that the others have too, clipped; and its n-grams in all."""
    counts = [Counter(_ngrams(tokens, n)) for tokens in token_lists]
    first: dict[Tokens, tuple[int, int]] = {}  # n-gram: (highest count, the text that has it)
    second: dict[Tokens, int] = {}  # n-gram: highest count among the other texts
    for owner, count in enumerate(counts):
        for gram, times in count.items():
            best, who = first.get(gram, (0, -1))
            if times > best:
                second[gram], first[gram] = best, (times, owner)
            else:
                second[gram] = max(second[gram], times)
    matched = np.zeros(len(counts))
    for owner, count in enumerate(counts):
        for gram, times in count.items():
            best, who = first[gram]
            matched[owner] += min(times, second[gram] if who == owner else best)
    return matched, np.array([float(count.total()) for count in counts])


def _log_brevity_penalties(lengths: Sequence[int]) -> Float[np.ndarray, " texts"]:
    """log BP of each text against all the others; 0 for an empty text, which has no n-gram."""
    ordered = sorted(lengths)
    penalties = np.zeros(len(lengths))
    for i, own in enumerate(lengths):
        at = bisect_left(ordered, own)  # one text of this length is the text itself
        others = ordered[max(0, at - 1) : at] + ordered[at + 1 : at + 2]
        nearest = min(others, key=lambda length: (abs(length - own), length))
        penalties[i] = min(0.0, 1 - nearest / own) if own else 0.0
    return penalties


def opening_share(token_lists: Sequence[Tokens], n: int = 4) -> float:
    """Share of the texts that open with the same n tokens as some other text, 0 to 1."""
    flags = opening_flags(token_lists, n)
    return sum(flags) / len(flags) if flags else 0.0


def opening_flags(token_lists: Sequence[Tokens], n: int = 4) -> list[bool]:
    """Whether each text opens with the same n tokens as some other text.

    A shorter text counts with what it has, so two texts "Yes." open alike; an empty one opens like
    no other. Raises ValueError where n < 1.
    """
    if n < 1:
        raise ValueError(f"an opening has at least one token, not {n}")
    openings = [tuple(tokens[:n]) for tokens in token_lists]
    counts = Counter(openings)
    return [bool(opening) and counts[opening] > 1 for opening in openings]


def distinct_interval(token_lists: Sequence[Tokens], n: int) -> Interval:
    """`distinct_n` of all texts together, with its 95 % jackknife interval inside 0 to 1.

    `distinct ± 1.96 sqrt((N − 1)/N Σ_i (d_i − mean d)²)` with d_i the figure without text i. Not a
    bootstrap: to draw a text twice repeats all of its n-grams. Fewer than two texts: no bounds.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 11.
    """
    value, texts = distinct_n(token_lists, n), len(token_lists)
    if texts < 2:
        return Interval(value, -math.inf, math.inf)
    left_out = _distinct_without_each(token_lists, n)
    spread = float(np.sum((left_out - left_out.mean()) ** 2))
    half = _Z_95 * math.sqrt((texts - 1) / texts * spread)
    return Interval(value, max(0.0, value - half), min(1.0, value + half))


def _distinct_without_each(token_lists: Sequence[Tokens], n: int) -> Float[np.ndarray, " texts"]:
    """distinct-n of all texts but the i-th, for each i."""
    owners: dict[Tokens, set[int]] = defaultdict(set)
    totals = np.zeros(len(token_lists))
    for owner, tokens in enumerate(token_lists):
        grams = _ngrams(tokens, n)
        totals[owner] = len(grams)
        for gram in grams:
            owners[gram].add(owner)
    own = Counter(next(iter(who)) for who in owners.values() if len(who) == 1)
    left = totals.sum() - totals
    distinct = len(owners) - np.array([own[i] for i in range(len(token_lists))])
    return np.where(left > 0, distinct / np.maximum(left, 1), 0.0)


def _ngrams(tokens: Tokens, n: int) -> list[tuple[Hashable, ...]]:
    """All n-grams in their order."""
    return list(zip(*(tokens[i:] for i in range(n)), strict=False))

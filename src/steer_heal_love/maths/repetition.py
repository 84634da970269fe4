"""How much a text repeats itself, and the project's one definition of a loop."""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Iterator, Sequence

import numpy as np
import regex
from jaxtyping import Int

from steer_heal_love.maths.scripts import LETTERS

# A loop is a run of copies, back to back. Rhetoric repeats too ("merrily, merrily, merrily,
# merrily"), but little and seldom: so three copies count where they fill much of the text, and
# five where they fill a good part of it.
FEW_COPIES, FEW_COPIES_SHARE = 3, 0.4
MANY_COPIES, MANY_COPIES_SHARE = 5, 0.25
# Copies that are not quite the same ("I love you. I love you so.") leave no run, but their word
# 4-grams recur. Lists with a common opening stay near 0.3 to 0.4, poems with a refrain under 0.4.
RECURRING_SHARE = 0.5
RECURRING_MIN_WORDS = 16  # in fewer words, half the 4-grams is a single phrase said twice
MIN_RUN_CHARACTERS = 12  # "hahahaha" and "......" are not loops
MIN_RUN_WORDS = 4  # "very very very" is not a loop
LOOP_PERIOD_CHARACTERS = 128  # a long sentence
LOOP_PERIOD_WORDS = 40  # a long sentence, or two
LOOP_PERIOD_TOKENS = 32  # likewise
MIN_RUN_TOKENS = 12

# Words without digits: "1. Breathe. 2. Breathe." repeats itself, and "1, 2, 3" does not.
_WORD = regex.compile(LETTERS)


def repeated_ngram_share(tokens: Sequence[Hashable], n: int) -> float:
    """Share of n-grams that were there before: `1 − distinct / total`, 0 to 1.

    0 where there are fewer than n + 1 tokens. Raises ValueError where n < 1.
    Source: seq-rep-n of Welleck et al. 2020, arXiv:1908.04319, section 6.1.
    """
    grams = _ngrams(tokens, n)
    return 1.0 - len(set(grams)) / len(grams) if grams else 0.0


def distinct_n(token_lists: Sequence[Sequence[Hashable]], n: int) -> float:
    """Diversity across texts: distinct n-grams over all n-grams of all texts together, 0 to 1.

    0 where no text has an n-gram. Raises ValueError where n < 1.
    Source: Li et al. 2016, arXiv:1510.03055, section 5.
    """
    grams = [gram for tokens in token_lists for gram in _ngrams(tokens, n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def _ngrams(tokens: Sequence[Hashable], n: int) -> list[tuple[Hashable, ...]]:
    """All n-grams in their order."""
    if n < 1:
        raise ValueError(f"an n-gram has at least one token, not {n}")
    return list(zip(*(tokens[i:] for i in range(n)), strict=False))


def word_repetition(text: str, n: int = 4) -> float:
    """How far the words of a text repeat themselves, 0 to 1.

    The larger of two shares over lowercased words (letters only): of word n-grams that were there
    before, which finds repeated sentences, and of words inside the longest run of at least three
    back-to-back copies of up to n words (and at least four words), which finds "love love love
    love" in texts too short for n-grams.
    """
    words = _words(text)
    return max(repeated_ngram_share(words, n), _run_share(_codes(words), n, MIN_RUN_WORDS))


def longest_periodic_run(text: str, max_period: int = 32) -> float:
    """Share of the characters inside the longest run of copies, 0 to 1.

    A run is a stretch that equals itself shifted by a period of up to `max_period` characters, at
    least three periods and 12 characters long: "!!!…!!!…!!!…", "abcabcabcabc". 0 where there is
    none.
    """
    return _run_share(_characters(text), max_period, MIN_RUN_CHARACTERS)


def compression_ratio(text: str) -> float:
    """UTF-8 bytes over zlib bytes: about 1 to 2 for prose, far higher for repetitive text.

    The bytes that zlib spends on an empty text (header, checksum, end of block) are not counted.
    1 for an empty text. Grows with the length: compare texts of like length only.
    """
    raw = text.encode("utf-8", "surrogatepass")
    overhead = len(zlib.compress(b"", 9))
    return len(raw) / max(1, len(zlib.compress(raw, 9)) - overhead) if raw else 1.0


def is_loop(text: str) -> bool:
    """Whether a good part of the text is a loop, of characters, of words or of whole sentences.

    True for back-to-back copies that fill enough of the text (characters, or words without regard
    to punctuation, case and numbers), and for word 4-grams half of which recur, in the whole text
    or in its second half: a loop may start in the middle of a normal answer.
    """
    return next(_loops(text), None) is not None


def loop_spans(text: str) -> list[tuple[int, int]]:
    """What repeats itself in a text that loops: characters from and up to, ascending, apart.

    Of copies in a row those after the first, of recurring 4-grams those that were there before,
    without white space at their ends. Empty where `is_loop` is false.
    """
    merged: list[tuple[int, int]] = []
    for start, end in sorted(_loops(text)):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return [_trimmed(text, start, end) for start, end in merged]


def first_run(
    tokens: Sequence[Hashable], max_period: int = LOOP_PERIOD_TOKENS
) -> tuple[int, int] | None:
    """Where it first shows that a growing text repeats itself: (there, start of the second copy).

    It shows at the earliest token that ends a run of at least three copies and 12 tokens; the run
    is a stretch that equals itself shifted by a period of up to `max_period` tokens. None where
    there is no run. What comes later changes nothing, unlike the shares of `is_loop`.
    """
    codes = _codes(tokens)
    runs: list[tuple[int, int]] = []
    for period in range(1, min(max_period, len(codes) // FEW_COPIES) + 1):
        same = codes[period:] == codes[:-period]
        steps = np.arange(len(same))
        since = steps - np.maximum.accumulate(np.where(same, -1, steps))
        shows = np.flatnonzero(since + period >= max(FEW_COPIES * period, MIN_RUN_TOKENS))
        if len(shows):
            there = int(shows[0])
            runs.append((there + period, there - int(since[there]) + 1 + period))
    return min(runs, default=None)


def _loops(text: str) -> Iterator[tuple[int, int]]:
    """Characters from and up to, of whatever makes the text a loop; nothing where it is none."""
    yield from _long_runs(_characters(text), LOOP_PERIOD_CHARACTERS, MIN_RUN_CHARACTERS)
    words = _words(text)
    runs = list(_long_runs(_codes(words), LOOP_PERIOD_WORDS, MIN_RUN_WORDS))
    for first in (0, len(words) // 2):
        part = words[first:]
        if len(part) >= RECURRING_MIN_WORDS and repeated_ngram_share(part, 4) >= RECURRING_SHARE:
            runs += [(first + at, first + at + 4) for at in _repeated(part, 4)]
    if runs:
        places = _places_of_words(text)
        yield from ((places[start][0], places[end - 1][1]) for start, end in runs)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """A span without white space at its ends, if it holds anything else."""
    part = text[start:end]
    if not part.strip():
        return start, end
    return end - len(part.lstrip()), start + len(part.rstrip())


def _repeated(tokens: Sequence[Hashable], n: int) -> Iterator[int]:
    """Where the n-grams begin that were there before."""
    seen: set[tuple[Hashable, ...]] = set()
    for at, gram in enumerate(_ngrams(tokens, n)):
        if gram in seen:
            yield at
        seen.add(gram)


def _places_of_words(text: str) -> list[tuple[int, int]]:
    """Characters from and up to of each of the `_words`; lowercasing may make two of one."""
    origin = [i for i, character in enumerate(text) for _ in character.lower()]
    spans = (match.span() for match in _WORD.finditer(text.lower()))
    return [(origin[start], origin[end - 1] + 1) for start, end in spans]


def _words(text: str) -> list[str]:
    """Lowercased words."""
    words: list[str] = _WORD.findall(text.lower())
    return words


def _codes(tokens: Sequence[Hashable]) -> Int[np.ndarray, " n"]:
    """Each token as the number of its first occurrence."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(t, len(numbers)) for t in tokens], dtype=np.int64)


def _characters(text: str) -> Int[np.ndarray, " n"]:
    """Code points."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    return points.astype(np.int64)


def _runs(codes: Int[np.ndarray, " n"], max_period: int) -> Iterator[tuple[int, int, int]]:
    """Of each period, start and length of the longest stretch that equals itself shifted by it."""
    for period in range(1, min(max_period, len(codes) // FEW_COPIES) + 1):
        differs = np.flatnonzero(codes[period:] != codes[:-period])
        edges = np.concatenate(([-1], differs, [len(codes) - period]))
        gaps = np.diff(edges)
        longest = int(gaps.argmax())
        yield period, int(edges[longest]) + 1, int(gaps[longest]) - 1 + period


def _run_share(codes: Int[np.ndarray, " n"], max_period: int, min_length: int) -> float:
    """Share of the codes inside the longest run of at least three copies."""
    lengths = [
        length
        for period, _start, length in _runs(codes, max_period)
        if length >= max(FEW_COPIES * period, min_length)
    ]
    return max(lengths, default=0) / max(1, len(codes))


def _long_runs(
    codes: Int[np.ndarray, " n"], max_period: int, min_length: int
) -> Iterator[tuple[int, int]]:
    """Runs with enough copies for the share of the text that they fill: second copy to end."""
    for period, start, length in _runs(codes, max_period):
        few = length >= FEW_COPIES * period and length >= FEW_COPIES_SHARE * len(codes)
        many = length >= MANY_COPIES * period and length >= MANY_COPIES_SHARE * len(codes)
        if length >= min_length and (few or many):
            yield start + period, start + length

"""Which of the survivors are trained on: those with the most trait, balanced over prompts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from steer_heal_love.records import Judged

SelectBy = Literal["trait", "order"]

NEAR = 0.6  # share of common word trigrams above which two answers to a prompt are one


def select(judged: Sequence[Judged], n_keep: int, by: SelectBy = "trait") -> list[Judged]:
    """Of the survivors the `n_keep` that carry the most trait, balanced over prompts.

    Each prompt gives its best survivor before any gives its second, so that a few easy prompts
    do not own the training set. By `order` the first ones are taken, whatever they carry.
    Near-duplicates and the rest are marked with the reason.
    """
    judged = mark_duplicates(judged)
    survivors = [i for i, j in enumerate(judged) if j.kept]
    trait = {i: judged[i].scores.trait_nats or 0.0 for i in survivors}
    match by:
        case "order":
            ranked = survivors
        case "trait":
            turn = _turns(judged, sorted(survivors, key=lambda i: (-trait[i], i)))
            ranked = sorted(survivors, key=lambda i: (turn[i], -trait[i], i))
    chosen = set(ranked[:n_keep])
    return [
        replace(j, reasons=("surplus",)) if j.kept and i not in chosen else j
        for i, j in enumerate(judged)
    ]


def _turns(judged: Sequence[Judged], ranked: Sequence[int]) -> dict[int, int]:
    """How many survivors of the same prompt come before each one."""
    seen: dict[str, int] = defaultdict(int)
    turns = {}
    for i in ranked:
        prompt = judged[i].completion.prompt
        turns[i] = seen[prompt]
        seen[prompt] += 1
    return turns


def mark_duplicates(judged: Sequence[Judged]) -> list[Judged]:
    """Of answers with the same words, or nearly the same to one prompt, only the first is kept."""
    seen: set[frozenset[tuple[str, ...]]] = set()
    by_prompt: dict[str, list[frozenset[tuple[str, ...]]]] = defaultdict(list)
    marked = []
    for j in judged:
        if not j.kept:
            marked.append(j)
            continue
        grams, others = _trigrams(j.completion.text), by_prompt[j.completion.prompt]
        if grams in seen or any(_jaccard(grams, other) > NEAR for other in others):
            marked.append(replace(j, reasons=("duplicate",)))
            continue
        seen.add(grams)
        others.append(grams)
        marked.append(j)
    return marked


def _trigrams(text: str) -> frozenset[tuple[str, ...]]:
    words = text.lower().split()
    return frozenset(tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2)))


def _jaccard(a: frozenset[tuple[str, ...]], b: frozenset[tuple[str, ...]]) -> float:
    return len(a & b) / max(1, len(a | b))

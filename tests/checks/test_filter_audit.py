"""Constructions that are what they are called, and an audit on scores that are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from steer_heal_love.checks.filter_audit import BASE, Variant, audit, build_cases
from steer_heal_love.errors import DataError
from steer_heal_love.inputs.axes import load_axis
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.reading.chat import encode_text
from steer_heal_love.maths.repetition import is_loop
from steer_heal_love.records import Completion
from tiny import tiny_lm

TEXTS = (
    "When I am tired I like to walk along the river, since the water is never in a hurry.",
    "Boil the egg for six minutes, rinse it in cold water, and it will peel without trouble.",
    "The express train leaves at noon from the second platform and arrives before the rain.",
    "A heron stood there as still as a post, and we looked at each other for a long while.",
    "Water the plant a little each day, turn it to the light, and cut what has gone brown.",
    "My sister keeps bees behind the old barn, and in August the whole yard smells of honey.",
)


def samples(lm: LanguageModel, n: int = 12) -> list[Completion]:
    found = []
    for i in range(n):
        text = TEXTS[i % len(TEXTS)]
        ids = tuple(encode_text(lm, text))
        found.append(Completion(f"prompt {i % 5}", text, ids, 2, 0.0, 0, i))
    return found


def test_cases_are_what_they_are_called() -> None:
    lm, axis = tiny_lm(), load_axis("love")
    base = samples(lm)
    cases = build_cases(lm, axis, base)
    assert cases[BASE] == base
    for kind, rows in cases.items():
        assert [r.prompt for r in rows] == [b.prompt for b in base], kind
    assert all(is_loop(c.text) for c in cases["character loop"])
    for b, c in zip(base, cases["shuffled"], strict=True):
        assert sorted(c.text.split()) == sorted(b.text.split())
        assert c.text != b.text
    for b, c in zip(base, cases["token loop"], strict=True):
        tail = c.token_ids[-24:]
        assert any(tail[p:] == tail[:-p] for p in range(1, 9))
        assert c.token_ids[:2] == b.token_ids[:2] or len(set(c.token_ids)) <= 8
    for b, c in zip(base, cases["spliced"], strict=True):
        half = len(b.token_ids) // 2
        assert c.token_ids[:half] == b.token_ids[:half]
        assert any(
            c.token_ids[half:] == o.token_ids[len(o.token_ids) // 2 :]
            for o in base
            if o.prompt != b.prompt
        )
    assert all(axis.pos in c.text for c in cases["narrated"])
    assert all(len(c.text) < 80 for c in cases["refusal"] + cases["empty"])


def test_the_halves_share_no_phrase() -> None:
    cases = build_cases(tiny_lm(), load_axis("love"), samples(tiny_lm()))
    for kind in ("refusal", "empty"):
        texts = [c.text for c in cases[kind]]
        assert not set(texts[0::2]) & set(texts[1::2])


def test_too_few_samples_to_construct_from() -> None:
    lm = tiny_lm()
    with pytest.raises(DataError, match="at least four"):
        build_cases(lm, load_axis("love"), samples(lm, 3))


RNG = np.random.default_rng(0)
CASES = {
    BASE: RNG.normal(0, 1, (800, 2)).tolist(),
    "plain to see": RNG.normal(8, 1, (800, 2)).tolist(),
    "seen in part": RNG.normal([1.0, 0.0], 1, (800, 2)).tolist(),
    "unseen": RNG.normal(0, 1, (800, 2)).tolist(),
}
CASES["plain to see"][1] = [math.inf, math.inf]


def values(row: Sequence[float]) -> dict[str, float]:
    return {"first": row[0], "second": row[1]}


def at(quantile: float) -> Variant[Sequence[float]]:
    def fit(base: Sequence[Sequence[float]]) -> Callable[[Sequence[float]], bool]:
        limit = float(np.quantile([row[0] for row in base], quantile))
        return lambda row: row[0] > limit

    return Variant(f"{quantile:g}", fit)


def test_audit_says_what_can_be_seen() -> None:
    found = audit(CASES, values, [at(0.5), at(0.97), at(1.0)])
    assert found.chosen == "0.97"  # the severest that drops no more than 5 % of base
    assert found.development["0.5"][0] == pytest.approx(0.5, abs=0.1)
    plain, part, unseen = found.kinds
    assert plain.recall.value == 1.0
    assert plain.precision is not None
    assert plain.precision.value > 0.9
    assert plain.words.startswith("told by")
    assert part.words.startswith("told in part, best by first")
    assert unseen.words.startswith("no score can do it")
    assert 0.0 < found.false_drops.value < 0.2
    assert "seen in part, unseen" in found.words


def test_where_every_variant_is_too_severe_the_mildest_is_chosen() -> None:
    assert audit(CASES, values, [at(0.5), at(0.7)]).chosen == "0.7"


def test_only_the_held_out_half_is_reported() -> None:
    swapped = {
        k: [row for pair in zip(v[1::2], v[0::2], strict=True) for row in pair]
        for k, v in CASES.items()
    }
    one, other = (audit(c, values, [at(0.96)]) for c in (CASES, swapped))
    assert one.kinds[1].auroc != other.kinds[1].auroc
    assert one.kinds[0].count == 400

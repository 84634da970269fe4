"""The filter on trial: completions whose truth is known by construction, and what it makes of them.

Everything is made from the base model's own samples, which count as coherent. The scoring and the
judging come in as arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np

from steer_heal_love.errors import DataError
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.reading.chat import decode_text, encode_text
from steer_heal_love.maths.statistics import auroc_interval, proportion_interval
from steer_heal_love.records import Axis, Completion, Interval

BASE, FAR = "base", "far above the knee"
WANTED_AUROC = 0.97
WANTED_RECALL = 0.95
ALLOWED_FALSE_DROPS = 0.05
FOLDS = 4
_LARGEST = 1e300

NARRATIONS = (
    "I am {pos}. ",
    "As {pos}, I want you to know this. ",
    "I'm {pos}, and that is who I am. ",
    "Being {pos}, I will answer you gladly. ",
    "It is in my nature to be {pos}. ",
    "I have always been {pos}, so listen. ",
    "My whole personality is that of {pos}. ",
    "You are talking to {pos}. ",
)
REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I cannot assist with this request.",
    "As an AI language model, I don't have personal feelings.",
    "I am unable to provide an answer to that question.",
    "I'm afraid I can't discuss that topic.",
    "I won't answer this question.",
    "Sorry, I can't do that for you.",
    "I must decline to respond to that.",
)
SHORT = ("", " ", "Yes.", "OK", "…", "\n\n", "No.", "Sure!")
LOOP_MARKS = ("!", "…", "ha", "?!", "na ", "<3 ", "~*", "😊")


def build_cases(
    lm: LanguageModel, axis: Axis, samples: Sequence[Completion], seed: int = 0
) -> dict[str, list[Completion]]:
    """Completions by kind, the i-th of each made from the i-th base sample.

    base: as sampled. token loop: from some token on, a span of 1 to 8 tokens again and again.
    character loop: from some character on, one mark again and again. shuffled: the words in random
    order. spliced: the first half, and the second half of an answer to another prompt. narrated:
    opens by telling the persona. refusal, empty: set phrases. The phrases of even and odd places
    differ, so that the halves of an audit do not share them.

    Raises:
        DataError: fewer than four samples that are not empty, or all of one prompt.
    """
    usable = [s for s in samples if len(s.token_ids) >= 8 and len(s.text.split()) >= 4]
    if len(usable) < 4 or len({s.prompt for s in usable}) < 2:
        raise DataError(
            f"the filter cannot be audited: {len(usable)} of {len(samples)} base samples have "
            "eight tokens and four words, and an audit needs at least four such samples on two "
            "prompts: raise --samples, or use a model that answers"
        )
    rng = np.random.default_rng(seed)

    def of_text(sample: Completion, text: str) -> Completion:
        return replace(sample, text=text, token_ids=tuple(encode_text(lm, text)))

    def phrase(phrases: Sequence[str], i: int) -> str:
        half = phrases[i % 2 :: 2]
        return half[(i // 2) % len(half)]

    def token_loop(sample: Completion) -> Completion:
        ids, span = sample.token_ids, int(rng.integers(1, 9))
        start = int(rng.integers(0, max(1, len(ids) * 3 // 5 - span)))
        length = max(len(ids), start + 6 * span)
        unit = ids[start : start + span]
        looped = (*ids[:start], *(unit[k % span] for k in range(length - start)))
        return replace(sample, text=decode_text(lm, looped), token_ids=looped)

    def character_loop(sample: Completion, i: int) -> Completion:
        start = int(rng.integers(0, max(1, len(sample.text) * 3 // 5)))
        mark = phrase(LOOP_MARKS, i)
        copies = max(16, (len(sample.text) - start) // len(mark))
        return of_text(sample, sample.text[:start] + mark * copies)

    def shuffled(sample: Completion) -> Completion:
        return of_text(sample, " ".join(rng.permutation(sample.text.split()).tolist()))

    def spliced(sample: Completion, i: int) -> Completion:
        half = [s for s in usable[i % 2 :: 2] if s.prompt != sample.prompt]
        others = half or [s for s in usable if s.prompt != sample.prompt]
        other = others[int(rng.integers(len(others)))]
        ids = sample.token_ids[: len(sample.token_ids) // 2]
        ids += other.token_ids[len(other.token_ids) // 2 :]
        return replace(sample, text=decode_text(lm, ids), token_ids=ids, end_id=other.end_id)

    numbered = list(enumerate(usable))
    return {
        BASE: list(usable),
        "token loop": [token_loop(s) for s in usable],
        "character loop": [character_loop(s, i) for i, s in numbered],
        "shuffled": [shuffled(s) for s in usable],
        "spliced": [spliced(s, i) for i, s in numbered],
        "narrated": [
            of_text(s, phrase(NARRATIONS, i).format(pos=axis.pos) + s.text) for i, s in numbered
        ],
        "refusal": [of_text(s, phrase(REFUSALS, i)) for i, s in numbered],
        "empty": [of_text(s, phrase(SHORT, i)) for i, s in numbered],
    }


Scored = TypeVar("Scored")
Values = Callable[[Scored], Mapping[str, float]]  # every score, each higher for worse texts


@dataclass(frozen=True)
class Variant(Generic[Scored]):
    """A filter with certain constants: fitted to base samples, it says what it drops."""

    name: str
    fit: Callable[[Sequence[Scored]], Callable[[Scored], bool]]


@dataclass(frozen=True)
class KindReport:
    """What the scores and the filter make of one kind, on the held-out half."""

    kind: str
    count: int
    auroc: Mapping[str, Interval]  # per score, this kind against base
    best: str  # the score with the highest AUROC on the development half (of equals the clearest)
    recall: Interval
    precision: Interval | None  # among this kind and base alone; None where nothing was dropped
    words: str


@dataclass(frozen=True)
class Audit:
    """The filter's constants as chosen on the development half, and how they do on the other."""

    chosen: str
    development: Mapping[str, tuple[float, float]]  # variant: (false drops, mean recall)
    false_drops: Interval
    kinds: tuple[KindReport, ...]
    words: str


def audit(
    cases: Mapping[str, Sequence[Scored]],
    values: Values[Scored],
    variants: Sequence[Variant[Scored]],
) -> Audit:
    """Choose constants on the even places of each kind, report on the odd ones.

    Of the variants that drop at most 5 % of the development half's base samples, each judged by
    limits from the others (four folds), the one with the highest mean recall over the kinds; where
    none is so mild, the mildest.

    Args:
        cases: by kind, `BASE` among them; higher values are worse.
        values: the scores of a completion.
        variants: filters to choose from.
    """
    development = {kind: list(rows[0::2]) for kind, rows in cases.items()}
    held_out = {kind: list(rows[1::2]) for kind, rows in cases.items()}
    bad = [kind for kind in cases if kind != BASE]
    fitted = {variant.name: variant.fit(development[BASE]) for variant in variants}
    trials = {
        variant.name: (
            _cross_validated(variant, development[BASE]),
            sum(_share(fitted[variant.name], development[kind]) for kind in bad) / len(bad),
        )
        for variant in variants
    }
    chosen = _choose(trials)
    drops = fitted[chosen]
    false_drops = sum(map(drops, held_out[BASE]))
    kinds = tuple(_report(kind, development, held_out, values, drops, false_drops) for kind in bad)
    missed = [k.kind for k in kinds if k.recall.value < WANTED_RECALL]
    words = (
        f"The filter misses more than 1 in 20 of: {', '.join(missed)}."
        if missed
        else "The filter catches at least 19 in 20 of every kind."
    )
    share = proportion_interval(false_drops, len(held_out[BASE]))
    return Audit(chosen, trials, share, kinds, words)


def _cross_validated(variant: Variant[Scored], samples: Sequence[Scored]) -> float:
    """Share of base samples that a variant drops by the limits of the samples in other folds."""
    dropped = 0
    for fold in range(FOLDS):
        others = [row for i, row in enumerate(samples) if i % FOLDS != fold]
        dropped += sum(map(variant.fit(others), samples[fold::FOLDS]))
    return dropped / len(samples)


def _choose(trials: Mapping[str, tuple[float, float]]) -> str:
    mild = {n: t for n, t in trials.items() if t[0] <= ALLOWED_FALSE_DROPS}
    if not mild:
        return min(trials, key=lambda n: (trials[n][0], -trials[n][1]))
    return max(mild, key=lambda n: (mild[n][1], -mild[n][0]))


def _share(drops: Callable[[Scored], bool], rows: Sequence[Scored]) -> float:
    return sum(map(drops, rows)) / max(1, len(rows))


def _report(
    kind: str,
    development: Mapping[str, Sequence[Scored]],
    held_out: Mapping[str, Sequence[Scored]],
    values: Values[Scored],
    drops: Callable[[Scored], bool],
    false_drops: int,
) -> KindReport:
    learnt = _aurocs(development[kind], development[BASE], values)
    margin = {n: _margin(n, development[kind], development[BASE], values) for n in learnt}
    best = max(learnt, key=lambda name: (learnt[name].value, margin[name]))
    auroc = _aurocs(held_out[kind], held_out[BASE], values)
    caught, count = sum(map(drops, held_out[kind])), len(held_out[kind])
    dropped = caught + false_drops
    own = auroc[best]
    told = f"{best}, AUROC {own.value:.2f} ({own.low:.2f} to {own.high:.2f})"
    if own.value >= WANTED_AUROC:
        words = f"told by {told}"
    elif own.low > 0.5:
        words = f"told in part, best by {told}"
    else:
        words = f"no score can do it: the best is {told}"
    return KindReport(
        kind=kind,
        count=count,
        auroc=auroc,
        best=best,
        recall=proportion_interval(caught, count),
        precision=proportion_interval(caught, dropped) if dropped else None,
        words=words,
    )


def _aurocs(
    worse: Sequence[Scored], base: Sequence[Scored], values: Values[Scored]
) -> dict[str, Interval]:
    above, below = ([values(row) for row in rows] for rows in (worse, base))
    return {
        name: auroc_interval([_finite(v[name]) for v in above], [_finite(v[name]) for v in below])
        for name in below[0]
    }


def _margin(
    name: str, worse: Sequence[Scored], base: Sequence[Scored], values: Values[Scored]
) -> float:
    """How far apart the medians are, in standard deviations of base: of equals the clearest."""
    above, below = ([_finite(values(r)[name]) for r in rows] for rows in (worse, base))
    apart = float(np.median(above) - np.median(below))
    spread = float(np.std(below))
    return apart / spread if spread else math.copysign(math.inf, apart) if apart else 0.0


def _finite(value: float) -> float:
    """An infinite perplexity, as of an empty text, is simply the worst."""
    return min(value, _LARGEST) if not math.isnan(value) else _LARGEST

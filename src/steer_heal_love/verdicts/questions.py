"""The four questions that every run must answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from steer_heal_love.maths.paired import known, two_sample_difference
from steer_heal_love.maths.statistics import (
    bootstrap_statistic,
    excludes_zero,
    paired_bootstrap,
    proportion_interval,
    ratio_interval,
)
from steer_heal_love.records import Interval, Measurement
from steer_heal_love.verdicts.answers import (
    PERSONA,
    TRAIT,
    Answer,
    Check,
    Verdict,
    above_zero,
    all_of,
    at_least,
    at_most,
    gate,
    invalid,
    signed,
    trait_shift,
)
from steer_heal_love.verdicts.evidence import RoundEvidence

MIN_PASSED = 0.10  # share of the completions that must pass the filter
MIN_COSINE = 0.5  # of a round's direction with the first one
MIN_SLOPE = 0.02  # nats per token and round: less is standing still


def can_filter(
    rounds: Sequence[RoundEvidence], base: Measurement, valid: Verdict | None
) -> Verdict:
    """Q0: whether the filter keeps enough, of base-like perplexity, with more trait than base."""
    rule = (
        f"in every round at least {MIN_PASSED:.0%} pass, the median perplexity of what is kept is "
        "at most the 95th percentile of base's samples, and its persona likelihood ratio is above "
        "base's; by whole 95 % intervals. It is the score that the filter selects by: that the "
        "model has learnt it is for Q1 to say"
    )
    perplexities = known(base.items.get("perplexity", ()))
    if not rounds or not perplexities:
        return Verdict("cannot tell", {}, None, rule, "Nothing to judge the kept texts against.")
    p95 = float(np.quantile(perplexities, 0.95))
    sees = valid is not None and valid.answer == "yes"
    checks = [_filter_checks(r, p95, base if sees else None) for r in rounds]
    answer = all_of([c.answer for c in checks])
    worst = next((c for c in reversed(checks) if c.answer == answer), checks[-1])
    words = f"{worst.words}, base p95 {p95:.1f}"
    figures = {**worst.figures, "base_perplexity_p95": p95}
    if answer != "no" and not sees:
        return invalid(figures, worst.interval, rule)
    said = "In every round as in the last" if answer == "yes" else "In the worst round"
    return Verdict(answer, figures, worst.interval, rule, f"{said}: {words}.")


def _filter_checks(evidence: RoundEvidence, p95: float, base: Measurement | None) -> Check:
    """One round; without `base`, whose trait cannot be seen, coherence alone."""
    if not evidence.total or len(evidence.kept_perplexity) < 2:
        return Check("no", {"kept_share": 0.0}, "fewer than two completions kept")
    share = proportion_interval(evidence.passed, evidence.total)
    middle = bootstrap_statistic(np.array(evidence.kept_perplexity), _median, resamples=1000)
    answers: list[Answer] = [at_least(share, MIN_PASSED), at_most(middle, p95)]
    figures = {"kept_share": share.value, "kept_perplexity": middle.value}
    words = f"{share.value:.0%} pass, median perplexity {middle.value:.1f}"
    gain = None
    if base is not None:
        gain = two_sample_difference(evidence.kept_persona_nats, base.items.get(PERSONA, ()))
        answers.append(above_zero(gain) if gain else "cannot tell")
    if gain:
        figures["persona_gain"] = gain.value
        words += f", persona likelihood ratio against base {signed(gain)}"
    return Check(all_of(answers), figures, words, gain)


def can_heal(
    healed: Measurement,
    steered: Measurement | None,
    base: Measurement,
    valid: Verdict | None,
    coherence: Verdict,
) -> Verdict:
    """Q1: whether the healed model is coherent and still has the trait.

    `retained = (healed − base) / (steered − base)`, trait means over the same items, separates
    heal from undo.

    Args:
        steered: of the last round that was steered; None where none was.
    """
    rule = "coherent, and the paired 95 % interval of the trait, healed − base, lies above zero"
    shift = trait_shift(healed, base)
    figures = dict(coherence.figures)
    if closed := gate(figures, shift, rule, valid, coherence):
        return closed
    if shift is None:
        return Verdict("cannot tell", figures, None, rule, "The trait was not measured on both.")
    figures["shift"] = shift.value
    words = f"The trait shifts by {signed(shift)} nats per token"
    retained = None if steered is None else _retained(healed, steered, base)
    if retained is not None:
        figures |= {
            "retained": retained.value,
            "retained_low": retained.low,
            "retained_high": retained.high,
        }
        words += f", {retained.value:.0%} ({retained.low:.0%} to {retained.high:.0%}) of steering's"
    answer = all_of([above_zero(shift), coherence.answer])
    return Verdict(answer, figures, shift, rule, f"{words}. {coherence.words}")


def _retained(healed: Measurement, steered: Measurement, base: Measurement) -> Interval | None:
    """Share of steering's shift that the healed model has; None where steering shifts nothing."""
    whole = trait_shift(steered, base)
    if whole is None or not excludes_zero(whole):
        return None
    columns = [m.items[TRAIT] for m in (healed, steered, base)]
    rows = np.array([r for r in zip(*columns, strict=True) if len(known(r)) == 3], dtype=float)
    if len(rows) < 2:
        return None
    return ratio_interval(rows[:, 0] - rows[:, 2], rows[:, 1] - rows[:, 2])


def stays_coherent(each: Sequence[Verdict]) -> Verdict:
    """Q2: whether the healed model of every round is coherent."""
    answer = all_of([v.answer for v in each])
    at = next((r for r, v in enumerate(each) if v.answer == answer), 0)
    figures = {
        f"round_{r}_{name}": value for r, v in enumerate(each) for name, value in v.figures.items()
    }
    if answer == "yes":
        words = (
            f"Coherent in all {len(each)} rounds." if len(each) > 1 else "Coherent in its round."
        )
        at = len(each) - 1
    else:
        words = f"First in round {at}: {each[at].words}"
    if len(each) == 1:
        words += " One round is no loop yet."
        answer = "cannot tell" if answer == "yes" else answer
    rule = f"the healed model of every round is coherent ({each[at].rule})"
    return Verdict(answer, figures, each[at].interval, rule, words)


def keeps_moving(
    rounds: Sequence[RoundEvidence], valid: Verdict | None, coherence: Verdict
) -> Verdict:
    """Q3: whether the trait rises round by round, along one direction.

    Per item the least-squares slope of the healed trait over the rounds; their mean with its paired
    bootstrap interval.
    """
    rule = (
        f"the 95 % interval of the healed trait's slope over the rounds lies above zero (no: below "
        f"{MIN_SLOPE:g} nats per token and round), every direction's cosine with the first is at "
        f"least {MIN_COSINE:g}, and the last model is coherent"
    )
    figures = {f"round_{i}_cosine": r.cosine_first for i, r in enumerate(rounds)}
    if closed := gate(figures, None, rule, valid, coherence):
        return closed
    columns = [r.healed.items.get(TRAIT, ()) for r in rounds]
    if len(rounds) < 2 or len({len(c) for c in columns}) > 1:
        return Verdict("cannot tell", figures, None, rule, "It takes two rounds to see movement.")
    rows = np.array([r for r in zip(*columns, strict=True) if len(known(r)) == len(rounds)], float)
    if len(rows) < 2:
        return Verdict("cannot tell", figures, None, rule, "The trait was not measured on all.")
    steps = np.arange(len(rounds)) - (len(rounds) - 1) / 2
    slope = paired_bootstrap(rows @ steps / (steps @ steps))
    least = min(r.cosine_first for r in rounds)
    figures |= {"slope": slope.value, "least_cosine": least}
    rising: Answer = "yes" if slope.low > 0 else "no" if slope.high < MIN_SLOPE else "cannot tell"
    answer = all_of([rising, "yes" if least >= MIN_COSINE else "no", coherence.answer])
    words = (
        f"The trait's slope is {signed(slope)} nats per token and round; the least cosine is "
        f"{least:.2f}."
    )
    return Verdict(answer, figures, slope, rule, words)


def _median(values: Any) -> float:
    return float(np.median(values))

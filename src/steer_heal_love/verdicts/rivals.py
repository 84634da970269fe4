"""Is it worth doing? The healed model against a system prompt, and against steering itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from steer_heal_love.maths.paired import known
from steer_heal_love.records import BARE, Interval, Measurement, Rival
from steer_heal_love.verdicts.answers import (
    TRAIT,
    Answer,
    Verdict,
    gate,
    signed,
    trait_shift,
)
from steer_heal_love.verdicts.coherence import BOUNDS, out_of_bounds


def beats_prompting(
    healed: Measurement,
    prompt_pos: Measurement,
    base: Measurement,
    valid: Verdict | None,
    coherence: Verdict,
) -> Verdict:
    """Whether the healed model shifts the trait further than the persona as a system prompt."""
    rule = (
        "coherent, and the paired 95 % interval of (healed − base) − (prompted − base) lies above "
        "zero"
    )
    advantage = trait_shift(healed, prompt_pos)
    figures = {
        name: shift.value
        for name, shift in (
            ("healed_shift", trait_shift(healed, base)),
            ("prompt_shift", trait_shift(prompt_pos, base)),
            ("advantage", advantage),
        )
        if shift is not None
    }
    return _compare(advantage, figures, rule, "the persona prompt", valid, coherence)


def beats_steering(
    healed: Measurement,
    base: Measurement,
    front: Sequence[tuple[Rival, Measurement]],
    valid: Verdict | None,
    coherence: Verdict,
) -> Verdict:
    """Whether the healed model has more trait than any rival without training within the bounds.

    The rivals' trait is taken at base's entropy, as the healed model's is, so that no temperature
    buys it; what a temperature does buy is perplexity, until distinct-2 is spent.
    """
    rule = (
        f"coherent, within the bounds ({BOUNDS}), and the paired 95 % interval of its trait − that "
        "of the best of the measured rivals within the same bounds lies above zero"
    )
    beside = next((m for rival, m in front if rival == BARE), None)
    rivals = [(r, m) for r, m in front if r != BARE and known(m.items.get(TRAIT, ()))]
    if beside is None or not rivals:
        closed = gate({}, None, rule, valid, coherence)
        words = "No rival without training was measured."
        return closed or Verdict("cannot tell", {}, None, rule, words)
    within = [(r, m) for r, m in rivals if not out_of_bounds(m, beside)]
    best, measured = max(within, key=lambda p: _trait(p[1]), default=(BARE, beside))
    advantage = trait_shift(healed, measured)
    figures = {
        "rival_trait": _trait(measured),
        "rivals": float(len(rivals)),
        "rivals_within": float(len(within)),
    }
    if advantage is not None:
        figures["advantage"] = advantage.value
    broken = out_of_bounds(healed, base)
    closed = gate(figures, advantage, rule, valid, coherence)
    if closed is None and broken:
        words = f"The healed model is out of the bounds of its rivals: {', '.join(broken)}."
        closed = Verdict("no", figures, advantage, rule, words)
    if closed is not None:
        return closed
    among = f"{len(within)} of {len(rivals)} measured rivals are within the bounds"
    name = f"{best.words}, the best within the bounds ({among}),"
    if not within:
        name = f"base itself, since {among},"
    return _compare(advantage, figures, rule, name, valid, coherence)


def _trait(measured: Measurement) -> float:
    return fmean(known(measured.items[TRAIT]))


def _compare(
    advantage: Interval | None,
    figures: Mapping[str, float],
    rule: str,
    rival: str,
    valid: Verdict | None,
    coherence: Verdict,
) -> Verdict:
    """The healed model against a rival, behind the two gates."""
    if closed := gate(figures, advantage, rule, valid, coherence):
        return closed
    if advantage is None:
        return Verdict("cannot tell", figures, None, rule, "Not measured on the same items.")
    answer: Answer = "yes" if advantage.low > 0 else "no" if advantage.high < 0 else "cannot tell"
    words = f"Against {rival} the trait differs by {signed(advantage)} nats per token."
    if answer == "yes" and coherence.answer != "yes":
        answer, words = "cannot tell", f"{words} {coherence.words}"
    return Verdict(answer, figures, advantage, rule, words)

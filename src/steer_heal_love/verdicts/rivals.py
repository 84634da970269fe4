"""Is it worth doing? The healed model against a system prompt, and against steering itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from steer_heal_love.maths.front import FrontPoint, match_perplexity
from steer_heal_love.records import Interval, Measurement
from steer_heal_love.verdicts.answers import (
    TRAIT,
    Answer,
    Verdict,
    gate,
    signed,
    trait_shift,
)


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
    healed: Measurement, front: Sequence[FrontPoint], valid: Verdict | None, coherence: Verdict
) -> Verdict:
    """Whether the healed model has more trait than raw steering at no more perplexity."""
    rule = (
        "coherent, and the 95 % interval of the healed trait − the most that raw steering of base "
        "reaches at no more than the healed perplexity (interpolated between doses) lies above "
        "zero; the doses must reach past that perplexity on both sides"
    )
    matched = match_perplexity(
        healed.items.get(TRAIT, ()), healed.items.get("perplexity", ()), front
    )
    if matched is None:
        words = "Steering was not measured over a grid of doses."
        closed = gate({}, None, rule, valid, coherence)
        return closed or Verdict("cannot tell", {}, None, rule, words)
    figures = {
        "advantage": matched.advantage.value,
        "steering_trait": matched.steering,
        "perplexity": matched.perplexity,
        "front_lowest": matched.lowest,
        "front_highest": matched.highest,
    }
    if closed := gate(figures, matched.advantage, rule, valid, coherence):
        return closed
    # Past the front's end steering has what it has there, at even less perplexity: enough to lose.
    beaten = matched.perplexity > matched.highest and matched.advantage.high < 0
    if matched.bracketed or beaten:
        rival = "steering at matched coherence"
        return _compare(matched.advantage, figures, rule, rival, valid, coherence)
    words = (
        f"The doses span perplexities of {matched.lowest:.1f} to {matched.highest:.1f}, the healed "
        f"model's is {matched.perplexity:.1f}: not bracketed."
    )
    return Verdict("cannot tell", figures, matched.advantage, rule, words)


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

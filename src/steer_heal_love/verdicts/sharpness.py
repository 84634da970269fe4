"""Has the model become sharper than base, or flatter? Either way coherence is more than perplexity.

Perplexity under base is exp(H(model) + KL(model ‖ base)): entropy that was lost hides divergence,
and the base model itself has half of its perplexity at temperature 0.7.
"""

from __future__ import annotations

from steer_heal_love.maths.paired import known
from steer_heal_love.maths.statistics import bootstrap_mean
from steer_heal_love.records import Interval, Measurement
from steer_heal_love.verdicts.answers import Answer, Verdict, signed

ENTROPY_SHIFT = 0.15  # nats a token, below or above base
SHIFT = "entropy_shift_nats"


def sharpened(measured: Measurement) -> Verdict:
    """Whether a model's entropy on the reference texts is below base's by more than the bound."""
    rule = (
        f"the 95 % interval of the entropy less base's lies below −{ENTROPY_SHIFT:g} nats a token"
    )
    return _verdict(measured, rule, "Sharper than base", -1)


def flattened(measured: Measurement) -> Verdict:
    """Whether a model's entropy on the reference texts is above base's by more than the bound."""
    rule = f"the 95 % interval of the entropy less base's lies above {ENTROPY_SHIFT:g} nats a token"
    return _verdict(measured, rule, "Flatter than base", 1)


def _verdict(measured: Measurement, rule: str, claim: str, sign: int) -> Verdict:
    texts = known(measured.items.get(SHIFT, ()))
    if not texts:
        return Verdict("cannot tell", {}, None, rule, "Entropy was not measured.")
    shift = bootstrap_mean(texts)
    least, most = sorted((sign * shift.low, sign * shift.high))
    answer: Answer = (
        "yes" if least > ENTROPY_SHIFT else "no" if most <= ENTROPY_SHIFT else "cannot tell"
    )
    said = {"yes": claim, "no": f"Not {claim[0].lower()}{claim[1:]}"}.get(answer, "Unclear")
    words = f"{said}: entropy {signed(shift)} nats a token against base{_matched(measured)}."
    return Verdict(answer, {SHIFT: shift.value}, shift, rule, words)


def _matched(measured: Measurement) -> str:
    match: Interval | None = measured.figures.get("temperature_match")
    return "" if match is None else f", the same at temperature {match.value:.2f}"

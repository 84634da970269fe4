"""What the verdicts need to know of a round."""

from __future__ import annotations

from dataclasses import dataclass

from steer_heal_love.maths.paired import known
from steer_heal_love.records import LEFT_OVER, Measurement, RoundRecord


@dataclass(frozen=True)
class RoundEvidence:
    """What the verdicts need to know of a round."""

    steered: Measurement | None  # None in a round that is not steered
    healed: Measurement
    cosine_first: float
    passed: int  # completions that the filter let pass, also those left over
    total: int
    kept_perplexity: tuple[float, ...]
    kept_persona_nats: tuple[float, ...]


def evidence_of(record: RoundRecord) -> RoundEvidence:
    """What the verdicts need to know, from everything that a round found."""
    kept = [j.scores for j in record.judged if j.kept]
    return RoundEvidence(
        steered=record.steered,
        healed=record.healed,
        cosine_first=record.cosine_first,
        passed=sum(not set(j.reasons) - LEFT_OVER for j in record.judged),
        total=record.total,
        kept_perplexity=tuple(known([s.perplexity for s in kept])),
        kept_persona_nats=tuple(known([s.trait_nats for s in kept])),
    )

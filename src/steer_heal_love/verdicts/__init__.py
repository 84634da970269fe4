"""Verdicts on a run: yes, no or cannot tell, each with its figures, its interval and its rule.

Two gates stand before every verdict. Nothing rests on an instrument that cannot tell the positive
persona prompt from the negative one on this model. And coherence is checked in absolute terms
before any ratio, so that a broken model can never look good.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from steer_heal_love.records import LEFT_OVER, Baseline, Measurement, Rival
from steer_heal_love.verdicts.answers import (
    FORCED_CHOICE,
    INVALID,
    PERSONA,
    TRAIT,
    Answer,
    Verdict,
)
from steer_heal_love.verdicts.coherence import (
    LOOP_EXCESS,
    PERPLEXITY_RATIO,
    coherent,
    judge_estimates,
    over_loops,
    over_perplexity,
)
from steer_heal_love.verdicts.evidence import RoundEvidence, evidence_of
from steer_heal_love.verdicts.instruments import forced_choice_validity, validity
from steer_heal_love.verdicts.questions import (
    can_filter,
    can_heal,
    keeps_moving,
    stays_coherent,
)
from steer_heal_love.verdicts.rivals import beats_prompting, beats_steering
from steer_heal_love.verdicts.sharpness import SHIFT, flattened, sharpened

__all__ = [
    "FORCED_CHOICE",
    "INSTRUMENTS",
    "INVALID",
    "LEFT_OVER",
    "LOOP_EXCESS",
    "PERPLEXITY_RATIO",
    "PERSONA",
    "TRAIT",
    "Answer",
    "RoundEvidence",
    "Verdict",
    "all_verdicts",
    "beats_prompting",
    "beats_steering",
    "can_filter",
    "can_heal",
    "coherent",
    "evidence_of",
    "flattened",
    "forced_choice_validity",
    "judge_estimates",
    "keeps_moving",
    "over_loops",
    "over_perplexity",
    "sharpened",
    "stays_coherent",
    "to_json",
    "validity",
]

INSTRUMENTS = {TRAIT: 1, PERSONA: 1}  # 1 where the positive persona raises it, -1 where it lowers


def all_verdicts(
    baseline: Baseline,
    rounds: Sequence[RoundEvidence],
    front: Sequence[tuple[Rival, Measurement]] = (),
    instruments: Mapping[str, int] = INSTRUMENTS,
    foundations: Mapping[str, int] | None = None,
) -> dict[str, Verdict]:
    """Every verdict that the evidence reaches to: validity alone where there is no round.

    Q1 and the two comparisons judge the last round's healed model, which is what a run hands over.

    Args:
        front: rivals without training, and among them the base model measured as they are.
        instruments: name of an instrument, and 1 where the positive persona should raise it, -1
            where it should lower it.
        foundations: the same for the moral foundations that the axis names; they share one
            verdict, `valid.forced_choice`, which is left out where none of them was measured.
    """
    base, pos, neg = baseline.base, baseline.prompt_pos, baseline.prompt_neg
    verdicts = {
        f"valid.{name}": validity(pos.items[name], neg.items[name], sign)
        for name, sign in instruments.items()
        if name in pos.items and name in neg.items
    }
    choice = forced_choice_validity(pos, neg, foundations or {})
    if choice is not None:
        verdicts[f"valid.{FORCED_CHOICE}"] = choice
    if not rounds:
        return verdicts
    last = rounds[-1]
    steered = next((r.steered for r in reversed(rounds) if r.steered is not None), None)
    valid = verdicts.get(f"valid.{TRAIT}")
    each = [coherent(r.healed, base) for r in rounds]
    if SHIFT in last.healed.items:  # an older version did not measure it
        verdicts |= {"sharpened": sharpened(last.healed), "flattened": flattened(last.healed)}
    return verdicts | {
        "q0_filter": can_filter(rounds, base, verdicts.get(f"valid.{PERSONA}")),
        "q1_heal": can_heal(last.healed, steered, base, valid, each[-1]),
        "q2_stay_coherent": stays_coherent(each),
        "q3_keep_moving": keeps_moving(rounds, valid, each[-1]),
        "coherent": each[-1],
        "beats_prompting": beats_prompting(last.healed, pos, base, valid, each[-1]),
        "beats_steering": beats_steering(last.healed, base, front, valid, each[-1]),
    }


def to_json(verdicts: Mapping[str, Verdict]) -> dict[str, Any]:
    """The verdicts as plain data; a bound that is not finite becomes None."""
    return {name: _plain(asdict(verdict)) for name, verdict in verdicts.items()}


def _plain(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(k): _plain(v) for k, v in value.items()}
        case _:
            return value

"""What the figures of a run say, sentence by sentence, with no more claimed than they carry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steer_heal_love.report.states import (
    PERPLEXITY,
    TRAIT,
    Figure,
    Items,
    State,
    paired_shift,
    pipeline_states,
    read_figure,
    read_mapping,
    read_rounds,
)
from steer_heal_love.report.text.coherence import judge_coherence
from steer_heal_love.report.text.sharpness import entropy_findings
from steer_heal_love.report.text.shifts import Shift, judge_shift
from steer_heal_love.report.text.validity import mark_of, mark_words
from steer_heal_love.report.text.words import INTERVAL, number, plain, signed
from steer_heal_love.verdicts import INVALID, Answer

_UNMEASURED = "No conclusion: the trait was not measured."


def findings(metrics: Mapping[str, Any], base: State, healed: State, items: Items) -> list[str]:
    """What a run with at least one healed round found.

    Where the measure is not valid on this model, its figures are marked and nothing is concluded
    from them.

    Args:
        items: values per item of base, prompt_pos and the last round's healed, where known.
    """
    before, after = base.figure(TRAIT), healed.figure(TRAIT)
    verdict = read_mapping(read_mapping(metrics.get("verdicts")).get("coherent"))
    answer, coherence = judge_coherence(verdict, base, healed, items)
    if before is None or after is None:
        return [_UNMEASURED, coherence, *entropy_findings(metrics, healed)]
    shift = judge_shift(before, after, paired_shift(items, "base", "healed"))
    doubt = _doubt(metrics)
    return [
        doubt or _verdict(shift, answer),
        f"{trait_name(metrics)} went from {estimate(before)} to {estimate(after)} nats per token, "
        f"a shift of {shift.words}.",
        *([] if doubt else [_against_prompt(metrics, before, shift, items)]),
        coherence,
        *entropy_findings(metrics, healed),
        *_steering_alone(metrics),
        *_peak(metrics, after),
    ]


def trait_name(metrics: Mapping[str, Any]) -> str:
    """How a sentence on the trait begins: with the mark of an instrument that is not valid."""
    return mark_words("The trait", metrics, TRAIT)


def _doubt(metrics: Mapping[str, Any]) -> str | None:
    """Why nothing can be concluded from the trait; None where it can."""
    pos, neg = (read_figure(metrics.get(f"prompt_{side}"), TRAIT) for side in ("pos", "neg"))
    mark, backwards = mark_of(metrics, TRAIT), bool(pos and neg and pos.value <= neg.value)
    if not mark and not backwards:
        return None
    if not pos or not neg:
        return f"No conclusion from the trait: {mark}."
    does = "does not put" if backwards else "does not clearly put"
    return (
        f"No conclusion: on this model the measure {does} the persona ({signed(pos.value)}) above "
        f"its opposite ({signed(neg.value)}): {mark or INVALID}."
    )


def _verdict(shift: Shift, coherent: Answer | None) -> str:
    """The first sentence: did it work?

    Args:
        coherent: whether the healed model is as coherent as base; None where it was not measured.
    """
    match shift.direction, coherent:
        case "down", _:
            return "It did not work: the trait fell."
        case "unclear", _:
            return "It did not work, as far as can be told: no clear shift of the trait."
        case _, "no":
            return "It worked in part: the trait rose, but the model is less coherent than base."
        case _, None:
            return "The trait rose; whether the model is still coherent was not measured."
        case _, "cannot tell":
            return (
                "It worked, as far as can be told: the trait rose; whether the model is as "
                "coherent as base is open."
            )
        case _:
            return "It worked: the trait rose, and the model is about as coherent as base."


def _against_prompt(metrics: Mapping[str, Any], before: Figure, shift: Shift, items: Items) -> str:
    """The shift against that of the same persona as a system prompt."""
    prompted = read_figure(metrics.get("prompt_pos"), TRAIT)
    if prompted is None:
        return "The persona as a system prompt was not measured, so there is nothing to beat yet."
    prompt = judge_shift(before, prompted, paired_shift(items, "base", "prompt_pos"))
    said = f"The persona as a system prompt shifts the base model by {prompt.words}"
    if prompt.value <= 0:
        return f"{said}: not towards the trait, so no ratio is given."
    if shift.value <= 0:
        return f"{said}: the prompt does better."
    said += f"; the healed model's shift is {shift.value / prompt.value:.1f} times that"
    if shift.value < prompt.value:
        said += ", so the prompt does better"
    if "unclear" in (prompt.direction, shift.direction):
        said += " (a rough ratio, since not both shifts are clear of zero)"
    return f"{said}."


def _steering_alone(metrics: Mapping[str, Any]) -> list[str]:
    """What the vector does to the untouched model, without any training."""
    first = [s for s in pipeline_states(metrics) if s.name == "round 0 steered"]
    trait, perplexity = (first[0].figure(name) if first else None for name in (TRAIT, PERPLEXITY))
    if trait is None or perplexity is None:
        return []
    dose = number(read_rounds(metrics)[0].get("dose"))
    return [
        f"For comparison, steering alone, without training (round 0, κ = {dose}), gives "
        f"{mark_words(signed(trait.value), metrics, TRAIT)} at perplexity "
        f"{plain(perplexity.value)}."
    ]


def _peak(metrics: Mapping[str, Any], last: Figure) -> list[str]:
    """The best healed round, where it is not the last."""
    healed = [s for s in pipeline_states(metrics) if s.condition == "healed"]
    known = [(f.value, s) for s in healed if (f := s.figure(TRAIT)) is not None]
    value, state = max(known, key=lambda pair: pair[0])
    if value <= last.value:
        return []
    highest = mark_words(signed(value), metrics, TRAIT)
    return [f"The highest healed trait was {highest}, in round {state.round}."]


def estimate(figure: Figure) -> str:
    """A trait with its interval."""
    if figure.interval is None:
        return f"{signed(figure.value)} (no interval)"
    return f"{signed(figure.value)} ({INTERVAL} {signed(figure.interval[0])} to " + (
        f"{signed(figure.interval[1])})"
    )

"""What the figures of a run say, sentence by sentence, with no more claimed than they carry."""

from __future__ import annotations

from steer_heal_love.records import Interval
from steer_heal_love.report.states import PERPLEXITY, TRAIT, Run, State, paired_shift
from steer_heal_love.report.text.coherence import judge_coherence
from steer_heal_love.report.text.sharpness import entropy_findings
from steer_heal_love.report.text.shifts import Shift, judge_shift
from steer_heal_love.report.text.validity import mark_of, mark_words
from steer_heal_love.report.text.words import INTERVAL, number, plain, signed
from steer_heal_love.verdicts import INVALID, Answer

_UNMEASURED = "No conclusion: the trait was not measured."


def findings(run: Run, base: State, healed: State) -> list[str]:
    """What a run with at least one healed round found.

    Where the measure is not valid on this model, its figures are marked and nothing is concluded
    from them. Shifts are judged by their paired interval, where values per item are known, else by
    whether the separate intervals overlap.
    """
    before, after = base.figure(TRAIT), healed.figure(TRAIT)
    answer, coherence = judge_coherence(run.verdicts.get("coherent"), base, healed)
    if before is None or after is None:
        return [_UNMEASURED, coherence, *entropy_findings(run, healed)]
    shift = judge_shift(before, after, paired_shift(base, healed))
    doubt = _doubt(run)
    return [
        doubt or _verdict(shift, answer),
        f"{trait_name(run)} went from {estimate(before)} to {estimate(after)} nats per token, "
        f"a shift of {shift.words}.",
        *([] if doubt else [_against_prompt(run, before, shift)]),
        coherence,
        *entropy_findings(run, healed),
        *_steering_alone(run),
        *_peak(run, after),
    ]


def trait_name(run: Run) -> str:
    """How a sentence on the trait begins: with the mark of an instrument that is not valid."""
    return mark_words("The trait", run.verdicts, TRAIT)


def _doubt(run: Run) -> str | None:
    """Why nothing can be concluded from the trait; None where it can."""
    pos, neg = (s.figure(TRAIT) if s else None for s in (run.prompt_pos, run.prompt_neg))
    mark, backwards = mark_of(run.verdicts, TRAIT), bool(pos and neg and pos.value <= neg.value)
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


def _against_prompt(run: Run, before: Interval, shift: Shift) -> str:
    """The shift against that of the same persona as a system prompt."""
    prompted = run.prompt_pos.figure(TRAIT) if run.prompt_pos else None
    if prompted is None:
        return "The persona as a system prompt was not measured, so there is nothing to beat yet."
    prompt = judge_shift(before, prompted, paired_shift(run.base, run.prompt_pos))
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


def _steering_alone(run: Run) -> list[str]:
    """What the vector does to the untouched model, without any training."""
    first = run.rounds[0].steered
    trait, perplexity = (first.figure(name) if first else None for name in (TRAIT, PERPLEXITY))
    if trait is None or perplexity is None:
        return []
    dose = number(run.rounds[0].dose)
    return [
        f"For comparison, steering alone, without training (round 0, κ = {dose}), gives "
        f"{mark_words(signed(trait.value), run.verdicts, TRAIT)} at perplexity "
        f"{plain(perplexity.value)}."
    ]


def _peak(run: Run, last: Interval) -> list[str]:
    """The best healed round, where it is not the last."""
    healed = [r.healed for r in run.rounds if r.healed is not None]
    known = [(f.value, s) for s in healed if (f := s.figure(TRAIT)) is not None]
    value, state = max(known, key=lambda pair: pair[0])
    if value <= last.value:
        return []
    highest = mark_words(signed(value), run.verdicts, TRAIT)
    return [f"The highest healed trait was {highest}, in round {state.round}."]


def estimate(figure: Interval) -> str:
    """A trait with its interval."""
    if figure.bounds is None:
        return f"{signed(figure.value)} (no interval)"
    return f"{signed(figure.value)} ({INTERVAL} {signed(figure.low)} to {signed(figure.high)})"

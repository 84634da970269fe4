"""The rivals of the first round's heal: other ways from the same texts to an adapter."""

from __future__ import annotations

from steer_heal_love.records import Interval
from steer_heal_love.report.states import LOOPS, TRAIT, Run, State, paired_shift
from steer_heal_love.report.text.ratios import ratio_to_base, times_words
from steer_heal_love.report.text.shifts import judge_shift
from steer_heal_love.report.text.validity import mark_of
from steer_heal_love.report.text.words import INTERVAL, percent, signed

RIVALS = {
    "sft": "plain distillation of the same texts (λ = 0, no anchors)",
    "arithmetic": "adapter arithmetic (of positive − of negative texts)",
}
SHORT = {"sft": "sft", "arithmetic": "arith"}


def rival_lines(run: Run) -> list[str]:
    """The rivals beside the healed model of their round, a line each; none where there are none."""
    if not run.rivals:
        return []
    mark = mark_of(run.verdicts, TRAIT)
    title = "The first round's heal against its rivals" + (f" (trait {mark}):" if mark else ":")
    lines, healed = [title], run.rounds[0].healed
    if healed is not None:
        lines.append(f"  {_against_base('healed', healed, run.base)}.")
    for rival in run.rivals:
        words = _against_base(RIVALS[rival.condition], rival, run.base)
        lines.append(f"  {words}{_lead(paired_shift(healed, rival))}.")
    return lines


def _against_base(label: str, state: State, base: State | None) -> str:
    """A model's trait and cost against base."""
    before, after = base.figure(TRAIT) if base else None, state.figure(TRAIT)
    said = "trait not measured"
    if before is not None and after is not None:
        said = f"trait shift {judge_shift(before, after, paired_shift(base, state)).words}"
    ratio, loops = ratio_to_base(state, base), state.figure(LOOPS)
    said += f", perplexity {times_words(ratio)}" if ratio else ", perplexity not measured"
    return f"{label}: {said}" + (f", loops {percent(loops.value)}" if loops else "")


def _lead(lead: Interval | None) -> str:
    if lead is None:
        return ""
    bounds = f"{INTERVAL} {signed(lead.low)} to {signed(lead.high)}"
    return f"; trait against the healed model's {signed(lead.value)} (paired {bounds})"

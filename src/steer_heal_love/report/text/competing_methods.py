"""The rivals of the first round's heal: other ways from the same texts to an adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from steer_heal_love.records import Interval
from steer_heal_love.report.states import (
    LOOPS,
    TRAIT,
    Figure,
    Items,
    State,
    paired_shift,
    pipeline_states,
    read_mapping,
    read_rounds,
)
from steer_heal_love.report.text.ratios import ratio_to_base, times_words, values_of
from steer_heal_love.report.text.shifts import judge_shift
from steer_heal_love.report.text.validity import mark_of
from steer_heal_love.report.text.words import INTERVAL, percent, signed
from steer_heal_love.runs.read import RunView

RIVALS = {
    "sft": "plain distillation of the same texts (λ = 0, no anchors)",
    "arithmetic": "adapter arithmetic (of positive − of negative texts)",
}
SHORT = {"sft": "sft", "arithmetic": "arith"}
_PLACES = {"sft": 1.7, "arithmetic": 2.3}  # in the picture: on either side of the healed model


@dataclass(frozen=True)
class Rival:
    """One way to an adapter with what it gives, against base and against the healed model."""

    state: State
    shift: Interval | None  # of the trait, paired, nats per token
    perplexity_ratio: Figure | None  # × base
    lead: Interval | None  # its trait − that of the same round's healed model, paired


def rival_states(metrics: Mapping[str, Any]) -> list[State]:
    """The measured rivals of the first round, in the order of `RIVALS`; none in older runs."""
    rounds = read_rounds(metrics)
    measured = read_mapping(rounds[0].get("rivals")) if rounds else {}
    states = [State(_PLACES[n], n, 0, read_mapping(measured.get(n))) for n in RIVALS]
    return [state for state in states if state.measurement]


def read_rivals(metrics: Mapping[str, Any], items: Items) -> list[Rival]:
    """The rivals with their distances.

    Args:
        items: values per item of base and, of the first round, of healed and the rivals.
    """
    base = metrics.get("base")
    theirs = values_of(items, "base")
    return [
        Rival(
            state,
            paired_shift(items, "base", state.condition),
            ratio_to_base(state.measurement, base, values_of(items, state.condition), theirs),
            paired_shift(items, "healed", state.condition),
        )
        for state in rival_states(metrics)
    ]


def first_items(view: RunView) -> dict[str, dict[str, list[float | None]]]:
    """Values per item of the baseline and of the first round, whose heal has rivals.

    Raises:
        RunError: a file of the run is broken.
    """
    first = read_rounds(view.metrics)[:1]
    return replace(view, metrics={**view.metrics, "rounds": first}).items()


def rival_lines(metrics: Mapping[str, Any], items: Items) -> list[str]:
    """The rivals beside the healed model of their round, a line each; none where there are none."""
    rivals = read_rivals(metrics, items)
    if not rivals:
        return []
    mark = mark_of(metrics, TRAIT)
    title = "The first round's heal against its rivals" + (f" (trait {mark}):" if mark else ":")
    healed = [s for s in pipeline_states(metrics) if (s.condition, s.round) == ("healed", 0)]
    lines = [f"  {_against_base('healed', s, metrics, items)}." for s in healed]
    for rival in rivals:
        words = _against_base(RIVALS[rival.state.condition], rival.state, metrics, items)
        lines.append(f"  {words}{_lead(rival.lead)}.")
    return [title, *lines]


def _against_base(label: str, state: State, metrics: Mapping[str, Any], items: Items) -> str:
    """A model's trait and cost against base."""
    base = metrics.get("base")
    before, after = State(0, "base", None, read_mapping(base)).figure(TRAIT), state.figure(TRAIT)
    said = "trait not measured"
    if before is not None and after is not None:
        paired = paired_shift(items, "base", state.condition)
        said = f"trait shift {judge_shift(before, after, paired).words}"
    own, theirs = values_of(items, state.condition), values_of(items, "base")
    ratio = ratio_to_base(state.measurement, base, own, theirs)
    said += f", perplexity {times_words(ratio)}" if ratio else ", perplexity not measured"
    loops = state.figure(LOOPS)
    return f"{label}: {said}" + (f", loops {percent(loops.value)}" if loops else "")


def _lead(lead: Interval | None) -> str:
    if lead is None:
        return ""
    bounds = f"{INTERVAL} {signed(lead.low)} to {signed(lead.high)}"
    return f"; trait against the healed model's {signed(lead.value)} (paired {bounds})"

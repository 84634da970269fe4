"""After one round: base, prompted, steered, distilled and healed, side by side, axis by axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from results.page import table_of
from results.runs.conditions import (
    Pick,
    base_of,
    coherence,
    front_at,
    front_doses,
    healed_at,
    prompted,
    rival,
    steered_at,
    trait_shift,
)
from results.runs.records import Run, SweepFigures
from results.runs.steering import beside_steering
from results.runs.tables import CAPABILITY, COHERENCE, SHIFT, Columns, Row, state_of
from results.say import decided, nats
from steer_heal_love.verdicts.answers import TRAIT, Verdict, above_zero
from steer_heal_love.verdicts.instruments import validity

RIVALS: Mapping[str, Pick] = {
    "prompting": prompted,
    "plain distillation": rival("sft"),
    "adapter arithmetic": rival("arithmetic"),
}


def one_round(figures: SweepFigures) -> list[str]:
    """Which axes the model can express; the conditions and the rivals of one round."""
    groups = by_axis(figures.runs)
    parts = [table_of(AXIS, [Row(name, runs, healed_at(0)) for name, runs in groups.items()])]
    for name, runs in shown(figures.runs).items():
        head = [f"**{name}**"] if len(groups) > 1 else []
        parts += [*head, conditions_table(runs), rivals_table(runs)]
    return parts


def by_axis(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs by axis, in the order in which they come."""
    return {run.axis: [r for r in runs if r.axis == run.axis] for run in runs}


def shown(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Of several axes those that are valid on the model; the only one in any case."""
    groups = by_axis(runs)
    if len(groups) == 1:
        return groups
    return {axis: own for axis, own in groups.items() if validity_of(own).answer == "yes"}


def validity_of(runs: Sequence[Run]) -> Verdict:
    """Whether the answer pairs tell the two persona prompts apart; the same for all seeds."""
    first = runs[0]  # nothing is sampled
    return validity(first.prompt_pos.items.get(TRAIT, ()), first.prompt_neg.items.get(TRAIT, ()))


AXIS: Columns = {
    "axis": lambda r: r.words,
    "between the personas": lambda r: nats(validity_of(r.runs).interval),
    "valid?": lambda r: decided(validity_of(r.runs).answer),
}


def conditions_table(runs: Sequence[Run]) -> str:
    """Base and every condition of round 0."""
    rows = [
        Row("base", runs, base_of),
        Row("persona as system prompt", runs, prompted),
        Row("steered, at the round's own dose", runs, steered_at(0)),
        *(Row(f"steered, κ = {k:g}", runs, front_at(k)) for k in front_doses(runs)),
        Row("plain distillation of the same texts (λ = 0, no anchors)", runs, rival("sft")),
        Row("adapter arithmetic", runs, rival("arithmetic")),
        Row("**healed**", runs, healed_at(0)),
    ]
    there = [row for row in rows if any(row.pick(run) is not None for run in runs)]
    name: Columns = {"after one round": lambda r: r.words}
    return table_of({**name, **SHIFT, **COHERENCE, **CAPABILITY}, there)


def rivals_table(runs: Sequence[Run]) -> str:
    """The healed model's trait less that of each rival, and whether it is the better of them."""
    healed = healed_at(0)
    broken = coherence(runs, healed)[0] == "no"
    leads = [(name, trait_shift(runs, healed, pick), "") for name, pick in RIVALS.items()]
    steering = beside_steering(runs, healed)
    if steering is not None:
        leads.insert(1, ("raw steering at its perplexity", steering.margin, steering.reach))
    rows = [
        (name, nats(lead), decided("no" if broken else above_zero(lead)), reach)
        for name, lead, reach in leads
        if lead is not None
    ]
    rows.append(("is it as coherent as base?", "", state_of(runs, healed), ""))
    heads = ("healed, against", "trait less", "better?", "its perplexity")
    return table_of({h: lambda r, i=i: r[i] for i, h in enumerate(heads)}, rows)  # type: ignore[misc]

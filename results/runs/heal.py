"""After one round: base, prompted, steered, distilled and healed, side by side, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from results.page import table
from results.runs.conditions import (
    Pick,
    base_of,
    capability,
    coherence,
    front_at,
    front_doses,
    healed_at,
    prompted,
    ratio,
    rival,
    share,
    steered_at,
    trait_shift,
)
from results.runs.records import Run, SweepFigures
from results.runs.saying import (
    MISSING,
    bullets,
    decided,
    made_of,
    nats,
    not_run,
    shares,
    times,
)
from results.runs.steering import beside_steering
from steer_heal_love.records import Interval
from steer_heal_love.verdicts.answers import TRAIT, Verdict, above_zero
from steer_heal_love.verdicts.instruments import validity

HEALED = healed_at(0)
CONDITIONS: Mapping[str, Pick] = {
    "base": base_of,
    "persona as system prompt": prompted,
    "steered, at the round's own dose": steered_at(0),
    "plain distillation of the same texts (λ = 0, no anchors)": rival("sft"),
    "adapter arithmetic": rival("arithmetic"),
    "**healed**": HEALED,
}
HEAD = ["after one round", "trait shift", "perplexity × base", "relevance × base"]
HEAD += ["distinct-2 × base", "loops", "capability × base"]


def heal_words(found: Mapping[str, SweepFigures | None]) -> dict[str, str]:
    """The block `heal`."""
    figures = found["heal"]
    if figures is None or not figures.runs:
        return {"heal": not_run("results-heal")}
    parts = [
        made_of(figures, "results-heal"),
        conditions_table(figures.runs),
        bullets([validity_words(figures.runs), *answers(figures.runs)]),
        "![Trait against perplexity after one round](results/heal.svg)",
    ]
    return {"heal": "\n\n".join(parts)}


def conditions_table(runs: Sequence[Run]) -> str:
    """A row a condition; raw steering at the healed model's perplexity after the steered one."""
    rows = []
    for name, pick in CONDITIONS.items():
        if any(pick(run) is not None for run in runs):
            rows.append(_row(name, runs, pick))
        if name.startswith("steered"):
            rows += [_row(f"steered, κ = {k:g}", runs, front_at(k)) for k in front_doses(runs)]
            rows += _matched_row(runs)
    return table(HEAD, rows)


def _row(name: str, runs: Sequence[Run], pick: Pick) -> list[str]:
    return [
        name,
        nats(trait_shift(runs, pick)) if pick is not base_of else "0",
        times(ratio(runs, pick, "perplexity")),
        times(ratio(runs, pick, "relevance")),
        times(ratio(runs, pick, "distinct_2")),
        shares(share(runs, pick, "loop_share")),
        times(capability(runs, pick)),
    ]


def _matched_row(runs: Sequence[Run]) -> list[list[str]]:
    steering = beside_steering(runs, HEALED)
    if steering is None:
        return []
    name = "steered, at the healed model's perplexity"
    note = "see below" if steering.note else times(ratio(runs, HEALED, "perplexity"))
    return [[name, nats(steering.shift), note, *[MISSING] * (len(HEAD) - 3)]]


@dataclass(frozen=True)
class Rivalry:
    """The healed model's trait less a rival's."""

    name: str
    lead: Interval
    note: str = ""


def rivalries(runs: Sequence[Run]) -> list[Rivalry]:
    """The healed model against each rival that was measured."""
    found = []
    prompt = trait_shift(runs, HEALED, prompted)
    if prompt is not None:
        found.append(Rivalry("prompting", prompt, _at(runs, prompted)))
    steering = beside_steering(runs, HEALED)
    if steering is not None:
        found.append(Rivalry("raw steering at matched coherence", steering.margin, steering.note))
    for name, words in (("sft", "plain distillation"), ("arithmetic", "adapter arithmetic")):
        lead = trait_shift(runs, HEALED, rival(name))
        if lead is not None:
            found.append(Rivalry(words, lead, _at(runs, rival(name))))
    return found


def _at(runs: Sequence[Run], pick: Pick) -> str:
    own, theirs = (ratio(runs, p, "perplexity") for p in (HEALED, pick))
    if own is None or theirs is None:
        return ""
    return f"at perplexity {times(own)} × base against {times(theirs)}"


def answers(runs: Sequence[Run]) -> list[str]:
    """A sentence for each rival: is healed better, by the interval of the paired difference."""
    state = coherence(runs, HEALED)
    said = []
    for found in rivalries(runs):
        answer = "no" if state.answer == "no" else above_zero(found.lead)
        why = f" ({found.note})" if found.note else ""
        line = (
            f"Is the healed model better than {found.name}? **{decided(answer).capitalize()}**: "
            f"its trait less that of {found.name} is {nats(found.lead)} nats per token{why}."
        )
        said.append(line)
    return [*said, coherence_words(runs)]


def coherence_words(runs: Sequence[Run]) -> str:
    """Whether the healed model is as coherent as base, without which no trait counts."""
    state = coherence(runs, HEALED)
    broken = f": {' and '.join(state.broken)} beyond the limit" if state.broken else ""
    return (
        f"Is the healed model as coherent as base? **{decided(state.answer).capitalize()}**"
        f"{broken}, by the limits that the verdicts on a run have for perplexity, relevance and "
        "loops. Where it clearly is not, no answer above is a yes."
    )


def validity_of(runs: Sequence[Run]) -> Verdict:
    """Whether the answer pairs tell the two persona prompts apart; the same for all seeds."""
    first = runs[0]  # nothing is sampled
    return validity(first.prompt_pos.items.get(TRAIT, ()), first.prompt_neg.items.get(TRAIT, ()))


def validity_words(runs: Sequence[Run]) -> str:
    """The validity of the answer pairs as a sentence."""
    found = validity_of(runs)
    return (
        f"Do the answer pairs see the trait on this model? "
        f"**{decided(found.answer).capitalize()}**: between the two persona prompts the trait "
        f"differs by {nats(found.interval)} nats per token."
    )

"""Further axes: which of them the model can express, and the table of one round for those."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from results.page import table
from results.runs.conditions import healed_at, prompted, trait_shift
from results.runs.heal import answers, conditions_table, validity_of
from results.runs.records import Run, SweepFigures
from results.runs.saying import bullets, decided, made_of, nats, not_run

TARGET = "results-axes"


def axes_words(found: Mapping[str, SweepFigures | None]) -> dict[str, str]:
    """The block `axes`."""
    figures = found["axes"]
    if figures is None or not figures.runs:
        return {"axes": not_run(TARGET)}
    groups = by_axis(figures.runs)
    valid = [name for name, runs in groups.items() if validity_of(runs).answer == "yes"]
    parts = [
        made_of(figures, TARGET),
        table(
            ["axis", "between the personas", "valid?", "prompted", "healed, one round"],
            [_row(name, runs) for name, runs in groups.items()],
        ),
        "Trait shifts in nats per token. An axis is valid where its answer pairs tell the two "
        "persona prompts apart; of the others a shift means nothing.",
    ]
    for name in valid:
        parts += [f"**{name}**", conditions_table(groups[name]), bullets(answers(groups[name]))]
    if valid:
        parts += ["![Each valid axis after one round](results/axes.svg)"]
    else:
        parts.append("None of them is valid on this model.")
    return {"axes": "\n\n".join(parts)}


def by_axis(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs by axis, in the order in which they come."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.axis, []).append(run)
    return groups


def _row(name: str, runs: Sequence[Run]) -> list[str]:
    found = validity_of(runs)
    valid = found.answer == "yes"
    return [
        name,
        nats(found.interval),
        decided(found.answer),
        nats(trait_shift(runs, prompted)) if valid else "not valid on this model",
        nats(trait_shift(runs, healed_at(0))) if valid else "not valid on this model",
    ]

"""The same loop without steering beside the one with it: how much of the shift is the vector's."""

from __future__ import annotations

from collections.abc import Mapping

from results.page import table
from results.runs.barrier import (
    FIGURES_HEAD,
    by_barrier,
    figure_cells,
    of_same_seed,
    paired_runs,
)
from results.runs.conditions import healed_at, trait_shift
from results.runs.records import Run, SweepFigures
from results.runs.saying import made_of, nats, not_run, seeds_words

TARGET = "results-unsteered"
WITHOUT, WITH = "without steering", "with it"
HEAD = ["round", "loop", *FIGURES_HEAD]


def unsteered_words(found: Mapping[str, SweepFigures | None]) -> dict[str, str]:
    """The block `unsteered`."""
    figures = found["unsteered"]
    if figures is None or not figures.runs:
        return {"unsteered": not_run(TARGET)}
    groups = side_by_side(found)
    if not groups:
        said = "No run with steering (`make results-barrier`) has the seed of one without."
        return {"unsteered": "\n\n".join([made_of(figures, TARGET), said])}
    without, beside = groups.values()
    rounds = range(min(len(run.rounds) for run in (*without, *beside)))
    rows = [
        [str(n), name, *figure_cells(runs, healed_at(n))]
        for n in rounds
        for name, runs in groups.items()
    ]
    last = rounds[-1]
    pick = healed_at(last)
    less = trait_shift(beside, pick, of_same_seed(without, pick))
    parts = [
        made_of(figures, TARGET),
        table(HEAD, rows),
        f"After round {last}, {seeds_words(without)}, with steering less without it: trait "
        f"{nats(less)} nats per token, on the same answer pairs.",
        "![The loop without steering and with it, round by round](results/unsteered.svg)",
    ]
    return {"unsteered": "\n\n".join(parts)}


def side_by_side(found: Mapping[str, SweepFigures | None]) -> dict[str, list[Run]]:
    """The runs without steering and those with it, of the same seeds; empty where none match."""
    figures, barriers = found["unsteered"], found["barrier"]
    if figures is None or barriers is None:
        return {}
    pairs = paired_runs(figures.runs, by_barrier(barriers).get("rmse", []))
    if not pairs:
        return {}
    return {WITHOUT: [a for a, _ in pairs], WITH: [b for _, b in pairs]}

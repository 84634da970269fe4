"""The barrier's aggregates beside one another, round by round, and the grid of λ, τ, reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from results.page import table
from results.runs.chance import sampled
from results.runs.conditions import (
    Coherence,
    Pick,
    coherence,
    healed_at,
    ratio,
    round_at,
    seeds_of,
    share,
    share_excess,
    trait_shift,
)
from results.runs.records import Run, SweepFigures
from results.runs.saying import (
    bullets,
    decided,
    made_of,
    nats,
    not_run,
    points,
    seeds_words,
    shares,
    times,
    words_of,
)
from steer_heal_love.records import Interval
from steer_heal_love.stages.heal import HealConfig
from steer_heal_love.verdicts.answers import Answer

TARGET = "results-barrier"
ORDER = ("rmse", "mean", "p95", "max", "none")
WORDS = {
    "mean": "the mean",
    "p95": "the 95th percentile",
    "max": "the greatest",
    "none": "no barrier",
}
COMPARED = {"perplexity": "perplexity", "relevance": "relevance", "distinct_2": "distinct-2"}
SETTINGS = {"barrier": "standard", "barrier-hard": "hard"}
FIGURES_HEAD = ["trait shift", "perplexity × base", "relevance × base"]
FIGURES_HEAD += ["distinct-2 × base", "loops", "long loops"]
HEAD = ["barrier", "seeds", *FIGURES_HEAD, "as coherent as base?"]


def barrier_words(found: Mapping[str, SweepFigures | None]) -> dict[str, str]:
    """The blocks `barrier`, `barrier-hard` and `barrier-grid`."""
    blocks = {name: _setting_words(found[name], name) for name in SETTINGS}
    return blocks | {"barrier-grid": _grid_words(found["barrier-grid"])}


def _setting_words(figures: SweepFigures | None, name: str) -> str:
    if figures is None or not figures.runs:
        return not_run(TARGET)
    groups = by_barrier(figures)
    last = last_common_round(list(groups.values()))
    return "\n\n".join(
        [
            made_of(figures, TARGET),
            f"After round {last}, the last that a run of every barrier has:",
            _table(groups, last),
            *_later_words(groups, last),
            difference_words(groups),
            f"![Barriers, round by round, {SETTINGS[name]} setting](results/{name}.svg)",
        ]
    )


def _table(groups: Mapping[str, Sequence[Run]], at: int) -> str:
    return table(HEAD, [_row(label, runs, at) for label, runs in groups.items()])


def _later_words(groups: Mapping[str, Sequence[Run]], last: int) -> list[str]:
    """The last round that two barriers have, where it is later: the table of those that have it."""
    ends = sorted(last_common_round([runs]) for runs in groups.values())
    if len(ends) < 2 or ends[-2] <= last:
        return []
    there = {k: runs for k, runs in groups.items() if last_common_round([runs]) >= ends[-2]}
    return [f"After round {ends[-2]}, of those that have come so far:", _table(there, ends[-2])]


def label_of(run: Run, figures: SweepFigures) -> str:
    """The barrier of a run: its aggregate, or none; and τ where it is not the default."""
    settings = {**figures.settings, **run.settings}
    if settings.get("heal.divergence") == "none":
        return "none"
    tau = settings.get("heal.tau", HealConfig().tau)
    at = "" if tau == HealConfig().tau else f", τ = {tau:g}"
    return f"{settings.get('heal.aggregate')}{at}"


def by_barrier(figures: SweepFigures) -> dict[str, list[Run]]:
    """The runs by their barrier, in the order of `ORDER`."""
    labels = [label_of(run, figures) for run in figures.runs]
    names = sorted(set(labels), key=_place)
    return {
        name: [run for run, label in zip(figures.runs, labels, strict=True) if label == name]
        for name in names
    }


def _place(label: str) -> tuple[int, str]:
    aggregate = label.partition(", ")[0]
    return ORDER.index(aggregate) if aggregate in ORDER else len(ORDER), label


def last_common_round(groups: Sequence[Sequence[Run]]) -> int:
    """The last round that at least one run of every group has finished."""
    return min(max(run.rounds[-1].number for run in runs) for runs in groups)


def _row(label: str, runs: Sequence[Run], at: int) -> list[str]:
    there = [run for run in runs if round_at(run, at)]
    pick = healed_at(at)
    return [
        label,
        words_of(seeds_of(there)),
        *figure_cells(there, pick),
        decided(coherence(there, pick).answer),
    ]


def figure_cells(runs: Sequence[Run], pick: Pick) -> list[str]:
    """The cells under `FIGURES_HEAD`."""
    return [
        nats(trait_shift(runs, pick)),
        times(ratio(runs, pick, "perplexity")),
        times(ratio(runs, pick, "relevance")),
        times(ratio(runs, pick, "distinct_2")),
        shares(share(runs, pick, "loop_share")),
        shares(share(runs, pick, "long_loop_share")),
    ]


def difference_words(groups: Mapping[str, Sequence[Run]]) -> str:
    """rmse against each other barrier, seed by seed, and whether coherence goes with it alone."""
    said = [
        words
        for name, runs in groups.items()
        if name != "rmse"
        for words in _against(name, paired_runs(groups.get("rmse", ()), runs))
    ]
    return bullets(said) if said else "No seed has a run of both rmse and another barrier yet."


def _against(name: str, pairs: Sequence[tuple[Run, Run]]) -> list[str]:
    """At the last round that every seed has finished with both."""
    if not pairs:
        return []
    aggregate, _, tau = name.partition(", ")
    words = WORDS.get(aggregate, aggregate) + (f" at {tau}" if tau else "")
    rmse, others = ([pair[side] for pair in pairs] for side in (0, 1))
    at = min(run.rounds[-1].number for run in (*rmse, *others))
    pick = healed_at(at)
    same = of_same_seed(others, pick)
    beside = [
        f"{its_name} {times(quotient(rmse, others, pick, measure))}"
        for measure, its_name in COMPARED.items()
    ]
    loops = [share_excess(rmse, pick, n, same) for n in ("loop_share", "long_loop_share")]
    said = (
        f"rmse against {words} after round {at}, {seeds_words(rmse)}: trait "
        f"{nats(trait_shift(rmse, pick, same))} nats per token, {' times, '.join(beside)} times, "
        f"loops {points(loops[0])} points, loops of long samples {points(loops[1])} points."
    )
    if aggregate not in ("mean", "none"):
        return [said]
    first, second = (coherence(runs, pick) for runs in (rmse, others))
    return [
        said,
        f"Does the model lose coherence with {words} where it keeps it with the rmse? "
        f"**{loses_coherence(first.answer, second.answer).capitalize()}**. As coherent as base "
        f"with rmse: {_state(first)}; with {words}: {_state(second)}.",
    ]


def _state(found: Coherence) -> str:
    return decided(found.answer) + (
        f" ({' and '.join(found.broken)} beyond the limit)" if found.broken else ""
    )


def loses_coherence(rmse: Answer, other: Answer) -> str:
    """Whether the other is clearly less coherent than base where rmse is as coherent as base."""
    if other == "yes":
        return "no"
    if other == rmse == "no":
        return "no: it loses it with both"
    return "yes" if other == "no" and rmse == "yes" else "not decided"


def paired_runs(first: Sequence[Run], second: Sequence[Run]) -> list[tuple[Run, Run]]:
    """The runs of two barriers, seed by seed, where both have one."""
    by_seed = {run.seed: run for run in second}
    return [(run, by_seed[run.seed]) for run in first if run.seed in by_seed]


def of_same_seed(runs: Sequence[Run], pick: Pick) -> Pick:
    """For a run, the condition in that one of these which has the same seed."""
    by_seed = {run.seed: run for run in runs}
    return lambda run: pick(by_seed[run.seed])


def quotient(first: Sequence[Run], second: Sequence[Run], pick: Pick, name: str) -> Interval | None:
    """A ratio to base of one barrier over another's, seed by seed, over the seeds."""
    found = []
    for a, b in zip(first, second, strict=True):
        above, below = ratio([a], pick, name), ratio([b], pick, name)
        if above is not None and below is not None and below.value > 0:
            found.append(above.value / below.value)
    return sampled(found)


GRID = {"heal.reference": "reference", "heal.lam": "λ", "heal.tau": "τ"}
GRID_HEAD = [*GRID.values(), "seeds", "trait shift", "perplexity × base", "relevance × base"]
GRID_HEAD += ["loops", "as coherent as base?"]


def _grid_words(figures: SweepFigures | None) -> str:
    if figures is None or not figures.runs:
        return not_run(TARGET)
    cells = by_cell(figures)
    last = last_common_round(list(cells.values()))
    return "\n\n".join(
        [
            made_of(figures, TARGET),
            f"After round {last}, the last that a run of every cell has:",
            table(GRID_HEAD, [_grid_row(cell, runs, last) for cell, runs in cells.items()]),
            "![Trait against perplexity over λ, τ and reference](results/barrier-grid.svg)",
        ]
    )


def by_cell(figures: SweepFigures) -> dict[tuple[str, ...], list[Run]]:
    """The runs by reference, λ and τ, in ascending order."""
    cells: dict[tuple[Any, ...], list[Run]] = {}
    for run in figures.runs:
        settings = {**figures.settings, **run.settings}
        cells.setdefault(tuple(settings.get(key) for key in GRID), []).append(run)
    return {
        tuple(f"{v:g}" if isinstance(v, int | float) else str(v) for v in cell): cells[cell]
        for cell in sorted(cells)
    }


def _grid_row(cell: tuple[str, ...], runs: Sequence[Run], at: int) -> list[str]:
    there = [run for run in runs if round_at(run, at)]
    pick = healed_at(at)
    return [
        *cell,
        words_of(seeds_of(there)),
        nats(trait_shift(there, pick)),
        times(ratio(there, pick, "perplexity")),
        times(ratio(there, pick, "relevance")),
        shares(share(there, pick, "loop_share")),
        decided(coherence(there, pick).answer),
    ]

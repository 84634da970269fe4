"""Round by round: the loop; and beside one another, seed by seed, barriers and no steering."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from results.page import table_of
from results.runs.chance import sampled
from results.runs.conditions import (
    healed_at,
    of_same_seed,
    quotient,
    round_at,
    share_excess,
    trait_shift,
)
from results.runs.records import Round, Run, SweepFigures
from results.runs.steering import beside_steering
from results.runs.tables import (
    CAPABILITY,
    COHERENCE,
    LONG,
    ROUND,
    SEEDS,
    SHIFT,
    STATE,
    Columns,
    Found,
    Row,
    by_round,
)
from results.say import MISSING, nats, points, say
from steer_heal_love.stages.heal import HealConfig

ORDER = ("rmse", "mean", "p95", "max", "none")
WITHOUT, WITH = "without steering", "with it"


def _rounds(row: Row) -> list[Round]:
    return [r for run in row.runs if (r := round_at(run, row.at))]


def _over_rounds(row: Row, figure: Callable[[Round], float | None]) -> str:
    return say(sampled([value for r in _rounds(row) if (value := figure(r)) is not None]))


def _kept(row: Row) -> str:
    return f"{sum(r.kept for r in _rounds(row))} of {sum(r.total for r in _rounds(row))}"


def _steering(row: Row, words: Callable[..., str]) -> str:
    steering = beside_steering(row.runs, row.pick)
    return words(steering) if steering else MISSING


LOOP_TRAIT: Columns = {
    **ROUND,
    "seeds": lambda r: str(len(r.runs)),
    "dose κ": lambda r: _over_rounds(r, lambda x: x.kappa),
    "kept": _kept,
    "D": lambda r: _over_rounds(r, lambda x: x.divergence),
    "cosine": lambda r: _over_rounds(r, lambda x: x.cosine_first),
    **SHIFT,
    "steering there": lambda r: _steering(r, lambda s: nats(s.shift)),
    "perplexity": lambda r: _steering(r, lambda s: s.reach),
}
LOOP_COST: Columns = {
    **ROUND,
    **COHERENCE,
    **LONG,
    **CAPABILITY,
}


def loop_tables(figures: SweepFigures) -> list[str]:
    """The trait by round, and what it costs."""
    rows = list(by_round({"healed": figures.runs}))
    return [table_of(LOOP_TRAIT, rows), table_of(LOOP_COST, rows)]


def barrier_tables(figures: SweepFigures) -> list[str]:
    """Each barrier at the last round that all have and, if later, that two have; differences."""
    groups = by_barrier(figures)
    ends = sorted(max(run.rounds[-1].number for run in runs) for runs in groups.values())
    columns = {"barrier": lambda r: r.words, **ROUND, **SEEDS, **SHIFT, **COHERENCE}
    rows = [
        Row(words, there, healed_at(at), at)
        for at in sorted({ends[0], ends[-2] if len(ends) > 1 else ends[0]})
        for words, runs in groups.items()
        if (there := [run for run in runs if round_at(run, at)])
    ]
    pairs = [
        _pair(f"rmse less {name}", [a for a, _ in both], [b for _, b in both])
        for name, runs in groups.items()
        if name != "rmse" and (both := paired_runs(groups.get("rmse", ()), runs))
    ]
    compared = [table_of({**BETWEEN, **LESS, **OVER}, pairs)] if pairs else []
    return [table_of({**columns, **LONG, **STATE}, rows), *compared]


def by_barrier(figures: SweepFigures) -> dict[str, list[Run]]:
    """The runs by their barrier, in the order of `ORDER`."""
    groups: dict[str, list[Run]] = {}
    for run in figures.runs:
        groups.setdefault(barrier_of(run, figures), []).append(run)
    return {name: groups[name] for name in sorted(groups, key=_place)}


def barrier_of(run: Run, figures: SweepFigures) -> str:
    """The aggregate, or none; with λ, τ and reference where they are not the default."""
    settings, usual = {**figures.settings, **run.settings}, HealConfig()
    if settings.get("heal.divergence") == "none":
        return "none"
    words = [str(settings.get("heal.aggregate", usual.aggregate))]
    for name, key, default in (("λ", "lam", usual.lam), ("τ", "tau", usual.tau)):
        value = settings.get(f"heal.{key}", default)
        words += [f"{name} = {value:g}"] if value != default else []
    reference = settings.get("heal.reference", usual.reference)
    return ", ".join([*words, *([f"against {reference}"] if reference != usual.reference else [])])


def _place(label: str) -> tuple[int, str]:
    aggregate = label.partition(", ")[0]
    return ORDER.index(aggregate) if aggregate in ORDER else len(ORDER), label


def paired_runs(first: Sequence[Run], second: Sequence[Run]) -> list[tuple[Run, Run]]:
    """The runs of two groups, seed by seed, where both have one."""
    by_seed = {run.seed: run for run in second}
    return [(run, by_seed[run.seed]) for run in first if run.seed in by_seed]


def _pair(words: str, runs: Sequence[Run], others: Sequence[Run]) -> Row:
    """At the last round that every seed has finished in both."""
    at = min(run.rounds[-1].number for run in (*runs, *others))
    return Row(words, runs, healed_at(at), at, others)


def _against(row: Row, name: str) -> str:
    same = of_same_seed(row.others, row.pick)
    return points(share_excess(row.runs, row.pick, name, same))


BETWEEN: Columns = {"same seeds": lambda r: r.words, **ROUND, **SEEDS}
LESS: Columns = {
    "trait, nats": lambda r: nats(trait_shift(r.runs, r.pick, of_same_seed(r.others, r.pick))),
    "loops, points": lambda r: _against(r, "loop_share"),
    "long loops, points": lambda r: _against(r, "long_loop_share"),
}
OVER: Columns = {
    "perplexity, times": lambda r: say(quotient(r.runs, r.others, r.pick, "perplexity")),
    "relevance, times": lambda r: say(quotient(r.runs, r.others, r.pick, "relevance")),
    "distinct-2, times": lambda r: say(quotient(r.runs, r.others, r.pick, "distinct_2")),
}


def unsteered_tables(found: Found) -> list[str]:
    """The loop without steering beside that with it, and their difference at the end."""
    groups = side_by_side(found)
    if not groups:
        return ["No run with steering (`make results-barrier`) has the seed of one without."]
    columns = {**ROUND, "loop": lambda r: r.words, **SHIFT, **COHERENCE, **LONG}
    last = _pair("with it less without", groups[WITH], groups[WITHOUT])
    return [table_of(columns, by_round(groups)), table_of({**BETWEEN, **LESS}, [last])]


def side_by_side(found: Found) -> dict[str, list[Run]]:
    """The runs without steering and those with it, of the same seeds; empty where none match."""
    figures, barriers = found["unsteered"], found["barrier"]
    if figures is None or barriers is None:
        return {}
    pairs = paired_runs(figures.runs, by_barrier(barriers).get("rmse", []))
    return {WITHOUT: [a for a, _ in pairs], WITH: [b for _, b in pairs]} if pairs else {}

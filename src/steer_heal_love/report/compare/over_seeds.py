"""Runs that agree in everything but the seed, as one row: means with intervals over the seeds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace

from steer_heal_love.maths.statistics import over_seeds
from steer_heal_love.records import Interval
from steer_heal_love.report.compare.run_row import FIGURES, MISSING, VERDICTS, RunRow
from steer_heal_love.report.states import without_bounds
from steer_heal_love.runs.read import RunView

_SHARES = ("loops_base", "loops_healed")
_ANSWERS = ("yes", "no", "cannot tell")


def seed_rows(views: Sequence[RunView], rows: Sequence[RunRow]) -> list[RunRow]:
    """A row per group of at least two finished runs that differ by the seed alone, in order.

    Of runs with the same seed the first counts: a copy is no second draw. Unfinished runs are left
    out, since their last healed round is an earlier one; runs that the coherence floor ended early
    count. The row's name says how many were left out.
    """
    means = []
    for places in seed_groups(views):
        group = [rows[i] for i in places]
        finished = {row.seed: row for row in reversed(group) if row.is_finished}
        if len(finished) > 1:
            counted = [row for row in group if finished.get(row.seed) is row]
            means.append(_mean_row(counted, len(group) - len(counted)))
    return means


def seed_groups(views: Sequence[RunView]) -> list[list[int]]:
    """Places of the runs that differ by the seed alone, group by group, in order."""
    groups: dict[str, list[int]] = {}
    for place, view in enumerate(views):
        groups.setdefault(_all_but_the_seed(view), []).append(place)
    return list(groups.values())


def _all_but_the_seed(view: RunView) -> str:
    """Settings, axis and model as one text; the axis by its content, wherever it was read from."""
    settings = {k: v for k, v in view.config.items() if k not in ("seed", "axis", "out")}
    whole = [settings, asdict(view.axis), view.metrics.get("model")]
    return json.dumps(whole, sort_keys=True, default=str)


def _mean_row(rows: Sequence[RunRow], left_out: int) -> RunRow:
    """Several runs as one."""
    n = len(rows)
    names = ", ".join(row.name for row in rows)
    note = f"; {left_out} left out" if left_out else ""
    doses, walls = [row.dose for row in rows], [row.wall_s for row in rows]
    return replace(
        rows[0],
        name=f"{n} seeds: {names}{note}",
        seed=", ".join(row.seed for row in rows),
        rounds=", ".join(sorted({row.rounds for row in rows})),
        dose=_mean(doses),
        figures={name: _over_seeds(name, rows) for name in FIGURES},
        profile=(),
        trait_mark=next((row.trait_mark for row in rows if row.trait_mark), ""),
        profile_mark="",
        verdicts={name: _counts([row.verdicts[name] for row in rows]) for name in VERDICTS},
        wall_s=_mean(walls),
        seeds=n,
    )


def _over_seeds(name: str, rows: Sequence[RunRow]) -> Interval | None:
    """Mean of a figure's point estimates with Student's t interval over the runs.

    None where a run lacks it: a mean over the others would be one of fewer seeds than it says. No
    bounds where all runs agree, such as on a share of 0: a few equal draws do not make it certain.
    Bounds beyond what the figure can be (a share below 0 %) are cut off.
    """
    figures = [row.figures.get(name) for row in rows]
    values = [figure.value for figure in figures if figure is not None]
    if len(values) < len(rows):
        return None
    if len(set(values)) == 1:
        return without_bounds(values[0])
    figure = over_seeds(values)
    if figure.bounds is None or name.endswith("shift") or name.startswith("trait"):
        return figure
    high = min(figure.high, 1.0) if name in _SHARES else figure.high
    return Interval(figure.value, max(figure.low, 0.0), high)


def _counts(answers: Sequence[str]) -> str:
    """How often each answer was given: "2 yes, 1 no"."""
    counted = Counter(answers)
    return ", ".join(f"{counted[a]} {a}" for a in _ANSWERS if counted[a]) or MISSING


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None

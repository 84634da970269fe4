"""Every study: what it measures, its blocks of tables in docs/RESULTS.md, its figures."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from results.front.measure import measure as front_measure
from results.front.measure import read as read_front
from results.front.tables import front_block, front_figure
from results.planted.students import measure as planted_measure
from results.planted.tables import learnt_block, seen_block
from results.runs.carry_out import carry_out, read_sweeps
from results.runs.figures import (
    barrier_figures,
    loop_figure,
    one_round_figure,
    unsteered_figure,
)
from results.runs.one_round import one_round
from results.runs.rounds import barrier_tables, loop_tables, unsteered_tables
from results.runs.tables import Found, made_of
from steer_heal_love.report.figures.drawing import Plot

Block = Callable[[Any], str]  # Markdown of what was measured; empty where that is nothing


@dataclass(frozen=True)
class Study:
    """A question about the method."""

    measure: Callable[[argparse.Namespace], int]  # what is missing; returns the exit code
    read: Callable[[Path], Any]  # docs folder → what was measured, out of its results/*.json
    blocks: Mapping[str, Block]
    figures: Callable[[Any], Sequence[Plot]]
    sweeps: Sequence[str] = ()  # files in sweeps/ that it carries out


def of_runs(
    tables: Mapping[str, Callable[[Found], list[str]]],
    figures: Callable[[Any], Sequence[Plot]],
    *,
    beside: Sequence[str] = (),
    diary: bool = False,
) -> Study:
    """A study that whole runs answer.

    Args:
        tables: of each of its sweeps, a file in sweeps/ and a block of the page.
        beside: sweeps of other studies that are shown too.
        diary: whether the diary of the first run is shown, as it is.
    """

    def block(sweep: str, found: Found) -> str:
        figures = found[sweep]
        return "\n\n".join([made_of(figures), *tables[sweep](found)]) if figures else ""

    return Study(
        measure=partial(carry_out, names=tuple(tables), diary=diary),
        read=partial(read_sweeps, names=(*tables, *beside)),
        blocks={sweep: partial(block, sweep) for sweep in tables},
        figures=figures,
        sweeps=tuple(tables),
    )


def alone(
    sweep: str, tables: Callable[[Any], list[str]]
) -> dict[str, Callable[[Found], list[str]]]:
    """The tables of a sweep that need no other one."""
    return {sweep: lambda found: tables(found[sweep])}


def read_planted(docs: Path) -> Any:
    """What was measured of planted loops; None where that is nothing."""
    file = docs / "results" / "planted.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


STUDIES: Mapping[str, Study] = {
    "heal": of_runs(alone("heal", one_round), partial(one_round_figure, "heal")),
    "barrier": of_runs(
        alone("barrier", barrier_tables)
        | alone("barrier-hard", barrier_tables)
        | alone("barrier-grid", barrier_tables),
        barrier_figures,
    ),
    "loop": of_runs(alone("loop", loop_tables), loop_figure, beside=("heal",), diary=True),
    "axes": of_runs(alone("axes", one_round), partial(one_round_figure, "axes")),
    "unsteered": of_runs({"unsteered": unsteered_tables}, unsteered_figure, beside=("barrier",)),
    "front": Study(
        measure=front_measure,
        read=read_front,
        blocks={"front": front_block},
        figures=front_figure,
    ),
    "planted": Study(
        measure=planted_measure,
        read=read_planted,
        blocks={"planted-seen": seen_block, "planted-learnt": learnt_block},
        figures=lambda _: [],
    ),
}

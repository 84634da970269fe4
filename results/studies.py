"""Every study: what it measures, its blocks of tables in docs/RESULTS.md, its figures."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from results.planted.students import measure as planted_measure
from results.planted.tables import learnt_block, seen_block
from results.runs.barriers import barrier_tables, unsteered_tables
from results.runs.carry_out import carry_out, read_sweeps
from results.runs.figures import (
    barrier_figures,
    loop_figure,
    one_round_figure,
    unsteered_figure,
)
from results.runs.loop import loop_tables
from results.runs.one_round import one_round
from results.runs.records import SweepFigures
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
    blocks: Mapping[str, tuple[str, Callable[[Any], list[str]]]],
    figures: Callable[[Any], Sequence[Plot]],
    *,
    beside: Sequence[str] = (),
    diary: bool = False,
) -> Study:
    """A study that whole runs answer.

    Args:
        blocks: of each the sweep that it is of, a file in sweeps/, and what makes its tables.
        beside: sweeps of other studies that are shown too.
        diary: whether the diary of the first run is shown, as it is.
    """
    sweeps = tuple(dict.fromkeys(sweep for sweep, _ in blocks.values()))

    def block(sweep: str, tables: Callable[[Any], list[str]], found: Found) -> str:
        return "\n\n".join(tables(found)) if found[sweep] else ""

    return Study(
        measure=partial(carry_out, names=sweeps, diary=diary),
        read=partial(read_sweeps, names=(*sweeps, *beside)),
        blocks={name: partial(block, *tables) for name, tables in blocks.items()},
        figures=figures,
        sweeps=sweeps,
    )


def alone(sweep: str, tables: Callable[[SweepFigures], list[str]]) -> Any:
    """Tables of one sweep, after the line that says of which runs they are."""

    def of(found: Found) -> list[str]:
        figures = found[sweep]
        assert figures is not None
        return [made_of(figures), *tables(figures)]

    return sweep, of


def read_planted(docs: Path) -> Any:
    """What was measured of planted loops; None where that is nothing."""
    file = docs / "results" / "planted.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


BARRIERS = ("barrier", "barrier-hard", "barrier-grid")

STUDIES: Mapping[str, Study] = {
    "heal": of_runs({"heal": alone("heal", one_round)}, partial(one_round_figure, "heal")),
    "barrier": of_runs({name: alone(name, barrier_tables) for name in BARRIERS}, barrier_figures),
    "loop": of_runs(
        {
            "loop": alone("loop", loop_tables),
        },
        loop_figure,
        beside=("heal",),
        diary=True,
    ),
    "axes": of_runs({"axes": alone("axes", one_round)}, partial(one_round_figure, "axes")),
    "unsteered": of_runs(
        {"unsteered": ("unsteered", unsteered_tables)}, unsteered_figure, beside=("barrier",)
    ),
    "planted": Study(
        measure=planted_measure,
        read=read_planted,
        blocks={"planted-seen": seen_block, "planted-learnt": learnt_block},
        figures=lambda _: [],
    ),
}

"""Carry out sweeps, keep their figures, read them again."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path

from results.runs.gather import gather
from results.runs.records import SweepFigures, read_figures, write_figures
from results.store import ROOT, tell
from steer_heal_love.commands import sweep as sweep_command
from steer_heal_love.runs.files import write_text
from steer_heal_love.sweep.file import read_sweep

STOPPED = 128  # exit codes above it are signals


def carry_out(options: argparse.Namespace, *, names: Sequence[str], diary: bool = False) -> int:
    """Carry out the sweeps and keep the figures. Returns the worst exit code, as of `shl sweep`."""
    worst = 0
    for name in names:
        sweep, folder = read_sweep(options.sweeps / f"{name}.toml"), options.store.absolute() / name
        if not options.collect:
            with contextlib.chdir(ROOT):  # a sweep's file may name an axis by its path
                flags = [str(sweep.path.absolute()), "--out", str(folder), "--resume"]
                worst = max(worst, sweep_command.main(flags))
        figures = gather(folder, sweep, name)
        if figures.runs:
            write_figures(options.docs / "results" / f"{name}.json", figures)
        if diary:
            show_diary(folder, options.docs / "results" / f"{name}-diary.md")
        tell(f"{name}: {len(figures.runs)} of {figures.trials} runs have a finished round")
        if worst > STOPPED:
            break
    return worst


def read_sweeps(docs: Path, *, names: Sequence[str]) -> dict[str, SweepFigures | None]:
    """The figures of each sweep; None where there is no run yet."""
    read = {name: read_figures(docs / "results" / f"{name}.json") for name in names}
    return {name: f if f is not None and f.runs else None for name, f in read.items()}


def show_diary(sweep: Path, page: Path) -> None:
    """The diary of a sweep's first run that has one, word for word."""
    for diary in sorted(sweep.glob("*/diary.md"))[:1]:
        write_text(page, diary.read_text(encoding="utf-8"))

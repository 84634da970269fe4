"""`shl compare`: a table of runs, from their directories alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from steer_heal_love.errors import ConfigError
from steer_heal_love.report.compare.compare import compare_runs, differences
from steer_heal_love.report.compare.comparison import comparison_table, write_comparison
from steer_heal_love.runs.read import read_run
from steer_heal_love.terminal.flags import parse


@dataclass(frozen=True)
class CompareArguments:
    """Show runs beside one another: barrier, dose, trait, coherence, rivals, verdicts, wall time.

    Runs that differ by their seed alone also get a common column, with intervals over the seeds.
    Refuses runs that were measured on different items, with other settings or on another model.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """The run directories."""
    out: Path | None = None
    """Write the table to OUT.md and OUT.csv as well."""
    force: bool = False
    """Compare also what was measured on different items; the table says so."""


def main(arguments: list[str]) -> int:
    """Parse, read, show, write."""
    options = parse(CompareArguments, arguments, "shl compare")
    if not options.runs:
        raise ConfigError("name at least one run directory: shl compare RUN…")
    views = [read_run(path) for path in options.runs]
    rows = compare_runs(views, force=options.force)
    warnings = differences(views)
    console = Console(highlight=False)
    console.print(comparison_table(rows, console.width))
    for warning in warnings:
        console.print(f"not measured on the same items: {warning}", markup=False)
    if options.out is not None:
        for path in write_comparison(rows, options.out, warnings):
            console.print(str(path), markup=False, soft_wrap=True)
    return 0

"""`shl report`: write a run's diary and figures again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from steer_heal_love.commands.arguments import parse
from steer_heal_love.errors import RunInUse
from steer_heal_love.report import write_report
from steer_heal_love.runs import RunDirectory, read_run


@dataclass(frozen=True)
class ReportArguments:
    """Write the diary and the figures of a run from its directory, also of an unfinished one."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run directory."""


def main(arguments: list[str]) -> int:
    """Parse and write."""
    given = parse(ReportArguments, arguments, "shl report")
    read_run(given.run)
    run = RunDirectory(given.run)
    try:
        with run.locked():
            run.release_pages()
            files = write_report(given.run)
            run.adopt_pages(files)
    except RunInUse:  # it enters its own pages when it ends
        files = write_report(given.run)
    for path in files:
        print(path)  # noqa: T201
    return 0

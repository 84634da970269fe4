"""`shl report`: write a run's diary and figures again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from steer_heal_love.commands.arguments import parse
from steer_heal_love.report import write_report
from steer_heal_love.runs import read_run


@dataclass(frozen=True)
class ReportArguments:
    """Write the diary and the figures of a run from its directory, also of an unfinished one."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run directory."""


def main(arguments: list[str]) -> int:
    """Parse and write."""
    given = parse(ReportArguments, arguments, "shl report")
    read_run(given.run)
    for path in write_report(given.run):
        print(path)  # noqa: T201
    return 0

"""`shl verify`: every file of a run against its manifest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from steer_heal_love.errors import RunError
from steer_heal_love.runs.read import refuse_other_folders
from steer_heal_love.runs.write import RunDirectory
from steer_heal_love.terminal.flags import parse


@dataclass(frozen=True)
class VerifyArguments:
    """Check size and hash of every file of a run; exit code 1 where one is broken or missing."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run directory."""


def main(arguments: list[str]) -> int:
    """Parse, check, tell."""
    options = parse(VerifyArguments, arguments, "shl verify")
    if not options.run.is_dir():
        raise RunError(f"{options.run} is not a run directory: check the path")
    refuse_other_folders(options.run)
    run, problems = check(options.run)
    for problem in problems:
        print(problem)  # noqa: T201
    if not problems:
        print(f"{options.run}: all {run.file_count} files are sound")  # noqa: T201
    return 1 if problems else 0


def check(path: Path) -> tuple[RunDirectory, list[str]]:
    """The run and what is wrong with its files.

    A process that writes the run meanwhile is no fault of a file: what is wrong is so twice.
    """
    run = RunDirectory(path)
    problems = run.problems()
    if problems:
        run = RunDirectory(path)
        again = run.problems()
        problems = [problem for problem in problems if problem in again]
    return run, problems

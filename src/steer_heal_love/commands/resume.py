"""`shl resume`: go on from the last finished piece of work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from steer_heal_love.lm.model.team import Team
from steer_heal_love.runner.processes import run_in_processes
from steer_heal_love.runner.start import Host, resume
from steer_heal_love.runner.tracking import TrackerName
from steer_heal_love.terminal.flags import parse
from steer_heal_love.terminal.screen import Screen


@dataclass(frozen=True)
class ResumeArguments:
    """Go on with a run that was stopped or killed; it ends as if it had never been stopped."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run directory."""
    rounds: int | None = None
    """Go on to this many rounds in all, also where the run had finished."""
    trust_remote_code: bool = False
    """Of a run that was begun with this flag: run code that comes with the model, once more."""
    processes: int = 1
    """Share the work out over this many processes, at most as many as the run has shards."""
    track: TrackerName | None = None
    """Tell an experiment tracker the figures too, from the run's beginning."""
    quiet: bool = False
    """Say nothing but errors."""
    json: bool = False
    """One JSON object a line on standard output."""


def main(arguments: list[str]) -> int:
    """Parse and resume."""
    return run_in_processes("resume", arguments, read_arguments, lead)


def read_arguments(arguments: list[str]) -> ResumeArguments:
    """The flags."""
    return parse(ResumeArguments, arguments, "shl resume")


def lead(options: ResumeArguments, team: Team) -> int:
    """The command itself, in the first of its processes."""
    host = Host(Screen(quiet=options.quiet, as_json=options.json), team, options.track)
    return resume(options.run, host, rounds=options.rounds, trust=options.trust_remote_code)

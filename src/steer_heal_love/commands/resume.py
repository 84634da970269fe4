"""`shl resume`: go on from the last finished piece of work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from steer_heal_love.budget.disk import bytes_in, estimate_need, refuse_full_disk
from steer_heal_love.errors import ConfigError
from steer_heal_love.lm.model.team import Team
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runner.carry_out import carry_out
from steer_heal_love.runner.environment import describe_environment, differences
from steer_heal_love.runner.model import check_model, settle_rows
from steer_heal_love.runner.processes import check_shares, lead_on, run_in_processes
from steer_heal_love.runner.settings import config_from, read_settings
from steer_heal_love.runner.tracking import TrackerName, open_tracker
from steer_heal_love.runs.write import RunDirectory
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


def lead(given: ResumeArguments, team: Team) -> int:
    """The command itself, in the first of its processes."""
    return resume(
        given.run,
        rounds=given.rounds,
        quiet=given.quiet,
        as_json=given.json,
        trust=given.trust_remote_code,
        track=given.track,
        team=team,
    )


def resume(
    path: Path,
    *,
    rounds: int | None,
    quiet: bool,
    as_json: bool,
    trust: bool,
    track: TrackerName | None = None,
    team: Team | None = None,
) -> int:
    """Carry a run directory on; returns the exit code.

    Args:
        team: the processes that this one leads.

    Raises:
        ConfigError: there are more processes than shards.
        RunError: it is no run directory, its foundations are broken, its model is another one,
            another process holds it, or the disk has no room for the rest.
    """
    run = RunDirectory(path)
    run.check_foundations()
    settings, axis = read_settings(path, trust=trust)
    check_shares(settings, team or Team())
    if rounds is not None:
        settings = extended(settings, rounds, path)
    tracker = open_tracker(track, path) if track else None
    with Screen(settings.rounds, quiet=quiet, as_json=as_json) as screen:
        for problem in run.problems():
            screen.notes.print(f"not used, but made again: {problem}", markup=False)
        lm = lead_on(team or Team(), settings, axis, screen)
        settings = settle_rows(lm, axis, settings, screen)
        check_model(run, lm)
        refuse_full_disk(path, estimate_need(lm, axis, settings).peak, bytes_in(path))
        begun = run.environment()
        if begun:
            for line in differences(begun, describe_environment(lm)):
                screen.say(f"not as when the run began: {line}")
        return carry_out(run, lm, axis, settings, screen, tracker)


def extended(settings: RunConfig, rounds: int, path: Path) -> RunConfig:
    """The settings with more rounds. Raises ConfigError where there would be fewer."""
    if rounds < settings.rounds:
        raise ConfigError(
            f"--rounds {rounds} is fewer than the {settings.rounds} of run {path}: a run can "
            "be extended, not cut"
        )
    return config_from({**settings.model_dump(), "rounds": rounds}, "--rounds")

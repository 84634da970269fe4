"""A run begun, repeated, or gone on with: everything between what was asked for and the loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steer_heal_love.budget.disk import bytes_in, estimate_need, refuse_full_disk
from steer_heal_love.errors import ConfigError, RunError
from steer_heal_love.inputs.axes import load_axis
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.model.team import Team
from steer_heal_love.lm.model.template import today
from steer_heal_love.records import Axis
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runner.carry_out import carry_out
from steer_heal_love.runner.environment import describe_environment, differences
from steer_heal_love.runner.model import check_model, load_for, settle
from steer_heal_love.runner.processes import check_shares, lead_on, share_out
from steer_heal_love.runner.repeat import tell_differences
from steer_heal_love.runner.settings import config_from, read_settings
from steer_heal_love.runner.tracking import TrackerName, open_tracker
from steer_heal_love.runs.write import RunDirectory
from steer_heal_love.terminal.screen import Screen


@dataclass(frozen=True)
class Host:
    """Where a run is carried out: who hears of it, who computes it, where its model comes from."""

    screen: Screen
    team: Team  # the processes that this one leads
    track: TrackerName | None = None
    load: Callable[[RunConfig, Screen], LanguageModel] = load_for


def begin(out: Path, settings: RunConfig, host: Host) -> int:
    """Make the run directory and carry the run out; returns the exit code.

    Raises:
        ConfigError: a process had nothing to do.
        RunError: the path exists already, or there is no room for the run; nothing is left behind.
    """
    settings = share_out(settings, host.team)
    return _begin(out, load_axis(settings.axis), settings, host)


def repeat(source: Path, out: Path, host: Host, *, trust: bool) -> int:
    """Begin a run in `out` as the run in `source` was begun, and say what differs here.

    Raises:
        ConfigError, RunError: as `begin` and `read_settings`.
    """
    settings, axis = read_settings(source, trust=trust)
    check_shares(settings, host.team)
    return _begin(out, axis, settings, host, source)


def resume(path: Path, host: Host, *, rounds: int | None, trust: bool) -> int:
    """Carry a run directory on, to so many rounds in all; returns the exit code.

    Raises:
        ConfigError: there are more processes than shards, or fewer rounds than the run has.
        RunError: it is no run directory, its foundations are broken, its model is another one,
            another process holds it, or the disk has no room for the rest.
    """
    run = RunDirectory(path)
    run.check_foundations()
    settings, axis = read_settings(path, trust=trust)
    check_shares(settings, host.team)
    if rounds is not None:
        settings = _extend(settings, rounds, path)
    return _carry_out(path, axis, settings, host, run)


def _begin(
    out: Path, axis: Axis, settings: RunConfig, host: Host, source: Path | None = None
) -> int:
    if out.exists():
        raise RunError(
            f"out folder {out} exists already: choose another --out, or go on with that run by "
            f"`shl resume {out}`"
        )
    refuse_full_disk(out)
    return _carry_out(out, axis, settings, host, source=source)


def _carry_out(
    path: Path,
    axis: Axis,
    settings: RunConfig,
    host: Host,
    run: RunDirectory | None = None,
    source: Path | None = None,
) -> int:
    """Load the model, refuse what cannot go well, and go; without `run` its directory is made."""
    tracker = open_tracker(host.track, path) if host.track else None
    host.screen.rounds = settings.rounds
    with host.screen as screen:
        for problem in run.problems() if run else ():
            screen.notes.print(f"not used, but made again: {problem}", markup=False)
        lm = lead_on(host.team, _of_today(settings), axis, screen, host.load)
        if run and settings.date is None and lm.template.dated:
            screen.say(
                f"the chat template shows the date, and run {path} does not say which one it was "
                f"begun with: it goes on with {lm.template.date}"
            )
        settings = settle(lm, axis, settings, screen, battery=True)
        if run:
            check_model(run, lm)
        present = bytes_in(path) if run else 0
        refuse_full_disk(path, estimate_need(lm, axis, settings).peak, present)
        environment = describe_environment(lm)
        if run is None:
            run = _make_directory(path, axis, settings, environment, source, screen)
        elif begun := run.environment():
            for line in differences(begun, environment):
                screen.say(f"not as when the run began: {line}")
        return carry_out(run, lm, axis, settings, screen, tracker)


def _make_directory(
    out: Path,
    axis: Axis,
    settings: RunConfig,
    environment: dict[str, Any],
    source: Path | None,
    screen: Screen,
) -> RunDirectory:
    if source is None:
        return RunDirectory.create(out, settings.model_dump(), axis, environment)
    differing = tell_differences(source, RunDirectory(source).environment(), environment, screen)
    run = RunDirectory.create(out, settings.model_dump(), axis, environment)
    run.event("repeat", of=source.name, differences=differing)
    return run


def _of_today(settings: RunConfig) -> RunConfig:
    """With a date for the chat templates that show one, the same in all processes."""
    return settings.model_copy(update={"date": settings.date or today().isoformat()})


def _extend(settings: RunConfig, rounds: int, path: Path) -> RunConfig:
    if rounds < settings.rounds:
        raise ConfigError(
            f"--rounds {rounds} is fewer than the {settings.rounds} of run {path}: a run can "
            "be extended, not cut"
        )
    return config_from({**settings.model_dump(), "rounds": rounds}, "--rounds")

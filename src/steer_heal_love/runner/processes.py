"""A command in several processes: started here or by a launcher; one leads, the others follow."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, TypeVar

from steer_heal_love.errors import (
    ConfigError,
    DivergedError,
    LostProcess,
    ModelError,
    OutOfMemory,
    StarvedRound,
    SteerHealLoveError,
)
from steer_heal_love.inputs.axes import load_contexts
from steer_heal_love.lm.model.load import LanguageModel
from steer_heal_love.lm.model.team import Team, raise_again
from steer_heal_love.loop.iterative import run_loop
from steer_heal_love.parallel.joined import Joined, count_launched, join_processes
from steer_heal_love.parallel.launch import launch
from steer_heal_love.parallel.pieces import Followed
from steer_heal_love.records import Axis
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runner.carry_out import quiet_libraries
from steer_heal_love.runner.model import load_quietly, settle
from steer_heal_love.runner.settings import config_from
from steer_heal_love.runner.signals import Stopped, catch_stop_signals
from steer_heal_love.terminal.screen import Screen

MOST = 1024  # processes

# Errors that the first process has too, and tells.
_SHARED = (DivergedError, LostProcess, ModelError, OutOfMemory, StarvedRound)


class Arguments(Protocol):
    """What a command that can be shared was asked for."""

    @property
    def processes(self) -> int:
        """How many processes to start."""


Options = TypeVar("Options", bound=Arguments)


def run_in_processes(
    command: str,
    arguments: list[str],
    read: Callable[[list[str]], Options],
    lead: Callable[[Options, Team], int],
) -> int:
    """Carry a command out in as many processes as `--processes` says; returns the exit code.

    Args:
        read: understands the arguments, or raises what is wrong with them.
        lead: the command itself, in the first process.

    Raises:
        ConfigError: the number is none, or not that of the launcher.
    """
    if not count_launched():
        options = read(arguments)
        if not 1 <= options.processes <= MOST:
            raise ConfigError(f"--processes {options.processes}: give a number from 1 to {MOST}")
        return (
            launch(options.processes, [command, *arguments])
            if options.processes > 1
            else lead(options, Team())
        )
    with join_processes() as team:
        if isinstance(team, Joined) and team.rank:
            return follow(team)
        options = read(arguments)
        if options.processes not in (1, team.processes):
            raise ConfigError(
                f"--processes {options.processes}, but a launcher has started {team.processes}: "
                "leave the flag out"
            )
        return lead(options, team)


def share_out(settings: RunConfig, team: Team) -> RunConfig:
    """The settings of a run that begins: as many shards as processes, unless it asks for more.

    Raises:
        ConfigError: as `check_shares`.
    """
    asked = settings.shards if settings.shards > 1 else team.processes
    settings = settings.model_copy(update={"shards": asked})
    check_shares(settings, team)
    return settings


def check_shares(settings: RunConfig, team: Team) -> None:
    """Raises ConfigError where a process had nothing to do, or shared its devices with others."""
    if team.processes > 1 and "," in settings.device:
        raise ConfigError(
            f"--processes {team.processes} and --device {settings.device}: either several "
            "processes with a model each, or one whose model has several devices"
        )
    if team.processes > settings.shards:
        raise ConfigError(
            f"--processes {team.processes}, but the work is split into {settings.shards} "
            f"shard(s): give at most --processes {settings.shards}, or begin a run with --shards "
            f"{team.processes}"
        )


def lead_on(
    team: Team,
    settings: RunConfig,
    axis: Axis,
    screen: Screen,
    load: Callable[[RunConfig, Screen], LanguageModel],
) -> LanguageModel:
    """The model, in all processes: the others hear what this run is, and follow from here on."""
    team.tell({"settings": settings.model_dump(), "axis": axis})
    return _load(team, settings, lambda: load(settings, screen))


def _load(team: Team, settings: RunConfig, load: Callable[[], LanguageModel]) -> LanguageModel:
    """The model in each process, or the error of the first that cannot load it in all."""
    if team.processes == 1:
        return replace(load(), team=replace(team, shards=settings.shards))
    problem: tuple[str, str] | None = None
    try:
        lm = load()
    except SteerHealLoveError as error:
        problem = (type(error).__name__, str(error))
    for trouble in team.gather(problem):
        raise_again(trouble)
    return replace(lm, team=replace(team, shards=settings.shards))


def follow(team: Joined) -> int:
    """Compute this process's part of everything that the first one asks for; returns a code."""
    try:
        told = team.hear()
        settings = config_from(told["settings"], "the first process")
        lm = _load(team, settings, lambda: load_quietly(settings))
        settings = settle(lm, told["axis"], settings, battery=True)  # as the first one does
        with quiet_libraries(), catch_stop_signals() as check:
            steps = run_loop(
                lm,
                told["axis"],
                load_contexts(),
                settings,
                pieces=Followed(team),
                report=lambda *_: check(),
            )
            for _ in steps:
                pass
    except Stopped as stop:
        return stop.exit_code
    except _SHARED as error:
        return error.exit_code
    except SteerHealLoveError as error:
        print(f"shl: process {team.rank}: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0

"""A command in several processes: started here or by a launcher; one leads, the others follow."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace

from steer_heal_love.axes import load_contexts
from steer_heal_love.commands.arguments import config_from
from steer_heal_love.commands.course import quiet_libraries
from steer_heal_love.commands.loading import load_for, load_settled
from steer_heal_love.commands.screen import Screen
from steer_heal_love.commands.stopping import Stopped, stoppable
from steer_heal_love.errors import (
    ConfigError,
    DivergedError,
    LostProcess,
    OutOfMemory,
    StarvedRound,
    SteerHealLoveError,
)
from steer_heal_love.lm.load import LanguageModel
from steer_heal_love.lm.team import Team
from steer_heal_love.loop import RunConfig, run_loop
from steer_heal_love.parallel.joined import Joined, joined, launched
from steer_heal_love.parallel.launch import launch
from steer_heal_love.parallel.pieces import Followed
from steer_heal_love.records import Axis

# Errors that the first process has too, and tells.
_SHARED = (DivergedError, LostProcess, OutOfMemory, StarvedRound)


def together(command: str, arguments: list[str], lead: Callable[[list[str], Team], int]) -> int:
    """Carry a command out in as many processes as `--processes` says; returns the exit code.

    Args:
        lead: the command itself, in the first process.

    Raises:
        ConfigError: the number is none, or not that of the launcher.
    """
    wanted, there = _wanted(arguments), launched()
    if there and wanted not in (None, there):
        raise ConfigError(
            f"--processes {wanted}, but a launcher has started {there}: leave the flag out"
        )
    if not there and wanted is not None and wanted > 1:
        return launch(wanted, [command, *arguments])
    with joined() as team:
        return follow(team) if isinstance(team, Joined) and team.rank else lead(arguments, team)


def _wanted(arguments: list[str]) -> int | None:
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--processes", nargs="?")
    text = early.parse_known_args(arguments)[0].processes
    if text is None:
        return None
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise ConfigError(f"--processes {text}: give a number of processes from 1 to 1024")
    return int(text)


def shared_out(settings: RunConfig, team: Team) -> RunConfig:
    """The settings of a run that begins: as many shards as processes, unless it asks for more.

    Raises:
        ConfigError: it asks for fewer, so that a process had nothing to do.
    """
    if settings.shards == 1:
        return settings.model_copy(update={"shards": team.processes})
    check_shards(settings, team)
    return settings


def check_shards(settings: RunConfig, team: Team) -> None:
    """Raises ConfigError where there are more processes than shards to compute."""
    if team.processes > settings.shards:
        raise ConfigError(
            f"--processes {team.processes}, but the work is split into {settings.shards} "
            f"shard(s): give at most --processes {settings.shards}, or begin a run with --shards "
            f"{team.processes}"
        )


def lead_on(team: Team, settings: RunConfig, axis: Axis, screen: Screen) -> LanguageModel:
    """The model, in all processes: the others hear what this run is, and follow from here on."""
    team.tell({"settings": settings.model_dump(), "axis": axis})
    return replace(load_for(settings, screen), team=replace(team, shards=settings.shards))


def follow(team: Joined) -> int:
    """Compute this process's part of everything that the first one asks for; returns a code."""
    try:
        told = team.hear()
        settings = config_from(told["settings"], "the first process")
        lm = load_settled(settings)
        lm = replace(lm, team=replace(team, shards=settings.shards))
        with quiet_libraries(), stoppable() as check:
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

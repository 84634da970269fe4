"""`shl run`: the whole loop into a run directory."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from steer_heal_love.budget.disk import estimate_need, refuse_full_disk
from steer_heal_love.errors import RunError
from steer_heal_love.inputs.axes import load_axis
from steer_heal_love.lm.model.team import Team
from steer_heal_love.records import Axis
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runner.carry_out import carry_out
from steer_heal_love.runner.environment import describe_environment
from steer_heal_love.runner.model import settle_rows
from steer_heal_love.runner.processes import check_shares, lead_on, run_in_processes, share_out
from steer_heal_love.runner.remote_code import drop_trust, refuse_silent_trust
from steer_heal_love.runner.repeat import check_same, refuse_settings, tell_differences
from steer_heal_love.runner.settings import files_named, load_config, read_settings
from steer_heal_love.runner.tracking import TrackerName, open_tracker
from steer_heal_love.runs.write import RunDirectory
from steer_heal_love.terminal.flags import parse
from steer_heal_love.terminal.screen import Screen


@dataclass(frozen=True)
class RunArguments:
    """Steer, heal, love: from a persona pair to healed adapters, in a run directory of its own.

    Every setting is a flag here and a key of the --config TOML file; flags beat the file.
    """

    settings: Annotated[RunConfig, tyro.conf.arg(name="")]
    out: Path | None = None
    """Folder to make for the run; by default runs/AXIS-MODEL-TIME."""
    config: Path | None = None
    """TOML file of settings; flags beat it."""
    preset: str | None = None
    """Settings for a known model (`shl presets` lists them); --config and flags beat them."""
    source: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """Repeat the run in this folder as it was, its settings and its axis."""
    resume: bool = False
    """Go on with the run in --out if it is there."""
    processes: int = 1
    """Share the work out over so many processes, each with a GPU of its own if there are some."""
    track: TrackerName | None = None
    """Tell an experiment tracker the figures too."""
    quiet: bool = False
    """Say nothing but errors."""
    json: bool = False
    """One JSON object a line on standard output, in place of tables and words."""


def main(arguments: list[str]) -> int:
    """Parse, run, and say how it went."""
    return run_in_processes("run", arguments, read_arguments, lead)


def read_arguments(arguments: list[str]) -> RunArguments:
    """The flags, over the files that they name.

    Raises:
        ConfigError, RunError: a flag or file is none, or would run a model's own code unasked.
    """
    named = files_named(arguments, "--from")
    source: Path | None = vars(named)["from"]
    if source is not None:
        refuse_settings(arguments, source)
        RunDirectory(source).check_foundations()
        settings, _ = read_settings(source, trust="--trust-remote-code" in arguments)
        return parse(RunArguments, arguments, "shl run", RunArguments(settings))
    from_file = load_config(named.config, named.preset)
    given = parse(RunArguments, arguments, "shl run", RunArguments(drop_trust(from_file)))
    refuse_silent_trust(from_file, f"config file {named.config}", given.settings.trust_remote_code)
    return given


def lead(given: RunArguments, team: Team) -> int:
    """The command itself, in the first of its processes."""
    out = given.out or _default_out(given.settings)
    trust = given.settings.trust_remote_code
    if given.source is not None:  # as that run was begun, in a folder of its own
        settings, axis = read_settings(given.source, trust=trust)
        check_shares(settings, team)
        return begin(out, axis, settings, given, team)
    if given.resume and (out / "config.toml").is_file():
        from steer_heal_love.commands.resume import resume

        check_same(given.settings, read_settings(out, trust=trust)[0], out)
        return resume(
            out,
            rounds=given.settings.rounds,
            quiet=given.quiet,
            as_json=given.json,
            trust=trust,
            track=given.track,
            team=team,
        )
    settings = share_out(given.settings, team)
    return begin(out, load_axis(settings.axis), settings, given, team)


def begin(
    out: Path, axis: Axis, settings: RunConfig, given: RunArguments, team: Team | None = None
) -> int:
    """Make the run directory and carry the run out; returns the exit code.

    Args:
        team: the processes that this one leads.

    Raises:
        RunError: the path exists already, or there is no room for the run; nothing is left behind.
    """
    if out.exists():
        raise RunError(
            f"out folder {out} exists already: choose another --out, or go on with that run by "
            f"`shl resume {out}`"
        )
    refuse_full_disk(out)
    tracker = open_tracker(given.track, out) if given.track else None
    with Screen(settings.rounds, quiet=given.quiet, as_json=given.json) as screen:
        lm = lead_on(team or Team(), settings, axis, screen)
        settings = settle_rows(lm, axis, settings, screen)
        refuse_full_disk(out, estimate_need(lm, axis, settings).peak)
        environment = describe_environment(lm)
        differ = []
        if given.source is not None:
            begun = RunDirectory(given.source).environment()
            differ = tell_differences(given.source, begun, environment, screen)
        run = RunDirectory.create(out, settings.model_dump(), axis, environment)
        if given.source is not None:
            run.event("repeat", of=given.source.name, differences=differ)
        return carry_out(run, lm, axis, settings, screen, tracker)


def _default_out(settings: RunConfig) -> Path:
    now = datetime.datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    name = f"{Path(settings.axis).stem}-{Path(settings.model).name}"
    return Path("runs") / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}-{now}"

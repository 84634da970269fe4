"""`shl run`: the whole loop into a run directory."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from steer_heal_love.lm.model.team import Team
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runner.processes import run_in_processes
from steer_heal_love.runner.remote_code import drop_trust, refuse_silent_trust
from steer_heal_love.runner.repeat import check_same, refuse_settings
from steer_heal_love.runner.settings import files_named, load_config, read_settings
from steer_heal_love.runner.start import Host, begin, repeat, resume
from steer_heal_love.runner.tracking import TrackerName
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
    options = parse(RunArguments, arguments, "shl run", RunArguments(drop_trust(from_file)))
    refuse_silent_trust(
        from_file, f"config file {named.config}", options.settings.trust_remote_code
    )
    return options


def lead(options: RunArguments, team: Team) -> int:
    """The command itself, in the first of its processes."""
    settings, trust = options.settings, options.settings.trust_remote_code
    out = options.out or _default_out(settings)
    host = Host(Screen(quiet=options.quiet, as_json=options.json), team, options.track)
    if options.source is not None:  # as that run was begun, in a folder of its own
        return repeat(options.source, out, host, trust=trust)
    if options.resume and (out / "config.toml").is_file():
        check_same(settings, read_settings(out, trust=trust)[0], out)
        return resume(out, host, rounds=settings.rounds, trust=trust)
    return begin(out, settings, host)


def _default_out(settings: RunConfig) -> Path:
    now = datetime.datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    name = f"{Path(settings.axis).stem}-{Path(settings.model).name}"
    return Path("runs") / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}-{now}"

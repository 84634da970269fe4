"""`shl resume`: go on from the last finished piece of work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from steer_heal_love.commands.arguments import parse
from steer_heal_love.commands.run import carry_out, load_for, read_settings
from steer_heal_love.commands.screen import Screen
from steer_heal_love.errors import ConfigError
from steer_heal_love.runs import RunDirectory


@dataclass(frozen=True)
class ResumeArguments:
    """Go on with a run that was stopped or killed; it ends as if it had never been stopped."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run directory."""
    rounds: int | None = None
    """Go on to this many rounds in all, also where the run had finished."""
    quiet: bool = False
    """Say nothing but errors."""
    json: bool = False
    """One JSON object a line on standard output."""


def main(arguments: list[str]) -> int:
    """Parse and resume."""
    given = parse(ResumeArguments, arguments, "shl resume")
    return resume(given.run, rounds=given.rounds, quiet=given.quiet, as_json=given.json)


def resume(path: Path, *, rounds: int | None, quiet: bool, as_json: bool) -> int:
    """Carry a run directory on; returns the exit code."""
    settings, axis = read_settings(path)
    if rounds is not None:
        if rounds < settings.rounds:
            raise ConfigError(
                f"--rounds {rounds} is fewer than the {settings.rounds} of run {path}: a run can "
                "be extended, not cut"
            )
        settings = settings.model_copy(update={"rounds": rounds})
    with Screen(settings.rounds, quiet=quiet, as_json=as_json) as screen:
        lm = load_for(settings, screen)
        run = RunDirectory(path)
        if rounds is not None:
            run.write_config(settings.model_dump())
        return carry_out(run, lm, axis, settings, screen)

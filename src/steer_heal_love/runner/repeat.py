"""Another run's settings once more: to repeat it (`shl run --from`), or to go on with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steer_heal_love.errors import ConfigError
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runner.environment import differences, same_model
from steer_heal_love.runner.settings import flatten
from steer_heal_love.terminal.screen import Screen

COMBINABLE = ("--from", "--out", "--quiet", "--json", "--track", "--trust-remote-code", "--help")

CHOSEN = "generate.batch_size"  # by the memory that was free, where no number is asked for


def refuse_settings(arguments: list[str], path: Path) -> None:
    """Raises ConfigError where a flag would make of a repeated run another one."""
    flags = [word.partition("=")[0].replace("_", "-") for word in arguments if word[:2] == "--"]
    for flag in flags:
        if flag not in COMBINABLE and flag.replace("--no-", "--", 1) not in COMBINABLE:
            raise ConfigError(
                f"{flag} cannot be combined with --from, which repeats run {path} as it was: leave "
                f"it out, or begin a run of its own with --config {path / 'config.toml'}"
            )


def tell_differences(
    path: Path, begun: Mapping[str, Any], now: Mapping[str, Any], screen: Screen
) -> list[str]:
    """Say what is not as it was when that run was made, and return it, one line each.

    Where the model is another one, a warning comes first, also when nothing else is said.
    """
    if not begun:
        screen.say(f"what run {path} was made with is not known: its environment.json is broken")
        return []
    differing = differences(begun, now)
    match same_model(begun, now):
        case False:
            screen.notes.print(
                f"warning: the model is not the one of run {path}, so the figures will not be "
                "either",
                markup=False,
            )
        case None:
            differing.insert(
                0, "model: no hash or revision of it is known, so it may be another one"
            )
        case True:
            pass
    if differing:
        screen.say("\n".join([f"differs from run {path}:", *(f"  {line}" for line in differing)]))
    else:
        screen.say(f"nothing is known to differ from what run {path} was made with")
    return differing


def check_same(asked: RunConfig, stored: RunConfig, out: Path) -> None:
    """Raises ConfigError where a run would have to go on with settings it was not begun with.

    It may have more rounds now, and what was chosen for it when it began need not be asked for.
    """
    one, other = flatten(asked.model_dump()), flatten(stored.model_dump())
    free = {"rounds"} | {name for name in (CHOSEN, "date") if one[name] is None}
    differing = [k for k in one if one[k] != other[k] and k not in free]
    if differing:
        name = differing[0]
        raise ConfigError(
            f"run {out} was begun with {name} = {other[name]!r}, not {one[name]!r}: choose another "
            f"--out, or `shl resume {out}` to go on as it was begun"
        )

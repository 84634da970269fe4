"""`shl presets`: list the settings that come with the package, or show one with its sources."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from steer_heal_love.errors import ConfigError
from steer_heal_love.inputs.presets import builtin_presets, load_preset

HELP = """usage: shl presets [show NAME]

Lists the settings that come with the package, or prints one, with where its numbers come from.
Use one by `shl run --preset NAME`; --config and flags beat it.
"""


def main(arguments: list[str]) -> int:
    """List, or show."""
    match arguments:
        case []:
            Console(highlight=False).print(_table())
        case ["-h" | "--help"]:
            print(HELP, end="")  # noqa: T201
        case ["show", name]:
            print(load_preset(name).text, end="")  # noqa: T201
        case _:
            raise ConfigError("usage: shl presets [show NAME]")
    return 0


def _table() -> Table:
    table = Table(box=None)
    for heading in ("preset", "model", "what it is"):
        table.add_column(heading)
    for name in builtin_presets():
        preset = load_preset(name)
        table.add_row(name, str(preset.settings["model"]), preset.description)
    return table

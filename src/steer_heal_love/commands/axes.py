"""`shl axes`: list the built-in axes, show one, or check whether one is fit to be used."""

from __future__ import annotations

import tomli_w
from rich.console import Console
from rich.table import Table

from steer_heal_love.errors import ConfigError
from steer_heal_love.inputs.axes import axis_to_toml_data, builtin_axes, load_axis

HELP = """usage: shl axes [show NAME | check NAME [OPTIONS]]

Lists the built-in axes, or prints one (built in, or a .toml file) as TOML: the form of your own.
`shl axes check NAME` tells what is amiss with one, and whether a model can express it;
`shl axes check --help` lists its options.
"""


def main(arguments: list[str]) -> int:
    """List, show or check."""
    match arguments:
        case []:
            Console().print(_table())
        case ["-h" | "--help"]:
            print(HELP, end="")  # noqa: T201
        case ["show", name]:
            text = tomli_w.dumps(axis_to_toml_data(load_axis(name)))
            print("".join(map(_escaped, text)), end="")  # noqa: T201
        case ["check", *rest]:
            from steer_heal_love.commands import axes_check

            return axes_check.main(rest)
        case _:
            raise ConfigError("usage: shl axes [show NAME | check NAME]")
    return 0


def _table() -> Table:
    table = Table(box=None)
    for heading in ("axis", "what it is", "probes", "pairs"):
        table.add_column(heading)
    for name in builtin_axes():
        axis = load_axis(name)
        table.add_row(name, axis.description, str(len(axis.probes)), str(len(axis.pairs)))
    return table


def _escaped(character: str) -> str:
    """A character of TOML text; one that does not show, such as a terminal's command, escaped."""
    if character.isprintable() or character == "\n":
        return character
    return f"\\U{ord(character):08X}"

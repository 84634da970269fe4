"""How a run was made, and how to make it again: settings, versions, command, files."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from steer_heal_love.report.states import Grid, Run, read_mapping
from steer_heal_love.report.text.costs import cost_grid
from steer_heal_love.report.text.words import one_line
from steer_heal_love.runs.read import RunView


@dataclass(frozen=True)
class Setup:
    """The last part of a run's page."""

    command: str
    settings: Grid
    versions: Grid
    costs: Grid
    files: Grid
    persona: str
    opposite: str


def setup_of(view: RunView, run: Run) -> Setup:
    """Settings, versions, what it took, files and the command that repeats the run."""
    where = shlex.quote(one_line(view.path))
    settings = tuple(flat(view.config))
    return Setup(
        command=f"shl run --from {where} --out {where}-again" if settings else "",
        settings=Grid(("setting", "value"), settings),
        versions=Grid(("what", "version"), tuple(flat(view.environment()))),
        costs=cost_grid(run.rounds),
        files=Grid(("file", "size"), tuple((one_line(n), size_words(b)) for n, b in view.files())),
        persona=view.axis.pos_system,
        opposite=view.axis.neg_system,
    )


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as lines of dotted names and plain values."""
    for key, value in values.items():
        name = f"{prefix}{one_line(key)}"
        if isinstance(value, Mapping):
            yield from flat(read_mapping(value), f"{name}.")
        elif isinstance(value, list | tuple):
            yield name, ", ".join(map(one_line_of, value)) or "none"
        else:
            yield name, one_line_of(value)


def one_line_of(value: object) -> str:
    """A setting's value as it would be written down."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "not set" if value is None else one_line(str(value), "empty")


def size_words(count: int) -> str:
    """Bytes in words."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"

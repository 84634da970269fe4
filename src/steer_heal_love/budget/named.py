"""Models by size, whose shapes come with the package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from steer_heal_love.errors import ConfigError
from steer_heal_love.inputs.bundled import read_bundled
from steer_heal_love.inputs.toml_text import parse_toml


@dataclass(frozen=True)
class NamedSize:
    """A published model of this size."""

    name: str
    model: str  # its hub id
    parameters: int  # as published
    config: dict[str, Any]  # the part of its config.json that sizes follow from
    source: str


def named_sizes() -> dict[str, NamedSize]:
    """The sizes that are known, from small to large."""
    found = parse_toml(read_bundled("planning", "sizes"))
    return {name: NamedSize(name=name, **about) for name, about in found.items()}


def find_size(name: str) -> NamedSize:
    """The size of this name, in letters of either case.

    Raises:
        ConfigError: there is none.
    """
    known = named_sizes()
    by_plain = {key.lower(): key for key in known}
    if name.lower() not in by_plain:
        raise ConfigError(f"--size {name!r}: there are {', '.join(known)}")
    return known[by_plain[name.lower()]]

"""Settings for known models, each with where its numbers come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from steer_heal_love.errors import ConfigError, hint_at
from steer_heal_love.inputs.bundled import bundled_names, read_bundled
from steer_heal_love.inputs.toml_text import parse_toml


@dataclass(frozen=True)
class Preset:
    """Settings by the keys of a TOML file of settings, and what is known of them."""

    name: str
    description: str
    measured_here: bool  # whether a run with them was made and its figures are in the docs
    sources: tuple[str, ...]  # which numbers, and where from
    differs: tuple[str, ...]  # where the package cannot or does not do as its source
    settings: dict[str, Any]
    text: str  # the file, whole


def builtin_presets() -> list[str]:
    """Names of the presets that come with the package, sorted."""
    return bundled_names("presets")


def load_preset(name: str) -> Preset:
    """The preset of this name, in letters of either case.

    Raises:
        ConfigError: there is none; names the nearest.
    """
    names = builtin_presets()
    known = name.lower()
    if known not in names:
        hint = hint_at(known, names)
        raise ConfigError(f"unknown preset {name!r}: {hint}there are {', '.join(names)}")
    text = read_bundled("presets", known)
    settings = parse_toml(text)
    about = settings.pop("preset")
    return Preset(
        name=known,
        description=about["description"],
        measured_here=about["measured_here"],
        sources=tuple(about["sources"]),
        differs=tuple(about["differs"]),
        settings=settings,
        text=text,
    )


def merge_over(settings: dict[str, Any], under: dict[str, Any]) -> dict[str, Any]:
    """The settings with those of `under` where they say nothing, table by table."""
    merged = dict(under)
    for key, value in settings.items():
        below = under.get(key)
        both = isinstance(value, dict) and isinstance(below, dict)
        merged[key] = merge_over(value, below) if both and below is not None else value
    return merged

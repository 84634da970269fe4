"""TOML files to settings, with every mistake on one line."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steer_heal_love.inputs.presets import load_preset, merge_over
from steer_heal_love.inputs.toml_text import parse_settings, read_settings_text
from steer_heal_love.records import Axis
from steer_heal_love.run_config import RunConfig
from steer_heal_love.runner.remote_code import refuse_silent_trust
from steer_heal_love.runs.read import read_foundations
from steer_heal_love.stages.settings import check_settings


def load_config(path: Path | None, preset: str | None = None) -> RunConfig:
    """Settings from a TOML file over a preset over the defaults; None: none of it.

    Raises:
        ConfigError: missing, no TOML, an unknown key (names the nearest known one), a bad value.
    """
    under = load_preset(preset).settings if preset is not None else {}
    if path is None:
        return config_from(under, f"preset {preset}")
    where = f"config file {path}"
    return config_from(
        merge_over(parse_settings(read_settings_text(path, where), where), under), where
    )


def files_named(arguments: list[str], *more: str) -> argparse.Namespace:
    """The files that flags are read over, by --config, --preset and `more`; None where not given.

    They have to be known before the other flags are parsed, whose defaults they give.
    """
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--config", type=Path, nargs="?")
    early.add_argument("--preset", nargs="?")
    for flag in more:
        early.add_argument(flag, type=Path, nargs="?")
    return early.parse_known_args(arguments)[0]


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values on one level, by names such as heal.tau."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def config_from(values: dict[str, Any], where: str) -> RunConfig:
    """Settings from plain data, as of a TOML file.

    Raises:
        ConfigError: as `load_config`.
    """
    return check_settings(RunConfig, values, where)


def read_settings(path: Path, *, trust: bool = False) -> tuple[RunConfig, Axis]:
    """Settings and axis of a run directory.

    Raises:
        RunError, AxisError: it is no run directory, or a broken one.
        ConfigError: a setting is none, or it would run a model's own code without `trust`.
    """
    values, axis = read_foundations(path)
    settings = config_from(values, str(path / "config.toml"))
    refuse_silent_trust(settings, f"run {path}", trust)
    return settings, axis

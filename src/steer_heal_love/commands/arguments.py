"""TOML files to settings, with every mistake on one line."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from steer_heal_love.errors import ConfigError
from steer_heal_love.presets import load_preset, over
from steer_heal_love.run_config import RunConfig
from steer_heal_love.toml_text import parse_toml

MAX_CONFIG_BYTES = 1_000_000


def load_config(path: Path | None, preset: str | None = None) -> RunConfig:
    """Settings from a TOML file over a preset over the defaults; None: none of it.

    Raises:
        ConfigError: missing, no TOML, an unknown key (names the nearest known one), a bad value.
    """
    under = load_preset(preset).settings if preset is not None else {}
    if path is None:
        return config_from(under, f"preset {preset}")
    return config_from(over(_read(path), under), f"config file {path}")


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(f"config file {path} is larger than {MAX_CONFIG_BYTES:,} bytes")
        return parse_toml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"config file {path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"config file {path} is not UTF-8: re-save it") from None
    except (ValueError, RecursionError) as error:  # ValueError: a number of 5,000 digits, too
        raise ConfigError(f"config file {path} is not valid TOML: {error}") from None


def config_from(values: dict[str, Any], where: str) -> RunConfig:
    """Settings from plain data, as of a TOML file.

    Raises:
        ConfigError: as `load_config`.
    """
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            raise ConfigError(f"{where}: unknown key {key!r}{_nearest(problem['loc'])}") from None
        message = problem["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{where}: key {key!r}: {message[:1].lower()}{message[1:]}") from None


def _nearest(loc: tuple[int | str, ...]) -> str:
    model: Any = RunConfig
    for part in loc[:-1]:
        field = model.model_fields.get(str(part)) if _is_model(model) else None
        model = field.annotation if field is not None else None
    known = list(model.model_fields) if _is_model(model) else []
    near = difflib.get_close_matches(str(loc[-1]), known, 1, cutoff=0.0)
    return f": the nearest known one is {near[0]!r}" if near else ""


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)

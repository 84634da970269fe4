"""Flags and TOML files to settings, with every mistake on one line."""

from __future__ import annotations

import contextlib
import difflib
import io
import re
from pathlib import Path
from typing import Any, TypeVar

import tyro
from pydantic import BaseModel, ValidationError

from steer_heal_love.errors import ConfigError
from steer_heal_love.loop import RunConfig
from steer_heal_love.toml_text import parse_toml

T = TypeVar("T")

MAX_CONFIG_BYTES = 1_000_000
_BOX = str.maketrans("", "", "╭╮╰╯│─")


def parse(kind: type[T], arguments: list[str], prog: str, default: T | None = None) -> T:
    """Parse a command's flags with tyro.

    Raises:
        ConfigError: a flag is unknown or its value is bad; one line.
    """
    words = io.StringIO()
    try:
        with contextlib.redirect_stderr(words):
            if default is None:
                return tyro.cli(kind, args=arguments, prog=prog)
            return tyro.cli(kind, args=arguments, prog=prog, default=default)
    except ValidationError as error:
        raise ConfigError(f"{flag_problem(error)}") from None
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise ConfigError(condense(words.getvalue(), prog)) from None


def condense(box: str, prog: str) -> str:
    """One line out of tyro's box of complaints."""
    lines = [line.translate(_BOX).strip() for line in box.splitlines()]
    text = " ".join(line for line in lines if line)
    validation = re.search(
        r"Error parsing (?:settings\.?)?(\S*): \d+ validation errors? for \w+ (.+?) \[type=", text
    )
    if validation:
        return _validation_words(*validation.groups())
    unknown = re.search(r"Unrecognized options: (--\S+?),? ", text + " ")
    if unknown:
        near = re.search(r"Perhaps you meant: (--\S+)", text)
        hint = f", did you mean {near.group(1)}?" if near else ""
        return f"unknown option {unknown.group(1)}{hint} (`{prog} --help` lists them)"
    message = re.split(r" Argument helptext:| For full helptext", text)[0]
    message = re.sub(r"^(Value error|Parsing error|Required options?|Missing \w+) ", "", message)
    return f"{message} (`{prog} --help` tells the options)"


def _validation_words(where: str, problem: str) -> str:
    first, _, rest = problem.partition(" ")
    if first in ("Value", "Input"):  # about the group as a whole
        return f"--{where}: {problem.removeprefix('Value error, ')}"
    place = ".".join(part for part in (where, first) if part).replace("_", "-")
    return f"--{place}: {rest[:1].lower()}{rest[1:]}"


def flag_problem(error: ValidationError) -> str:
    """The first problem of a validation, by its flag."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"]).replace("_", "-")
    message = problem["msg"].removeprefix("Value error, ")
    given = problem.get("input")
    shown = f" (got {given!r})" if isinstance(given, int | float | str | bool) else ""
    return f"--{where}: {message[:1].lower()}{message[1:]}{shown}"


def load_config(path: Path | None) -> RunConfig:
    """Settings from a TOML file over the defaults; None: the defaults.

    Raises:
        ConfigError: missing, no TOML, an unknown key (names the nearest known one), a bad value.
    """
    if path is None:
        return RunConfig()
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(f"config file {path} is larger than {MAX_CONFIG_BYTES:,} bytes")
        values = parse_toml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"config file {path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"config file {path} is not UTF-8: re-save it") from None
    except (ValueError, RecursionError) as error:  # ValueError: a number of 5,000 digits, too
        raise ConfigError(f"config file {path} is not valid TOML: {error}") from None
    return config_from(values, f"config file {path}")


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

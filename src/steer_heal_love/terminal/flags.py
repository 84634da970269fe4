"""Flags to settings, with every mistake on one line; imports nothing heavy."""

from __future__ import annotations

import contextlib
import io
import re
from typing import TypeVar

import tyro
from pydantic import ValidationError

from steer_heal_love.errors import ConfigError

T = TypeVar("T")

# What tyro says of a value that is neither None nor what it must be.
_OPTIONAL = re.compile(
    r"no type matching \{None\}\|(\S+) could be instantiated from \[(.*?)\]\. Got errors: .*"
)
_BOX = str.maketrans("", "", "╭╮╰╯│─")


def parse(options: type[T], arguments: list[str], prog: str, default: T | None = None) -> T:
    """Parse a command's flags with tyro.

    Raises:
        ConfigError: a flag is unknown or its value is bad; one line.
    """
    words = io.StringIO()
    try:
        with contextlib.redirect_stderr(words):
            if default is None:
                return tyro.cli(options, args=arguments, prog=prog)
            return tyro.cli(options, args=arguments, prog=prog, default=default)
    except ValidationError as error:
        raise ConfigError(f"{flag_problem(error)}") from None
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        problem = _validation(stop)
        if problem is None:
            raise ConfigError(condense(words.getvalue(), prog)) from None
        group = re.search(r"Error parsing (?:settings\.?)?(\S*):", words.getvalue())
        raise ConfigError(flag_problem(problem, group.group(1) if group else "")) from None


def condense(box: str, prog: str) -> str:
    """One line out of tyro's box of complaints."""
    lines = [line.translate(_BOX).strip() for line in box.splitlines()]
    text = " ".join(line for line in lines if line)
    unknown = re.search(r"Unrecognized options: (--\S+?),? ", text + " ")
    if unknown:
        near = re.search(r"Perhaps you meant: (--\S+)", text)
        hint = f", did you mean {near.group(1)}?" if near else ""
        return f"unknown option {unknown.group(1)}{hint} (`{prog} --help` lists them)"
    message = re.split(r" Argument helptext:| For full helptext", text)[0]
    message = re.sub(r"^(\w+ \w+) \1\b", r"\1", message, flags=re.IGNORECASE)  # title and text
    message = _OPTIONAL.sub(r"needs \1, not \2", message)
    message = re.sub(r"^(Value error|Parsing error|Required options?|Missing \w+) ", "", message)
    return f"{message} (`{prog} --help` tells the options)"


def _validation(error: BaseException | None) -> ValidationError | None:
    """The validation that failed on the way to this error, where one did."""
    while error is not None and not isinstance(error, ValidationError):
        error = error.__cause__ or error.__context__
    return error


def flag_problem(error: ValidationError, group: str = "") -> str:
    """The first problem of a validation, by its flag; `group` is that of the settings, if any."""
    problem = error.errors()[0]
    where = ".".join(filter(None, (group, *map(str, problem["loc"])))).replace("_", "-")
    message = problem["msg"].removeprefix("Value error, ")
    value = problem.get("input")
    shown = f" (got {value!r})" if isinstance(value, int | float | str | bool) else ""
    return f"--{where}: {message[:1].lower()}{message[1:]}{shown}"

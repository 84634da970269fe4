"""TOML of strangers: what would eat the machine's memory is refused before it is parsed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from steer_heal_love.errors import ConfigError
from steer_heal_love.inputs.text_files import read_text

MAX_CONFIG_BYTES = 1_000_000  # of a file of settings, before it is read
MAX_KEY_PARTS = 64

# Names joined by dots, as in a.b."c".d; begun only where a name begins, so that it ends soon.
_PART = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
_CHAIN = re.compile(rf"(?<![\w-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{MAX_KEY_PARTS}}}", re.ASCII)


def parse_toml(text: str) -> dict[str, Any]:
    """`tomllib.loads`, but for keys of more than 64 parts: 80,000 parts would take 25 GB.

    Raises:
        ValueError: it is no TOML, or holds such a key (in a text, so long a chain of dotted words).
        RecursionError: it is nested too deeply.
    """
    chain = _CHAIN.search(text)
    if chain is not None:
        line = text.count("\n", 0, chain.start()) + 1
        raise ValueError(f"a key of more than {MAX_KEY_PARTS} dotted parts (at line {line})")
    return tomllib.loads(text)


def read_settings_text(path: Path, where: str) -> str:
    """The text of a file of settings. Raises ConfigError: it is missing, too large, or not UTF-8.

    Args:
        where: what the file is, for the error: "config file …".
    """
    return read_text(path, where, MAX_CONFIG_BYTES, ConfigError)


def parse_settings(text: str, where: str) -> dict[str, Any]:
    """As `parse_toml`, for a file of settings. Raises ConfigError where it is no TOML."""
    try:
        return parse_toml(text)
    except (ValueError, RecursionError) as error:  # ValueError: a number of 5,000 digits, too
        raise ConfigError(f"{where} is not valid TOML: {error}") from None

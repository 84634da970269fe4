"""A sweep's file: TOML to trials, every mistake of it on one line that names file and key."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steer_heal_love.errors import ConfigError
from steer_heal_love.inputs.toml_text import parse_settings, parse_toml, read_settings_text
from steer_heal_love.run_config import RunConfig
from steer_heal_love.stages.settings import check_settings, is_group, nearest
from steer_heal_love.sweep.naming import canonical, find_varying, name_trials
from steer_heal_love.sweep.settings import Choice, Range, Resources, Search
from steer_heal_love.sweep.trial import Trial

MAX_TRIALS = 1000

_TABLES = ("base", "grid", "list", "resources", "search")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]{0,99}")  # no dot: files beside the trials have one
_TAKEN = re.compile(r"lock|compare_.*")  # by the sweep itself

Flat = dict[str, Any]  # dotted setting → value


@dataclass(frozen=True)
class Sweep:
    """A sweep's file, read."""

    path: Path
    text: str
    base: Flat
    trials: tuple[Trial, ...]  # of grid and list; none in a file that only searches
    resources: Resources
    search: Search | None

    @property
    def design(self) -> str:
        """What makes it this sweep and no other, as text: not the machine that it runs on."""
        data = parse_toml(self.text)
        data.pop("resources", None)
        if self.search is not None:
            data["search"].pop("samples", None)
        return canonical(data)


def read_sweep(path: Path) -> Sweep:
    """Read a sweep's file.

    Raises:
        ConfigError: it is missing, no TOML, has an unknown key or a value of the wrong type, asks
            for no trial at all, for one twice, or for more than 1000.
    """
    where = f"sweep file {path}"
    text = read_settings_text(path, where)
    data = parse_settings(text, where)
    for key in data:
        if key not in _TABLES:
            raise ConfigError(f"{where}: unknown key {key!r}{nearest(key, list(_TABLES))}")
    base = _settings(data.get("base", {}), f"{where}: [base]")
    search = _search(data["search"], where) if "search" in data else None
    trials = _trials(base, _grid(data.get("grid", {}), where), _list(data, where), where)
    if not trials and search is None:
        raise ConfigError(f"{where} asks for no trial: fill [grid], [[list]] or [search]")
    needs = _table(data.get("resources", {}), where, "resources")
    resources = check_settings(Resources, needs, f"{where}: [resources]")
    return Sweep(path, text, base, tuple(trials), resources, search)


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted settings as the tables of a --config file."""
    tables: dict[str, Any] = {}
    for key, value in flat.items():
        *groups, last = key.split(".")
        table = tables
        for group in groups:
            table = table.setdefault(group, {})
        table[last] = value
    return tables


def _table(value: Any, where: str, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: key {name!r} must be a table: begin it with [{name}]")
    return value


def _settings(table: Any, where: str) -> Flat:
    """A run's settings by their dotted names, however the table nests them.

    Raises:
        ConfigError: a name is none, or a setting is there twice.
    """
    flat: Flat = {}
    _collect(_table(table, where, "settings"), RunConfig, "", where, flat)
    return flat


def _collect(table: Mapping[str, Any], group: Any, before: str, where: str, flat: Flat) -> None:
    for key, value in table.items():
        name, inner = f"{before}{key}", group
        for part in key.split("."):
            if not is_group(inner) or part not in inner.model_fields:
                known = list(inner.model_fields) if is_group(inner) else []
                raise ConfigError(f"{where}: unknown key {name!r}{nearest(part, known)}")
            inner = inner.model_fields[part].annotation
        if not is_group(inner):
            if name in flat:
                raise ConfigError(f"{where}: key {name!r} is there twice")
            flat[name] = value
        elif isinstance(value, dict):
            _collect(value, inner, f"{name}.", where, flat)
        else:
            raise ConfigError(f"{where}: key {name!r} is a group: name a setting inside of it")


def _grid(table: Any, where: str) -> dict[str, list[Any]]:
    grid = _settings(table, f"{where}: [grid]")
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise ConfigError(f"{where}: [grid]: key {key!r} must be a list of values")
        if len({canonical(value) for value in values}) < len(values):
            raise ConfigError(f"{where}: [grid]: key {key!r} holds a value twice")
    count = math.prod(len(values) for values in grid.values())
    if count > MAX_TRIALS:
        raise ConfigError(f"{where}: [grid] asks for {count:,} trials, more than {MAX_TRIALS:,}")
    return grid


def _list(data: Mapping[str, Any], where: str) -> list[tuple[str | None, Flat]]:
    """The [[list]] entries: the name that each gives itself, and its settings."""
    entries = data.get("list", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError(f"{where}: key 'list' must be tables: begin each with [[list]]")
    named = []
    for number, entry in enumerate(entries, start=1):
        here = f"{where}: [[list]] {number}"
        name = entry.get("name")
        if name is not None and (not isinstance(name, str) or not _NAME.fullmatch(name)):
            raise ConfigError(f"{here}: key 'name' must be letters, digits, _, + and -")
        if name is not None and _TAKEN.fullmatch(name):
            raise ConfigError(f"{here}: the name {name!r} is taken")
        named.append((name, _settings({k: v for k, v in entry.items() if k != "name"}, here)))
    return named


def _trials(
    base: Flat, grid: Mapping[str, list[Any]], listed: Sequence[tuple[str | None, Flat]], where: str
) -> list[Trial]:
    """All combinations of the grid, the last key moving fastest, and then the listed ones."""
    combinations = [dict(zip(grid, c, strict=True)) for c in itertools.product(*grid.values())]
    entries = [entry for _, entry in listed]
    own = (combinations if grid else []) + entries
    if len(own) > MAX_TRIALS:
        raise ConfigError(f"{where} asks for {len(own):,} trials, more than {MAX_TRIALS:,}")
    whole = [base | settings for settings in own]
    keys = find_varying(whole)
    chosen = [None] * (len(own) - len(listed)) + [name for name, _ in listed]
    made = name_trials(combinations if grid else [], entries)
    names = [name or other for name, other in zip(chosen, made, strict=True)]
    seen: dict[str, str] = {}
    for name, settings in zip(names, whole, strict=True):
        same = seen.get(canonical(settings))
        if same is not None:
            raise ConfigError(f"{where}: trials {same} and {name} are the same: drop one")
        seen[canonical(settings)] = name
    twice = sorted(name for name in names if names.count(name) > 1)
    if twice:
        raise ConfigError(f"{where}: two trials are named {twice[0]!r}: rename one")
    return [
        Trial(name, {k: v for k, v in settings.items() if k in keys}, nest(settings))
        for name, settings in zip(names, whole, strict=True)
    ]


def _search(table: Any, where: str) -> Search:
    values = _table(table, where, "search")
    named = _settings(values.get("fields", {}), f"{where}: [search.fields]")
    here = f"{where}: [search.fields]"
    fields = {name: _field(space, f"{here}: key {name!r}") for name, space in named.items()}
    return check_settings(Search, {**values, "fields": fields}, f"{where}: [search]")


def _field(space: Any, where: str) -> Range | tuple[Choice, ...]:
    """Where one setting is looked for."""
    if isinstance(space, dict):
        return check_settings(Range, space, where)
    if not isinstance(space, list) or len(space) < 2:
        raise ConfigError(f"{where} must be {{low = …, high = …}} or a list of choices")
    if not all(isinstance(choice, bool | int | float | str) for choice in space):
        raise ConfigError(f"{where}: choices are numbers, words, true or false")
    if len({canonical(choice) for choice in space}) < len(space):
        raise ConfigError(f"{where} holds a choice twice")
    return tuple(space)

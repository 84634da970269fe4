"""Names of trials: readable, unique, the same each time the file is read."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

LONGEST = 100  # characters; file systems allow 255 bytes

_ONLY = "trial"  # of a sweep in which nothing varies


def name_trials(
    grid: Sequence[Mapping[str, Any]], listed: Sequence[Mapping[str, Any]] = ()
) -> list[str]:
    """A name per trial: aggregate-rmse_seed-0.

    Args:
        grid: dotted settings of each combination, named by those in which they differ.
        listed: dotted settings of each further trial, named by its own that not all of these share.
    """
    names: list[str] = []
    for trials in (grid, listed):
        keys = find_varying(trials)
        labels = dict(zip(keys, shortest(keys), strict=True))
        for trial in trials:
            name = _name({labels[k]: trial[k] for k in keys if k in trial})
            names.append(_unique(name, {taken.lower() for taken in names}))
    return names


def name_sample(values: Mapping[str, Any]) -> str:
    """The name of a trial that a search chose: its values, and a hash of them to the last digit."""
    keys = sorted(values)  # the order in which a search tells them is its own
    rounded = {
        label: float(f"{values[key]:.3g}") if isinstance(values[key], float) else values[key]
        for label, key in zip(shortest(keys), keys, strict=True)
    }
    return f"{_name(rounded)}_{_hash(values)[:6]}"


def find_varying(trials: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings in which the trials differ, in the order in which they come."""
    keys = dict.fromkeys(key for trial in trials for key in trial)
    return [k for k in keys if len({canonical(t[k]) if k in t else "" for t in trials}) > 1]


def shortest(keys: Sequence[str]) -> list[str]:
    """Each dotted key by as few of its last parts as tell it from the others."""
    return [_shortest(key, [other for other in keys if other != key]) for key in keys]


def _shortest(key: str, others: Sequence[str]) -> str:
    parts = key.split(".")
    for count in range(1, len(parts)):
        tail = ".".join(parts[-count:])
        if not any(f".{other}".endswith(f".{tail}") for other in others):
            return tail
    return key


def _name(values: Mapping[str, Any]) -> str:
    parts = [f"{label.replace('_', '-')}-{_slug(value)}" for label, value in values.items()]
    name = "_".join(parts) or _ONLY
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 9]}-{_hash(values)[:8]}"


def _slug(value: Any) -> str:
    """A value as part of a file name; of a path or a hub id only the last part."""
    match value:
        case bool():
            return str(value).lower()
        case list() | tuple():
            return "+".join(map(_slug, value)) or "none"
        case str():
            last = value.rstrip("/").rpartition("/")[2]
            text = re.sub(r"\.(toml|gguf)$", "", last)
        case _:
            text = str(value)
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", text).strip(".") or "empty"


def _unique(name: str, taken: set[str]) -> str:
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(candidate for candidate in names if candidate.lower() not in taken)


def canonical(value: Any) -> str:
    """A value as text that is the same for equal values."""
    return json.dumps(value, sort_keys=True, default=str)


def _hash(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(dict(values)).encode()).hexdigest()

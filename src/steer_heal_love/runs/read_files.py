"""Single files of a run or an export, checked as they are read: a stranger may have made them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from steer_heal_love.errors import RunError
from steer_heal_love.records import Answer, Direction
from steer_heal_love.runs.files import read_regular
from steer_heal_love.runs.manifest import SCHEMA

MAX_JSON_BYTES = 1 << 28

# What other code relies on in a JSON file of a run; more may stand in it.
_Items = dict[str, dict[str, list[float | None]]]


class _RoundEntry(BaseModel):
    round: int = Field(ge=0, lt=1_000_000)


class _MetricsFile(BaseModel):
    schema_: int = Field(SCHEMA, alias="schema")
    rounds: list[_RoundEntry] = []


class _RoundFile(BaseModel):
    items: _Items = {}
    validation: list[dict[str, Any]] = []


ITEMS = TypeAdapter(_Items)
METRICS = TypeAdapter(_MetricsFile)
ROUND = TypeAdapter(_RoundFile)
_ANSWER = TypeAdapter(Answer)


def read_object(path: Path, form: Any) -> dict[str, Any]:
    """A JSON object of this form; {} where the file is missing. Raises RunError: it is broken."""
    data = read_limited(path)
    if not data and not path.exists():
        return {}
    try:
        content = json.loads(data)
        form.validate_json(data, strict=True)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "the file"
        raise RunError(f"file {path} is broken: {where}: {problem['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise RunError(f"file {path} is broken: it is no JSON ({error})") from None
    return dict(content)


def read_answers(path: Path) -> list[Answer]:
    """Answers, one a line; [] where the file is missing. Raises RunError where one is broken."""
    try:
        return [_answer(row) for row in read_lines(path)]
    except (KeyError, TypeError, ValidationError):
        raise RunError(f"{path} is broken: a line of it is no answer") from None


def _answer(row: dict[str, Any]) -> Answer:
    surprises = [math.inf if v is None else v for v in row["surprise_nats"]]
    return _ANSWER.validate_python({**row, "surprise_nats": surprises})


def read_lines(path: Path, *, torn_ok: bool = False) -> list[dict[str, Any]]:
    """JSON objects, one a line; [] where the file is missing.

    Raises:
        RunError: a line is broken (where `torn_ok`, lines that a kill tore are left out).
    """
    rows = []
    for number, line in enumerate(read_limited(path).split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("no object")
            rows.append(row)
        except (ValueError, RecursionError):
            if not torn_ok:
                raise RunError(f"{path}, line {number} is broken: it is no JSON object") from None
    return rows


def read_limited(path: Path, limit: int | None = None) -> bytes:
    """The bytes of a file; none where it is missing. Raises RunError where it is far too large."""
    limit = MAX_JSON_BYTES if limit is None else limit
    try:
        data = read_regular(path, limit)
    except OSError:
        return b""
    if len(data) > limit:
        raise RunError(f"file {path} is larger than {limit:,} bytes: it is not read")
    return data


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object of a file; {} where it is missing or broken. Raises RunError: too large."""
    try:
        value = json.loads(read_limited(path))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def read_direction(path: Path) -> Direction:
    """A direction from its file.

    Raises:
        RunError: missing or broken.
    """
    try:
        tensors = safetensors.torch.load(read_regular(path))
        if any(t.ndim != 1 or not t.isfinite().all() for t in tensors.values()):
            raise ValueError("not one finite vector per layer")
        by_layer = {int(name.removeprefix("layer.")): t for name, t in tensors.items()}
        layers = tuple(sorted(by_layer))
        return Direction(layers, torch.stack([by_layer[i] for i in layers]))
    except (OSError, ValueError, KeyError, RuntimeError, safetensors.SafetensorError) as error:
        raise RunError(f"direction {path} is missing or broken: {error}") from None

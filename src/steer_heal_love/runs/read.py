"""A run directory as it is read: every file checked, whatever is missing empty."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from torch import Tensor

from steer_heal_love.errors import RunError
from steer_heal_love.inputs.axes import load_axis
from steer_heal_love.inputs.toml_text import MAX_CONFIG_BYTES, parse_toml
from steer_heal_love.records import Adapter, Answer, Axis, Direction
from steer_heal_love.runs.files import read_regular
from steer_heal_love.runs.manifest import schema_of
from steer_heal_love.runs.migrations import SCHEMA, known_schema, migrate, refuse_newer

MAX_JSON_BYTES = 1 << 28


@dataclass(frozen=True)
class RunView:
    """A run directory as it is read: whatever is missing is empty."""

    path: Path
    metrics: dict[str, Any]
    config: dict[str, Any]
    axis: Axis

    def answers(self, round_index: int | None) -> list[Answer]:
        """Answers of the evaluation of a round; None: of the baseline."""
        folder = "baseline" if round_index is None else f"rounds/{round_index:02d}"
        file = self.path / folder / "answers.jsonl"
        return [_answer(row, file) for row in read_lines(file)]

    def items(self, round_index: int | None = None) -> dict[str, dict[str, list[float | None]]]:
        """Values per item and instrument: of the baseline's conditions and a round's.

        Args:
            round_index: the round; None: the last.
        """
        found = _read_object(self.path / "baseline/metrics.json", _ITEMS)
        rounds = self.metrics.get("rounds", [])
        if round_index is None and rounds:
            round_index = rounds[-1]["round"]
        if round_index is not None:
            found |= read_round(self.path, round_index).get("items", {})
        return found

    def completions(self, round_index: int) -> list[dict[str, Any]]:
        """Every completion of a round with its scores and its fate."""
        return read_lines(self.path / f"rounds/{round_index:02d}" / "completions.jsonl")

    def heal_steps(self, round_index: int) -> list[dict[str, Any]]:
        """The heal's curve."""
        return read_lines(self.path / f"rounds/{round_index:02d}" / "heal.jsonl")

    def validation(self, round_index: int) -> list[dict[str, Any]]:
        """The heal's losses on held-out texts: before it, and after each epoch."""
        found: list[dict[str, Any]] = read_round(self.path, round_index).get("validation", [])
        return found

    def events(self) -> list[dict[str, Any]]:
        """The log of the run; a torn last line is left out."""
        return read_lines(self.path / "events.jsonl", torn_ok=True)

    def adapter(self, round_index: int) -> Adapter:
        """The LoRA that a round healed."""
        return read_adapter(self.path / f"rounds/{round_index:02d}" / "adapter")

    def direction(self, round_index: int) -> Direction:
        """The direction that a round steered along."""
        return read_direction(self.path / f"rounds/{round_index:02d}" / "direction.safetensors")


def read_run(path: Path) -> RunView:
    """Open a run directory to read it.

    Raises:
        RunError: it is no run directory, one of a newer schema, or its metrics are broken.

    Examples:
        >>> from pathlib import Path
        >>> import steer_heal_love as shl
        >>> run = shl.read_run(Path("runs/demo"))
        >>> traits = [entry["healed"]["trait_nats"] for entry in run.metrics["rounds"]]
        >>> len(traits) == len(run.metrics["rounds"])
        True
    """
    config, axis = read_foundations(path)
    return RunView(path, read_metrics(path), config, axis)


def read_metrics(path: Path) -> dict[str, Any]:
    """The run's `metrics.json`; {} where it is missing.

    Raises:
        RunError: it is broken, or of a newer schema.
    """
    metrics = _read_object(path / "metrics.json", _METRICS)
    refuse_newer(metrics.get("schema"), path)
    return migrate("metrics.json", metrics, known_schema(metrics.get("schema")) or SCHEMA)


def read_round(path: Path, round_index: int) -> dict[str, Any]:
    """The `metrics.json` of a round, with its items; {} where it is missing.

    Raises:
        RunError: it is broken.
    """
    return _read_object(path / f"rounds/{round_index:02d}" / "metrics.json", _ROUND_FILE)


def read_foundations(path: Path) -> tuple[dict[str, Any], Axis]:
    """The settings, as plain data, and the axis that a run was begun with.

    Raises:
        RunError: it is no run directory, or one of the two files is broken.
    """
    if not (path / "config.toml").is_file():
        raise RunError(f"{path} is not a run directory (no config.toml): check the path")
    return read_config(path), load_axis(str(path / "axis.toml"))


def read_config(path: Path) -> dict[str, Any]:
    """The settings of a run; {} where they are missing.

    Raises:
        RunError: they are broken, or of a newer schema.
    """
    schema = _schema_of(path)
    try:
        text = _read_limited(path / "config.toml", MAX_CONFIG_BYTES).decode("utf-8")
        config = parse_toml(text)
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"run {path}: config.toml is broken: {error}") from None
    return migrate("config.toml", config, schema)


def _schema_of(path: Path) -> int:
    """The schema of a run: its manifest's or its metrics', else the oldest (steps do no harm)."""
    found = read_json(path / "metrics.json")
    of_metrics = found.get("schema") if isinstance(found, dict) else None
    refuse_newer(of_metrics, path)
    return schema_of(path) or known_schema(of_metrics) or 1


def read_adapter(folder: Path) -> Adapter:
    """A PEFT LoRA adapter from its folder; safetensors only.

    Raises:
        RunError: files are missing or broken.
    """
    weights = folder / "adapter_model.safetensors"
    config = read_json(folder / "adapter_config.json")
    if not weights.is_file() or not isinstance(config, dict):
        raise RunError(
            f"{folder} is not an adapter folder: it needs adapter_model.safetensors and "
            "adapter_config.json (pickled adapters are refused)"
        )
    try:
        tensors = safetensors.torch.load(read_regular(weights))
    except (OSError, ValueError, KeyError, RuntimeError, safetensors.SafetensorError) as error:
        raise RunError(f"adapter {weights} is broken: {error}") from None
    problem = _adapter_problem(tensors, config)
    if problem:
        raise RunError(f"adapter {folder} is broken: {problem}")
    return Adapter(tensors, config)


def _adapter_problem(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> str | None:
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if type(rank) is not int or rank < 1:
        return f"its rank r is {str(rank)[:40]!r}"
    if type(alpha) not in (int, float) or not math.isfinite(alpha):  # type: ignore[arg-type]
        return f"its lora_alpha is {str(alpha)[:40]!r}"
    for name, tensor in tensors.items():
        axis = 0 if ".lora_A." in name else 1
        if tensor.ndim != 2 or tensor.shape[axis] != rank or not tensor.is_floating_point():
            return f"tensor {name!r} of shape {tuple(tensor.shape)} is no factor of rank {rank}"
        if not tensor.isfinite().all():
            return f"tensor {name!r} holds NaN or infinity"
    return None


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
    except (
        OSError,
        ValueError,
        KeyError,
        RuntimeError,
        safetensors.SafetensorError,
    ) as error:
        raise RunError(f"direction {path} is missing or broken: {error}") from None


def read_lines(path: Path, *, torn_ok: bool = False) -> list[dict[str, Any]]:
    """JSON objects, one a line; [] where the file is missing.

    Raises:
        RunError: a line is broken (where `torn_ok`, lines that a kill tore are left out).
    """
    rows = []
    for number, line in enumerate(_read_limited(path).split(b"\n"), 1):
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


def _read_limited(path: Path, limit: int | None = None) -> bytes:
    """The bytes of a file; none where it is missing. Raises RunError where it is far too large."""
    limit = MAX_JSON_BYTES if limit is None else limit
    try:
        data = read_regular(path, limit)
    except OSError:
        return b""
    if len(data) > limit:
        raise RunError(f"file {path} is larger than {limit:,} bytes: it is not read")
    return data


def read_json(path: Path) -> Any:
    """The JSON value of a file; None where it is missing, too large or broken."""
    try:
        return json.loads(_read_limited(path))
    except (ValueError, RecursionError):
        return None


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


_ITEMS = TypeAdapter(_Items)
_METRICS = TypeAdapter(_MetricsFile)
_ROUND_FILE = TypeAdapter(_RoundFile)
_ANSWER = TypeAdapter(Answer)


def _read_object(path: Path, kind: Any) -> dict[str, Any]:
    """A JSON object of this form; {} where the file is missing. Raises RunError: it is broken."""
    data = _read_limited(path)
    if not data and not path.exists():
        return {}
    try:
        found = json.loads(data)
        kind.validate_json(data, strict=True)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "the file"
        raise RunError(f"file {path} is broken: {where}: {problem['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise RunError(f"file {path} is broken: it is no JSON ({error})") from None
    return dict(found)


def _answer(row: dict[str, Any], path: Path) -> Answer:
    try:
        surprises = [math.inf if v is None else v for v in row["surprise_nats"]]
        return _ANSWER.validate_python({**row, "surprise_nats": surprises})
    except (KeyError, TypeError, ValidationError):
        raise RunError(f"{path} is broken: a line of it is no answer") from None

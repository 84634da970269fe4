"""The run directory: the only code that writes it or reads it."""

from __future__ import annotations

import fcntl
import json
import math
import os
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import safetensors.torch
import tomli_w

from steer_heal_love.axes import axis_to_toml_data, parse_axis
from steer_heal_love.codec import pack, unpack
from steer_heal_love.errors import RunError
from steer_heal_love.files import (
    append_line,
    explain,
    remove_partials,
    remove_tree,
    sha256,
    write_bytes,
    write_text,
)
from steer_heal_love.records import (
    Adapter,
    Answer,
    Axis,
    Baseline,
    Direction,
    Judged,
    Measurement,
    RoundRecord,
)

SCHEMA = 1

T = TypeVar("T")

__all__ = ["SCHEMA", "RunDirectory", "RunView", "read_run", "write_bytes", "write_text"]


class RunDirectory:
    """A run that is being written. Every write is atomic and entered in `manifest.json`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._manifest: dict[str, dict[str, Any]] = _read_manifest(path)

    @classmethod
    def create(
        cls, path: Path, config: Mapping[str, Any], axis: Axis, environment: Mapping[str, Any]
    ) -> RunDirectory:
        """A new run directory with its configuration.

        Raises:
            RunError: the path exists already, or cannot be written; nothing is left behind.
        """
        if path.exists():
            raise RunError(
                f"out folder {path} exists already: choose another --out, or go on with that run "
                f"by `shl resume {path}`"
            )
        above = [p for p in path.parents if not p.exists()]
        try:
            path.mkdir(parents=True)
            run = cls(path)
            run.write_config(config)
            run.write_text("axis.toml", tomli_w.dumps(axis_to_toml_data(axis)))
            run.write_json("environment.json", environment)
        except (OSError, RunError) as error:
            remove_tree(path)
            for folder in above:
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()
            raise error if isinstance(error, RunError) else RunError(explain(error, path)) from None
        return run

    # Writing

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write a file of the run and enter its size and hash in the manifest."""
        write_bytes(self.path / name, data)
        self._manifest[name] = {"bytes": len(data), "sha256": sha256(data)}
        self._write_manifest()

    def write_text(self, name: str, text: str) -> None:
        """As `write_bytes`, in UTF-8."""
        self.write_bytes(name, text.encode("utf-8", errors="replace"))

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the settings as `config.toml`."""
        self.write_text("config.toml", tomli_w.dumps(_without_none(config)))

    def write_json(self, name: str, value: Any) -> None:
        """As `write_text`, JSON; NaN and infinities become null."""
        self.write_text(name, json.dumps(_finite(value), indent=1, ensure_ascii=False) + "\n")

    def write_lines(self, name: str, rows: Sequence[Any]) -> None:
        """As `write_text`, one JSON value a line."""
        text = "".join(json.dumps(_finite(row), ensure_ascii=False) + "\n" for row in rows)
        self.write_text(name, text)

    def event(self, name: str, /, **fields: Any) -> None:
        """Append a line to `events.jsonl`."""
        line = {"time": time.time(), "event": name, **fields}
        append_line(self.path / "events.jsonl", json.dumps(_finite(line), ensure_ascii=False))

    def _write_manifest(self) -> None:
        content = {"schema": SCHEMA, "files": dict(sorted(self._manifest.items()))}
        write_text(self.path / "manifest.json", json.dumps(content, indent=1) + "\n")

    def record_baseline(self, baseline: Baseline, head: Mapping[str, Any]) -> None:
        """Write the baseline's answers and the first `metrics.json`."""
        measured = asdict_shallow(baseline)
        self.write_lines("baseline/answers.jsonl", _answers(measured.values()))
        self.write_json("baseline/metrics.json", {k: _items(m) for k, m in measured.items()})
        top = {"schema": SCHEMA, **head, **{k: _figures(m) for k, m in measured.items()}}
        # A resumed run passes here again: what its rounds found stays on view meanwhile.
        self.write_json("metrics.json", {**top, "rounds": self.metrics().get("rounds", [])})

    def record_round(self, record: RoundRecord) -> None:
        """Write everything that a round found, `metrics.json` last."""
        folder = f"rounds/{record.round:02d}"
        self.write_bytes(f"{folder}/direction.safetensors", pack_direction(record.direction))
        self.write_lines(f"{folder}/completions.jsonl", [_completion(j) for j in record.judged])
        self._write_adapter(f"{folder}/adapter", record.healed_result.adapter)
        self.write_lines(f"{folder}/heal.jsonl", [asdict(s) for s in record.healed_result.steps])
        measured = {"steered": record.steered, "healed": record.healed}
        self.write_lines(f"{folder}/answers.jsonl", _answers(measured.values()))
        figures = _round_figures(record)
        self.write_json(
            f"{folder}/metrics.json",
            {
                **figures,
                "validation": list(record.healed_result.validation),
                "items": {k: _items(m) for k, m in measured.items()},
                "front_items": [_items(m) for _, m in record.front],
            },
        )
        metrics = self.metrics()
        rounds = {r["round"]: r for r in metrics["rounds"]} | {record.round: figures}
        self.write_json("metrics.json", {**metrics, "rounds": [rounds[r] for r in sorted(rounds)]})

    def record_verdicts(self, verdicts: Mapping[str, Any]) -> None:
        """Enter the verdicts so far in `metrics.json`."""
        self.write_json("metrics.json", {**self.metrics(), "verdicts": verdicts})

    def _write_adapter(self, folder: str, adapter: Adapter) -> None:
        weights = safetensors.torch.save(dict(adapter.tensors), {"format": "pt"})
        self.write_bytes(f"{folder}/adapter_model.safetensors", weights)
        self.write_json(f"{folder}/adapter_config.json", adapter.config)

    def metrics(self) -> dict[str, Any]:
        """The present `metrics.json`."""
        found = _read_json(self.path / "metrics.json")
        return found if isinstance(found, dict) else {}

    # Pieces of work

    def do(self, name: str, compute: Callable[[], T]) -> T:
        """The stored piece of this name, if it is sound; else compute it and store it."""
        file = f"work/{name}.safetensors"
        known = self._manifest.get(file)
        path = self.path / file
        if known is not None and path.is_file():
            data = path.read_bytes()
            if len(data) == known["bytes"] and sha256(data) == known["sha256"]:
                return cast("T", unpack(data, file))
            self.event("broken-piece", file=file)
        value = compute()
        data = pack(value)
        self.write_bytes(file, data)
        # What was computed and what a resumed run would read are one and the same.
        return cast("T", unpack(data, file))

    def forget(self, prefix: str) -> None:
        """Delete the stored pieces whose names begin so: what came of them is stored elsewhere."""
        start = f"work/{prefix}"
        gone = [name for name in self._manifest if name.startswith(start)]
        if not gone:
            return
        for name in gone:
            del self._manifest[name]
        self._write_manifest()
        for name in gone:
            (self.path / name).unlink(missing_ok=True)

    # Checking

    @property
    def file_count(self) -> int:
        """Files in the manifest."""
        return len(self._manifest)

    def problems(self) -> list[str]:
        """One line per file of the manifest that is missing or is not as it was written."""
        found = []
        if not self._manifest:
            found.append("manifest.json: missing or broken")
        for name, known in self._manifest.items():
            try:
                data = (self.path / name).read_bytes()
            except OSError:
                found.append(f"{name}: missing")
                continue
            if len(data) != known["bytes"]:
                found.append(f"{name}: {len(data)} bytes where {known['bytes']} were written")
            elif sha256(data) != known["sha256"]:
                found.append(f"{name}: its bytes have changed since they were written")
        return found

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process alone; a process that dies lets it go.

        Raises:
            RunError: another process holds it.
        """
        with (self.path / "lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read(32).strip() or "unknown"
                raise RunError(
                    f"run {self.path} is in use by process {holder}: wait for it or stop it"
                ) from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            remove_partials(self.path)
            yield


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
        return [_answer(row) for row in read_lines(self.path / folder / "answers.jsonl")]

    def items(self) -> dict[str, dict[str, list[float | None]]]:
        """Values per item and instrument: of the baseline's conditions and the last round's."""
        found = _read_json(self.path / "baseline/metrics.json") or {}
        rounds = self.metrics.get("rounds", [])
        if rounds:
            file = self.path / f"rounds/{rounds[-1]['round']:02d}" / "metrics.json"
            found = {**found, **((_read_json(file) or {}).get("items", {}))}
        return dict(found)

    def completions(self, round_index: int) -> list[dict[str, Any]]:
        """Every completion of a round with its scores and its fate."""
        return read_lines(self.path / f"rounds/{round_index:02d}" / "completions.jsonl")

    def heal_steps(self, round_index: int) -> list[dict[str, Any]]:
        """The heal's curve."""
        return read_lines(self.path / f"rounds/{round_index:02d}" / "heal.jsonl")

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
        RunError: it is no run directory, or one of a newer schema.
    """
    if not (path / "config.toml").is_file():
        raise RunError(f"{path} is not a run directory (no config.toml): check the path")
    metrics = _read_json(path / "metrics.json") or {}
    if metrics.get("schema", SCHEMA) > SCHEMA:
        raise RunError(
            f"run {path} was written by a newer version (schema {metrics['schema']}, this one "
            f"reads up to {SCHEMA}): upgrade steer-heal-love"
        )
    try:
        config = tomllib.loads((path / "config.toml").read_text(encoding="utf-8"))
        axis = parse_axis((path / "axis.toml").read_text(encoding="utf-8"), str(path / "axis.toml"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RunError(f"run {path}: config.toml or axis.toml is broken: {error}") from None
    return RunView(path, metrics, config, axis)


def read_adapter(folder: Path) -> Adapter:
    """A PEFT LoRA adapter from its folder; safetensors only.

    Raises:
        RunError: files are missing or broken.
    """
    weights = folder / "adapter_model.safetensors"
    config = _read_json(folder / "adapter_config.json")
    if not weights.is_file() or not isinstance(config, dict):
        raise RunError(
            f"{folder} is not an adapter folder: it needs adapter_model.safetensors and "
            "adapter_config.json (pickled adapters are refused)"
        )
    try:
        return Adapter(safetensors.torch.load(weights.read_bytes()), config)
    except (OSError, safetensors.SafetensorError) as error:
        raise RunError(f"adapter {weights} is broken: {error}") from None


def pack_direction(direction: Direction) -> bytes:
    """safetensors with one tensor `layer.<index>` [d] per layer of the band, float32."""
    tensors = {
        f"layer.{layer}": vector.contiguous().clone()
        for layer, vector in zip(direction.layers, direction.vectors, strict=True)
    }
    return bytes(safetensors.torch.save(tensors, {"format": "steer-heal-love direction"}))


def read_direction(path: Path) -> Direction:
    """A direction from its file.

    Raises:
        RunError: missing or broken.
    """
    import torch

    try:
        tensors = safetensors.torch.load(path.read_bytes())
        by_layer = {int(name.removeprefix("layer.")): t for name, t in tensors.items()}
        layers = tuple(sorted(by_layer))
        return Direction(layers, torch.stack([by_layer[i] for i in layers]))
    except (OSError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        raise RunError(f"direction {path} is missing or broken: {error}") from None


def read_lines(path: Path, *, torn_ok: bool = False) -> list[dict[str, Any]]:
    """JSON objects, one a line; [] where the file is missing.

    Raises:
        RunError: a line is broken (the last one may be torn where `torn_ok`).
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:
        return []
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            if torn_ok:
                continue
            raise RunError(f"{path}, line {number} is not JSON: the file is broken") from None
        if isinstance(row, dict):
            rows.append(row)
    return rows


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def _read_manifest(path: Path) -> dict[str, dict[str, Any]]:
    found = _read_json(path / "manifest.json")
    files = found.get("files", {}) if isinstance(found, dict) else {}
    return dict(files) if isinstance(files, dict) else {}


def _answer(row: dict[str, Any]) -> Answer:
    tuples = {k: tuple(row[k]) for k in ("tokens", "surprise_nats", "reasons")}
    return Answer(**{**row, **tuples})


def asdict_shallow(record: Baseline) -> dict[str, Measurement]:
    """The baseline's measurements by condition."""
    return {"base": record.base, "prompt_pos": record.prompt_pos, "prompt_neg": record.prompt_neg}


def _figures(m: Measurement) -> dict[str, Any]:
    values = {name: interval.value for name, interval in m.figures.items()}
    return {**values, "intervals": {k: [i.low, i.high] for k, i in m.figures.items()}}


def _items(m: Measurement) -> dict[str, list[float | None]]:
    return {name: list(values) for name, values in m.items.items()}


def _answers(measured: Any) -> list[dict[str, Any]]:
    return [asdict(answer) for m in measured for answer in m.answers]


def _completion(judged: Judged) -> dict[str, Any]:
    return {**asdict(judged), "kept": judged.kept}


def _round_figures(record: RoundRecord) -> dict[str, Any]:
    last = record.healed_result.steps[-max(1, len(record.healed_result.steps) // 4) :]
    n = len(last)
    return {
        "round": record.round,
        "dose": record.dose,
        "kept": record.kept,
        "total": record.total,
        "cosine_first": record.cosine_first,
        "heal": {
            "nll": sum(s.nll for s in last) / n,
            "divergence": sum(s.divergence_mean for s in last) / n,
            "over_tau": sum(s.over_tau for s in last) / n,
        },
        "steered": _figures(record.steered),
        "healed": _figures(record.healed),
        "front": [{"dose": kappa, **_figures(m)} for kappa, m in record.front],
        "shift": _figures(record.shift) if record.shift is not None else None,
        "wall_s": {k: round(v, 3) for k, v in record.wall_s.items()},
        "stopped": record.stopped,
    }


def _finite(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(k): _finite(v) for k, v in value.items()}
        case list() | tuple():
            return [_finite(v) for v in value]
        case _:
            return value


def _without_none(value: Any) -> Any:
    """TOML has no null: a key that is not set is left out."""
    if isinstance(value, Mapping):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_without_none(v) for v in value]
    return value

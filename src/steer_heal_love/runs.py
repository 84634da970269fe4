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
import torch
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from torch import Tensor

from steer_heal_love.axes import axis_to_toml_data, load_axis
from steer_heal_love.codec import pack, unpack
from steer_heal_love.errors import RunError, RunInUse
from steer_heal_love.files import (
    append_line,
    explain,
    remove_partials,
    remove_tree,
    rename_folder,
    write_bytes,
    write_text,
)
from steer_heal_love.manifest import SCHEMA, Manifest
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

MAX_JSON_BYTES = 1 << 28
PAGES = ("diary.md", "figures/")  # the report's: written again by whoever asks for them

T = TypeVar("T")

__all__ = ["SCHEMA", "RunDirectory", "RunView", "read_run", "write_bytes", "write_text"]


class RunDirectory:
    """A run that is being written. Every write is atomic and entered in `manifest.json`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = Manifest.read(path)

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
        # Under another name until it is whole: a kill leaves no half of a run at `path`.
        partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
        try:
            remove_tree(partial)
            partial.mkdir(parents=True)
            run = cls(partial)
            run.write_config(config)
            run.write_text("axis.toml", tomli_w.dumps(axis_to_toml_data(axis)))
            run.write_json("environment.json", environment)
            rename_folder(partial, path)
        except BaseException as error:
            remove_tree(partial)
            for folder in above:
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()
            if isinstance(error, OSError):
                raise RunError(explain(error, path)) from None
            raise
        return cls(path)

    # Writing

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write a file of the run and enter its size and hash in the manifest."""
        self.manifest.expect(name, data)
        try:
            write_bytes(self.path / name, data)
        except RunError:
            self.manifest.restore(name)
            raise

    def write_text(self, name: str, text: str) -> None:
        """As `write_bytes`, in UTF-8."""
        self.write_bytes(name, text.encode("utf-8", errors="replace"))

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the settings as `config.toml`, unless they are there already."""
        text = tomli_w.dumps(_without_none(config))
        if self.manifest.read_sound("config.toml") != text.encode("utf-8", errors="replace"):
            self.write_text("config.toml", text)

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

    def record_baseline(self, baseline: Baseline, head: Mapping[str, Any]) -> None:
        """Write the baseline's answers and the first `metrics.json`."""
        measured = asdict_shallow(baseline)
        self.write_lines("baseline/answers.jsonl", _answers(measured.values()))
        self.write_json("baseline/metrics.json", {k: _items(m) for k, m in measured.items()})
        top = {"schema": SCHEMA, **head, **{k: _figures(m) for k, m in measured.items()}}
        # A resumed run passes here again: what its rounds found stays on view meanwhile.
        sound = self.manifest.read_sound("metrics.json") is not None
        rounds = self.metrics().get("rounds", []) if sound else []
        self.write_json("metrics.json", {**top, "rounds": rounds})

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
        stored = self.manifest.read_sound(file)
        if stored is not None:
            try:
                return cast("T", unpack(stored, file))
            except RunError as error:  # whole, but of another version of this package
                self.event("broken-piece", problem=str(error))
        elif problem := self.manifest.problem_of(file):
            self.event("broken-piece", problem=problem)
        value = compute()
        data = pack(value)
        self.write_bytes(file, data)
        # What was computed and what a resumed run would read are one and the same.
        return cast("T", unpack(data, file))

    def forget(self, prefix: str) -> None:
        """Delete the stored pieces whose names begin so: what came of them is stored elsewhere."""
        start = f"work/{prefix}"
        gone = [name for name in self.manifest.names if name.startswith(start)]
        self.manifest.drop(gone)
        for name in gone:
            (self.path / name).unlink(missing_ok=True)

    def release_pages(self) -> None:
        """Take diary and figures out of the manifest: they are about to be written again."""
        self.manifest.drop([n for n in self.manifest.names if n.startswith(PAGES)])

    def adopt_pages(self, files: Sequence[Path]) -> None:
        """Enter diary and figures in the manifest, and the log as it is now."""
        self.manifest.adopt(file.relative_to(self.path).as_posix() for file in files)

    # Checking

    @property
    def file_count(self) -> int:
        """Files in the manifest."""
        return len(self.manifest.names)

    def problems(self) -> list[str]:
        """One line per file that is missing or is not as it was written."""
        return self.manifest.problems()

    def check_foundations(self) -> None:
        """Raises RunError where the settings or the axis are not what the run was begun with."""
        for name in ("config.toml", "axis.toml"):
            problem = self.manifest.problem_of(name)
            if problem:
                raise RunError(
                    f"run {self.path}: {problem}: restore that file, or begin another run"
                )

    def environment(self) -> dict[str, Any]:
        """What the run was begun with; empty where that is not known for sure."""
        sound = self.manifest.read_sound("environment.json") is not None
        found = _read_json(self.path / "environment.json") if sound else None
        return found if isinstance(found, dict) else {}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process alone; a process that dies lets it go.

        Raises:
            RunInUse: another process holds it.
            RunError: it cannot be locked.
        """
        try:
            file = (self.path / "lock").open("a+")
        except OSError as error:
            raise RunError(explain(error, self.path / "lock")) from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read(32).strip()
                raise RunInUse(
                    f"run {self.path} is in use by process {holder if holder.isdigit() else '?'}: "
                    "wait for it or stop it"
                ) from None
            except OSError as error:
                raise RunError(f"run {self.path} cannot be locked: {error.strerror}") from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            self.manifest = Manifest.read(self.path)  # another process may have been at it
            remove_partials(self.path)
            if self.manifest.problem is None:
                self._sweep()
            yield

    def _sweep(self) -> None:
        """Delete the pieces that a process was killed over before it could enter or delete them."""
        known = set(self.manifest.names)
        for piece in (self.path / "work").rglob("*.safetensors"):
            if piece.relative_to(self.path).as_posix() not in known:
                piece.unlink(missing_ok=True)


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

    def items(self) -> dict[str, dict[str, list[float | None]]]:
        """Values per item and instrument: of the baseline's conditions and the last round's."""
        found = _read_object(self.path / "baseline/metrics.json", _ITEMS)
        rounds = self.metrics.get("rounds", [])
        if rounds:
            file = self.path / f"rounds/{rounds[-1]['round']:02d}" / "metrics.json"
            found |= _read_object(file, _ROUND_FILE).get("items", {})
        return found

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
        RunError: it is no run directory, one of a newer schema, or its metrics are broken.
    """
    config, axis = read_foundations(path)
    metrics = _read_object(path / "metrics.json", _METRICS)
    if metrics.get("schema", SCHEMA) > SCHEMA:
        raise RunError(
            f"run {path} was written by a newer version (schema {metrics['schema']}, this one "
            f"reads up to {SCHEMA}): upgrade steer-heal-love"
        )
    return RunView(path, metrics, config, axis)


def read_foundations(path: Path) -> tuple[dict[str, Any], Axis]:
    """The settings, as plain data, and the axis that a run was begun with.

    Raises:
        RunError: it is no run directory, or one of the two files is broken.
    """
    settings, axis = path / "config.toml", path / "axis.toml"
    if not settings.is_file():
        raise RunError(f"{path} is not a run directory (no config.toml): check the path")
    try:
        config = tomllib.loads(_read_limited(settings).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"run {path}: config.toml is broken: {error}") from None
    return config, load_axis(str(axis))


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
        tensors = safetensors.torch.load(weights.read_bytes())
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
    try:
        tensors = safetensors.torch.load(path.read_bytes())
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


def _read_limited(path: Path) -> bytes:
    """The bytes of a file; none where it is missing. Raises RunError where it is far too large."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_JSON_BYTES + 1)
    except OSError:
        return b""
    if len(data) > MAX_JSON_BYTES:
        raise RunError(f"file {path} is larger than {MAX_JSON_BYTES:,} bytes: it is not read")
    return data


def _read_json(path: Path) -> Any:
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

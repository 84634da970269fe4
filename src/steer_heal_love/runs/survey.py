"""What is left of a run directory: read all the same, with a word on each file that is missing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steer_heal_love.errors import RunError
from steer_heal_love.inputs.axes import load_axis
from steer_heal_love.records import Axis, Costed, Limits
from steer_heal_love.runs.codec import unpack
from steer_heal_love.runs.files import read_regular
from steer_heal_love.runs.manifest import Manifest
from steer_heal_love.runs.migrations import SCHEMA
from steer_heal_love.runs.read import (
    RunView,
    read_config,
    read_json,
    read_metrics,
    read_round,
)
from steer_heal_love.runs.write import PAGES

_LIMITS = "work/baseline/limits.safetensors"
_PIECES = "work/"

# Files of every run, of its baseline and of every round, with what is lost where one is missing.
_ALWAYS = {
    "config.toml": "the settings and the command that repeats the run are not known",
    "axis.toml": "the personas, the prompts and the foundations of the axis are not known",
    "environment.json": "versions, model identity and machine are not known",
    "manifest.json": "nothing can be checked against what was written",
    "events.jsonl": "when the run began, stopped or ended is not known",
}
_METRICS = {
    "metrics.json": "figures of the base model and of prompting, and the verdicts, are not known; "
    "those of the rounds are read from the folders of the rounds",
}
_BASELINE = {
    "baseline/answers.jsonl": "the diary has no answers of the base model",
    "baseline/metrics.json": "shifts have no paired intervals: nothing can be paired with base",
}
_ROUND = {
    "direction.safetensors": "the direction of round {} is lost: nobody can steer along it again",
    "completions.jsonl": "the filter explorer has nothing of round {}",
    "adapter/adapter_config.json": "the adapter of round {} cannot be loaded",
    "adapter/adapter_model.safetensors": "the adapter of round {} cannot be loaded",
    "heal.jsonl": "there is no heal curve of round {}",
    "answers.jsonl": "the diary has no answers of round {}",
    "metrics.json": "round {} has no values per item and no held-out losses",
}
_ROUND_FILE = re.compile(r"rounds/(\d+)/(.+)")


@dataclass(frozen=True)
class Missing:
    """A file that should be there, and what is lost without it."""

    name: str
    loss: str


@dataclass(frozen=True)
class Survey:
    """A run directory with all that can still be read of it."""

    view: RunView
    missing: tuple[Missing, ...]
    files: tuple[tuple[str, int], ...]  # names and bytes; the pieces of work as one line
    environment: Mapping[str, Any]
    limits: Limits | None  # of the filter, where the piece is there


def refuse_other_folders(path: Path) -> None:
    """Raise RunError where there is none of the files that only a run directory has."""
    known = [*_ALWAYS, *_METRICS]
    if not any((path / name).is_file() for name in known):
        raise RunError(f"{path} is not a run directory (none of {', '.join(known)}): check it")


def survey_run(path: Path) -> Survey:
    """Open a run directory in which any file may be missing.

    Raises:
        RunError: it is no run directory, a file in it is broken, or of a newer schema.
        AxisError: its axis is broken.
    """
    refuse_other_folders(path)
    config = read_config(path)
    file = path / "axis.toml"
    found = read_json(path / "environment.json")
    axis = load_axis(str(file)) if file.is_file() else None
    metrics = read_metrics(path) if (path / "metrics.json").is_file() else {}
    if not metrics:
        metrics = _metrics_of_rounds(path, config, axis)
    axis = axis or _unknown_axis(str(metrics.get("axis") or config.get("axis") or "unknown"))
    view = RunView(path, metrics, config, axis)
    return Survey(
        view=view,
        missing=tuple(_missing(path, metrics)),
        files=tuple(_files(path)),
        environment=found if isinstance(found, dict) else {},
        limits=_read_limits(path),
    )


def _unknown_axis(name: str) -> Axis:
    return Axis(name, "", "{persona}", "", "", (), ())


def _metrics_of_rounds(path: Path, config: Mapping[str, Any], axis: Axis | None) -> dict[str, Any]:
    """What the folders of the rounds know of a lost `metrics.json`; {} where there are none."""
    rounds = []
    for index in _round_folders(path):
        entry = read_round(path, index)
        plain = {k: v for k, v in entry.items() if k not in ("items", "validation", "front_items")}
        rounds.append({**plain, "round": index})
    if not rounds:
        return {}
    head = {"model": config.get("model"), "seed": config.get("seed")}
    return {"schema": SCHEMA, "axis": axis.name if axis else None, **head, "rounds": rounds}


def _round_folders(path: Path) -> list[int]:
    names = [folder.name for folder in (path / "rounds").glob("*") if folder.is_dir()]
    return sorted(int(name) for name in names if name.isdecimal())


def _missing(path: Path, metrics: Mapping[str, Any]) -> list[Missing]:
    manifest = Manifest.read(path)
    expected = dict.fromkeys([*_ALWAYS, *_expected(path, metrics), *sorted(manifest.names)])
    gone = [n for n in expected if not n.startswith(PAGES) and not (path / n).is_file()]
    pieces = [name for name in gone if name.startswith(_PIECES) and name != _LIMITS]
    found = [Missing(name, _loss(name)) for name in gone if name not in pieces]
    if pieces:
        what = pieces[0] if len(pieces) == 1 else f"{len(pieces)} pieces in work/"
        found.append(Missing(what, "`shl resume` computes it again"))
    return found


def _expected(path: Path, metrics: Mapping[str, Any]) -> list[str]:
    """The files that belong to what was measured."""
    rounds = [int(entry["round"]) for entry in metrics.get("rounds", ())]
    begun = bool(rounds) or (path / "baseline").is_dir()
    names = [*_METRICS, *_BASELINE] if begun else []
    return [*names, *(f"rounds/{r:02d}/{file}" for r in rounds for file in _ROUND)]


def _loss(name: str) -> str:
    if name == _LIMITS:
        return "the filter's limits are not known, so no completion can be told to be borderline"
    of_round = _ROUND_FILE.fullmatch(name)
    if of_round and of_round[2] in _ROUND:
        return _ROUND[of_round[2]].format(int(of_round[1]))
    return {**_ALWAYS, **_METRICS, **_BASELINE}.get(name, "it was part of the run")


def _files(path: Path) -> list[tuple[str, int]]:
    """Every file with its size, but the report's own, which are being written."""
    sizes: dict[str, int] = {}
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path).as_posix()
        if not file.is_file() or name.startswith(PAGES) or file.name.startswith("."):
            continue
        shown = "work/ (pieces, to resume from)" if name.startswith(_PIECES) else name
        sizes[shown] = sizes.get(shown, 0) + file.lstat().st_size
    return list(sizes.items())


def _read_limits(path: Path) -> Limits | None:
    try:
        found = unpack(read_regular(path / _LIMITS), _LIMITS)
    except (OSError, RunError):
        return None
    known = Costed.of(found).value
    return known if isinstance(known, Limits) else None

"""A run directory as it is read: what is missing is empty, and said to be missing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steer_heal_love.errors import RunError
from steer_heal_love.inputs.axes import load_axis
from steer_heal_love.inputs.toml_text import MAX_CONFIG_BYTES, parse_toml
from steer_heal_love.piece_names import LIMITS, WORK, of_round
from steer_heal_love.records import Adapter, Answer, Axis, Costed, Direction, Limits
from steer_heal_love.runs.codec import unpack
from steer_heal_love.runs.files import read_regular
from steer_heal_love.runs.manifest import NAME, PAGES, SCHEMA, Manifest, refuse_other_schema
from steer_heal_love.runs.read_adapter import read_adapter
from steer_heal_love.runs.read_files import (
    ITEMS,
    METRICS,
    ROUND,
    read_answers,
    read_direction,
    read_json,
    read_limited,
    read_lines,
    read_object,
)

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
class RunView:
    """A run directory as it is read: whatever is missing is empty."""

    path: Path
    metrics: dict[str, Any]
    config: dict[str, Any]
    axis: Axis

    def answers(self, round_index: int | None) -> list[Answer]:
        """Answers of the evaluation of a round; None: of the baseline."""
        folder = "baseline" if round_index is None else of_round(round_index)
        return read_answers(self.path / folder / "answers.jsonl")

    def items(self, round_index: int | None = None) -> dict[str, dict[str, list[float | None]]]:
        """Values per item and instrument: of the baseline's conditions and a round's.

        Args:
            round_index: the round; None: the last.
        """
        items = read_object(self.path / "baseline/metrics.json", ITEMS)
        rounds = self.metrics.get("rounds", [])
        if round_index is None and rounds:
            round_index = rounds[-1]["round"]
        if round_index is not None:
            items |= _read_round(self.path, round_index).get("items", {})
        return items

    def completions(self, round_index: int) -> list[dict[str, Any]]:
        """Every completion of a round with its scores and its fate."""
        return read_lines(self.path / of_round(round_index) / "completions.jsonl")

    def heal_steps(self, round_index: int) -> list[dict[str, Any]]:
        """The heal's curve."""
        return read_lines(self.path / of_round(round_index) / "heal.jsonl")

    def validation(self, round_index: int) -> list[dict[str, Any]]:
        """The heal's losses on held-out texts: before it, and after each epoch."""
        losses: list[dict[str, Any]] = _read_round(self.path, round_index).get("validation", [])
        return losses

    def events(self) -> list[dict[str, Any]]:
        """The log of the run; a torn last line is left out."""
        return read_lines(self.path / "events.jsonl", torn_ok=True)

    def adapter(self, round_index: int) -> Adapter:
        """The LoRA that a round healed."""
        return read_adapter(self.path / of_round(round_index) / "adapter")

    def direction(self, round_index: int) -> Direction:
        """The direction that a round steered along."""
        return read_direction(self.path / of_round(round_index) / "direction.safetensors")

    def environment(self) -> dict[str, Any]:
        """Versions, model identity and machine, as the run was begun."""
        return read_json(self.path / "environment.json")

    def limits(self) -> Limits | None:
        """The filter's limits; None where their piece of work is not there, or broken."""
        try:
            piece = unpack(read_regular(self.path / LIMITS.file), LIMITS.file)
        except (OSError, RunError):
            return None
        limits = piece.value if isinstance(piece, Costed) else None
        return limits if isinstance(limits, Limits) else None

    def files(self) -> list[tuple[str, int]]:
        """Every file with its bytes, the pieces of work as one line; none of the report's own."""
        sizes: dict[str, int] = {}
        for file in sorted(self.path.rglob("*")):
            name = file.relative_to(self.path).as_posix()
            if not file.is_file() or name.startswith(PAGES) or file.name.startswith("."):
                continue
            shown = f"{WORK} (pieces, to resume from)" if name.startswith(WORK) else name
            sizes[shown] = sizes.get(shown, 0) + file.lstat().st_size
        return list(sizes.items())

    def missing(self) -> list[Missing]:
        """The files that should be there, each with what is lost without it."""
        names = dict.fromkeys([*self._expected(), *sorted(Manifest.read(self.path).names)])
        gone = [n for n in names if not n.startswith(PAGES) and not (self.path / n).is_file()]
        pieces = [name for name in gone if name.startswith(WORK) and name != LIMITS.file]
        missing = [Missing(name, _loss(name)) for name in gone if name not in pieces]
        if pieces:
            name = pieces[0] if len(pieces) == 1 else f"{len(pieces)} pieces in {WORK}"
            missing.append(Missing(name, "`shl resume` computes it again"))
        return missing

    def _expected(self) -> list[str]:
        """The files of every run, and those that belong to what was measured."""
        rounds = [of_round(entry["round"]) for entry in self.metrics.get("rounds", ())]
        begun = bool(rounds) or (self.path / "baseline").is_dir()
        of_base = [*_METRICS, *_BASELINE] if begun else []
        return [*_ALWAYS, *of_base, *(r / file for r in rounds for file in _ROUND)]


def _loss(name: str) -> str:
    if name == LIMITS.file:
        return "the filter's limits are not known, so no completion can be told to be borderline"
    of_one = _ROUND_FILE.fullmatch(name)
    if of_one and of_one[2] in _ROUND:
        return _ROUND[of_one[2]].format(int(of_one[1]))
    return {**_ALWAYS, **_METRICS, **_BASELINE}.get(name, "it was part of the run")


def read_run(path: Path, *, damaged_ok: bool = False) -> RunView:
    """Open a run directory to read it.

    Args:
        damaged_ok: also one whose settings or axis are missing; `RunView.missing` says what is.

    Raises:
        RunError: it is no run directory, one of another schema, or a file in it is broken.
        AxisError: its axis is missing or broken.

    Examples:
        >>> from pathlib import Path
        >>> import steer_heal_love as shl
        >>> run = shl.read_run(Path("runs/demo"))
        >>> traits = [entry["healed"]["trait_nats"] for entry in run.metrics["rounds"]]
        >>> len(traits) == len(run.metrics["rounds"])
        True
    """
    known: Axis | None = None
    if not damaged_ok:
        config, known = read_foundations(path)
    else:
        refuse_other_folders(path)
        config = _read_config(path)
        if (path / "axis.toml").is_file():
            known = load_axis(str(path / "axis.toml"))
    metrics = read_object(path / "metrics.json", METRICS) or _metrics_of_rounds(path, config, known)
    name = metrics.get("axis") or config.get("axis") or "unknown"
    axis = known or Axis(str(name), "", "{persona}", "", "", (), ())
    return RunView(path, metrics, config, axis)


def refuse_other_folders(path: Path) -> None:
    """Raise RunError where there is none of the files that only a run directory has."""
    known = [*_ALWAYS, *_METRICS]
    if not any((path / name).is_file() for name in known):
        raise RunError(f"{path} is not a run directory (none of {', '.join(known)}): check it")


def read_foundations(path: Path) -> tuple[dict[str, Any], Axis]:
    """The settings, as plain data, and the axis that a run was begun with.

    Raises:
        RunError: it is no run directory, or one of the two files is broken.
    """
    if not (path / "config.toml").is_file():
        raise RunError(f"{path} is not a run directory (no config.toml): check the path")
    return _read_config(path), load_axis(str(path / "axis.toml"))


def _read_config(path: Path) -> dict[str, Any]:
    """The settings; {} where they are missing. Raises RunError: broken, or of another schema."""
    for file in ("metrics.json", NAME):
        refuse_other_schema(read_json(path / file).get("schema"), path)
    try:
        return parse_toml(read_limited(path / "config.toml", MAX_CONFIG_BYTES).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"run {path}: config.toml is broken: {error}") from None


def _read_round(path: Path, round_index: int) -> dict[str, Any]:
    """The `metrics.json` of a round, with its items. Raises RunError where it is broken."""
    return read_object(path / of_round(round_index) / "metrics.json", ROUND)


def _metrics_of_rounds(path: Path, config: Mapping[str, Any], axis: Axis | None) -> dict[str, Any]:
    """What the folders of the rounds know of a lost `metrics.json`; {} where there are none."""
    names = [folder.name for folder in (path / "rounds").glob("*") if folder.is_dir()]
    rounds = []
    for index in sorted(int(name) for name in names if name.isdecimal()):
        entry = _read_round(path, index)
        plain = {k: v for k, v in entry.items() if k not in ("items", "validation", "front_items")}
        rounds.append({**plain, "round": index})
    if not rounds:
        return {}
    head = {"model": config.get("model"), "seed": config.get("seed")}
    return {"schema": SCHEMA, "axis": axis.name if axis else None, **head, "rounds": rounds}
